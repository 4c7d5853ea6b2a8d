"""A small Xeno-canto: recordings in the true wording of API v3, their sound, and the service's answers to queries.

    truth = write(root, birds, seed=0)          root/recordings.json, root/<id>/download
    fake = FakeXenoCanto(root, key="k" * 20)    fake.answer("/api/3/recordings", {"query": ..., "key": ...}, base)

Every species has recordings that must not be taken; `truth` says which and why.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from birdmml.sources.inat_xc.wikipedia import SpeciesNames

FIRST_ID = 100_001
PATH = "/api/3/recordings"
LICENCES = ("by-nc-sa/4.0", "by-sa/4.0", "by/4.0", "by-nc/4.0")
RECORDISTS = ("Ana Costa", "Jørgen Dahl", "Mei Lin", "Tomás O&#039;Neill")
WITHOUT_KEY = {"error": "missing_parameter", "message": "No API key was given. See /explore/api."}
WRONG_KEY = {"error": {"code": "client_error", "message": "Missing or invalid 'key' parameter."}}
# What is wrong with the last recordings of each species: the field, its value, the reason of the reject.
DEFECTS: tuple[tuple[str, Any, str], ...] = (
    ("file", None, "restricted"),
    ("file", "restricted_species", "restricted"),
    ("lic", "//creativecommons.org/licenses/by-nc-nd/4.0/", "license"),
    ("lic", "//example.org/all-rights-reserved", "license"),
    ("rec", "", "no_author"),
    ("length", "soon", "bad_record"),
)
_TAG = re.compile(r'(\w+):(?:"([^"]*)"|(\S+))')


@dataclass
class FakeXenoCanto:
    """The service over a folder that `write` filled. `records` may be changed while it is asked."""

    root: Path
    key: str = "0123456789abcdef0123"
    records: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.records = json.loads((self.root / "recordings.json").read_text(encoding="utf-8"))

    def answer(self, path: str, query: dict[str, str], base: str) -> tuple[int, bytes] | None:
        """Status and JSON; None for a path that is no part of the API."""
        if path != PATH:
            return None
        if query.get("key") != self.key:
            return 401, json.dumps(WRONG_KEY if "key" in query else WITHOUT_KEY).encode()
        tags = [(tag, quoted or plain) for tag, quoted, plain in _TAG.findall(query.get("query", ""))]
        if not tags:
            return 400, json.dumps({"error": "invalid_query", "message": "Use tags."}).encode()
        found = [_at(base, r) for r in self.records if all(_fits(r, *tag) for tag in tags)]
        size, page = int(query.get("per_page", "100")), int(query.get("page", "1"))
        return 200, json.dumps(paged(found, page, size)).encode()


def write(
    root: Path,
    birds: Sequence[SpeciesNames],
    seed: int = 0,
    each: int = 12,
    seconds: float = 2.0,
    defects: bool = True,
    sound: bool = True,
) -> dict[str, str]:
    """Write `each` good recordings of every species, and behind them its defects; without `sound` only the list.

    Returns, for every recording's id ("XC100001"), the reason for which it must be rejected, or "".
    """
    records: list[dict[str, Any]] = []
    truth: dict[str, str] = {}
    for n, bird in enumerate(birds):
        rng = np.random.default_rng([seed, n])
        for k in range(each + (len(DEFECTS) if defects else 0)):
            number = FIRST_ID + len(records)
            long = seconds * (1 + k % 3)
            record = record_of(number, bird, rng, long)
            name, value, reason = DEFECTS[k - each] if k >= each else ("", None, "")
            if name:
                record[name] = value
            records.append(record)
            truth[f"XC{number}"] = reason
            if sound and isinstance(record["file"], str) and record["file"].endswith("/download"):
                path = root / str(number) / "download"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_sound(rng, n, long))
    text = json.dumps(records, indent=1, ensure_ascii=False)
    root.mkdir(parents=True, exist_ok=True)
    (root / "recordings.json").write_text(text + "\n", encoding="utf-8")
    return truth


def record_of(number: int, bird: SpeciesNames, rng: np.random.Generator, seconds: float) -> dict[str, Any]:
    """One recording as the service words it; //BASE stands for the service's address."""
    genus, _, species = bird.scientific.partition(" ")
    english = bird.english[0] if bird.english else ""
    licence = LICENCES[int(rng.integers(len(LICENCES)))]
    return {
        "id": str(number),
        "gen": genus,
        "sp": species,
        "ssp": "",
        "grp": "birds",
        "en": english,
        "rec": RECORDISTS[int(rng.integers(len(RECORDISTS)))],
        "cnt": "Norway",
        "loc": "Lista, Farsund",
        "lat": f"{58 + rng.random():.4f}",
        "lon": f"{6 + rng.random():.4f}",
        "alt": "10",
        "type": ("song", "call", "song, call")[int(rng.integers(3))],
        "sex": "",
        "stage": "adult",
        "method": "field recording",
        "url": f"//xeno-canto.org/{number}",
        "file": f"//BASE/{number}/download",
        "file-name": f"XC{number}-{english.replace(' ', '_')}.mp3",
        "sono": {"small": f"//xeno-canto.org/sounds/{number}-small.png"},
        "osci": {"small": f"//xeno-canto.org/sounds/{number}-wave-small.png"},
        "lic": f"//creativecommons.org/licenses/{licence}/",
        "q": ("A", "A", "B", "C", "no score")[int(rng.integers(5))],
        "length": f"{int(seconds // 60)}:{math.ceil(seconds % 60):02d}",
        "time": "06:30",
        "date": "2024-05-14",
        "uploaded": "2024-05-20",
        "also": ["Parus major"] if rng.random() < 0.2 else [""],
        "rmk": "",
        "animal-seen": "yes",
        "playback-used": "no",
        "temp": "",
        "regnr": "",
        "auto": "no",
        "dvc": "",
        "mic": "",
        "smp": "48000",
    }


def _sound(rng: np.random.Generator, bird: int, seconds: float) -> bytes:
    """MP3: notes at the species' pitch over hiss."""
    rate = 22_050
    t = np.arange(round(seconds * rate)) / rate
    hz = 1500 + 350 * (bird % 14) + 40 * rng.random()
    notes = 0.4 * np.sin(2 * np.pi * hz * t) * (np.sin(2 * np.pi * (3 + bird % 5) * t) > 0)
    out = io.BytesIO()
    soundfile.write(out, notes + 0.01 * rng.standard_normal(len(t)), rate, format="MP3")
    return out.getvalue()


def _at(base: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record whose file lies at this service."""
    file = record["file"]
    return {**record, "file": file.replace("//BASE", base.partition(":")[2])} if isinstance(file, str) else record


def _fits(record: dict[str, Any], tag: str, value: str) -> bool:
    """Whether a recording has a tag; names match where they begin so, as they do there."""
    if tag in ("gen", "sp", "en", "grp", "q"):
        return str(record.get(tag, "")).casefold().startswith(value.casefold())
    return False


def paged(found: list[dict[str, Any]], page: int, size: int) -> dict[str, Any]:
    """One page of an answer, `size` recordings long."""
    return {
        "numRecordings": str(len(found)),
        "numSpecies": str(len({(r.get("gen"), r.get("sp")) for r in found})),
        "page": page,
        "numPages": max(1, math.ceil(len(found) / size)),
        "recordings": found[(page - 1) * size : page * size],
    }

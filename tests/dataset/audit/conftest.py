"""A demo large enough to be judged, and ways to spoil a dataset that keep its schema."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.report_data import write_dataset
from PIL import Image

from birdmml.core.files import digest, sha256_bytes, sha256_file, write_json
from birdmml.core.species import resolve
from birdmml.dataset.format import COLUMNS
from birdmml.media.audio import decode_clip, encode_flac
from birdmml.media.image import decode_image, encode_jpeg

Row = dict[str, Any]
Change = Callable[[list[Row]], list[Row]]

_NAMES = ("label", "species", "common_name", "ebird_code", "order", "family")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's photos, songs and captions of 6 species, 50 triplets each, with a manifest; read only.

    Written without a build, whose reports take longer than its rows.
    """
    from birdmml.core import discover

    source = discover.load("source", "demo")
    own = source.Settings(species=6, per_species=50, image_size=48, clip_seconds=2.0, eval_videos=1)
    records = list(source.records(own))
    rows = [_row(source, own, p, r) for p, r in zip(records[::2], records[1::2], strict=True)]
    root = tmp_path_factory.mktemp("audited") / "data"
    sides: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        group = int(row["observation_id"][-5:])
        sides["test" if group % 10 == 0 else "validation" if group % 10 == 5 else "train"].append(row)
    write_dataset(root, sides, group=64)
    _write_manifest(root, source.facts(own)["ceilings"])
    return root


def _row(source: Any, settings: Any, photo: Any, recording: Any) -> Row:
    species = resolve(photo.species)
    picture, song = (source.open_media(settings, x.locator) for x in (photo, recording))
    return {c.name: None for c in COLUMNS} | {
        "id": f"{species.ebird_code}-{photo.id[-5:]}",
        "image": {"bytes": picture, "path": "a.jpg"},
        "audio": {"bytes": song, "path": "a.flac"},
        "caption": photo.caption.text,
        "species": species.scientific_name,
        "label": species.label,
        "observation_id": photo.observation,
        "recording_id": recording.recording,
        "image_sha256": sha256_bytes(picture),
        "audio_sha256": sha256_bytes(song),
        **{f"{part}_license": "CC0-1.0" for part in ("image", "audio", "caption")},
        **{f"{part}_author": "nobody" for part in ("image", "audio", "caption")},
    }


def _write_manifest(root: Path, ceilings: dict[str, float]) -> None:
    splits: dict[str, Any] = {}
    for path in sorted((root / "data").glob("*.parquet")):
        shard = {"path": f"data/{path.name}", "rows": pq.read_metadata(path).num_rows, "sha256": sha256_file(path)}
        splits[path.name.split("-")[0]] = {"rows": shard["rows"], "shards": [shard]}
    told = {
        "schema_version": 1,
        "birdmml_version": "0",
        "name": "birdmml-demo",
        "demo": True,
        "settings": {"clip_s": 2.0, "rate_hz": 22_050},
        "source": {"name": "demo", "facts": {"ceilings": ceilings}},
        "splits": splits,
    }
    write_json(root / "manifest.json", told | {"digest": digest(told)})


@pytest.fixture(scope="session")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """A copy of a dataset, spoilt by the function of this file that is named; made once."""
    made: dict[tuple[Path, str], Path] = {}

    def make(root: Path, how: str) -> Path:
        if (root, how) not in made:
            change: Change = globals()[how]
            made[root, how] = rewritten(root, tmp_path_factory.mktemp(how) / "data", change)
        return made[root, how]

    return make


def rewritten(root: Path, out: Path, change: Change) -> Path:
    """A copy of a dataset whose rows went through `change`; shards, splits and schema stay."""
    (out / "data").mkdir(parents=True)
    if (root / "manifest.json").exists():
        shutil.copy(root / "manifest.json", out)
    shards = sorted((root / "data").glob("*.parquet"))
    tables = [pq.read_table(path) for path in shards]
    rows = change([row for table in tables for row in table.to_pylist()])
    start = 0
    for path, table in zip(shards, tables, strict=True):
        mine = rows[start : start + table.num_rows]
        start += table.num_rows
        pq.write_table(pa.Table.from_pylist(mine, table.schema), out / "data" / path.name, row_group_size=64)
    return out


def _order(n: int) -> list[int]:
    return np.random.default_rng(8).permutation(n).tolist()


def _columns(rows: list[Row], *prefixes: str) -> list[str]:
    return [c for c in rows[0] if c.startswith(prefixes)]


def moved(rows: list[Row], columns: list[str]) -> list[Row]:
    """The values of some columns, together, dealt to other rows."""
    return [row | {c: rows[k][c] for c in columns} for row, k in zip(rows, _order(len(rows)), strict=True)]


def audio_zeros(rows: list[Row]) -> list[Row]:
    """A valid FLAC of zeros for every clip, in the hash column, too."""
    silent = encode_flac(np.zeros(len(decode_clip(rows[0]["audio"]["bytes"])), np.float32))
    cell = {"bytes": silent, "path": "a.flac"}
    return [r | {"audio": cell, "audio_sha256": sha256_bytes(silent)} for r in rows]


def audio_faint(rows: list[Row]) -> list[Row]:
    """Different faint noise for every clip: no two are equal, and none says anything."""
    rng = np.random.default_rng(3)
    n = len(decode_clip(rows[0]["audio"]["bytes"]))
    return [
        r | {"audio": {"bytes": encode_flac((1e-3 * rng.standard_normal(n)).astype(np.float32)), "path": "a"}}
        for r in rows
    ]


def audio_bytes_moved(rows: list[Row]) -> list[Row]:
    """Clips dealt to other rows; ids and hashes stay."""
    return moved(rows, ["audio"])


def audio_all_moved(rows: list[Row]) -> list[Row]:
    """Clips dealt to other rows together with everything that the columns say of them."""
    return moved(rows, ["audio", *_columns(rows, "audio_", "recording_id")])


def labels_moved(rows: list[Row]) -> list[Row]:
    """The species dealt to other rows."""
    return moved(rows, list(_NAMES))


def label_only_moved(rows: list[Row]) -> list[Row]:
    """The label dealt to other rows; the species' names stay."""
    return moved(rows, ["label"])


def images_of_one_species(rows: list[Row]) -> list[Row]:
    """Every photo is one of the first species' photos, over and over."""
    photos = [r["image"] for r in rows if r["label"] == rows[0]["label"]]
    pick = np.random.default_rng(5).integers(0, len(photos), len(rows))
    return [r | {"image": photos[k]} for r, k in zip(rows, pick.tolist(), strict=True)]


def images_of_one_species_in_turn(rows: list[Row]) -> list[Row]:
    """Every photo is one of the first species', each as often under each species."""
    photos = [r["image"] for r in rows if r["label"] == rows[0]["label"]]
    seen: dict[int, int] = {}
    out = []
    for r in rows:
        seen[r["label"]] = seen.get(r["label"], -1) + 1
        out.append(r | {"image": photos[seen[r["label"]] % len(photos)]})
    return out


def images_of_one_species_all_different(rows: list[Row]) -> list[Row]:
    """Every photo is made from one of the first species' photos, no two byte for byte the same."""
    photos = [decode_image(r["image"]["bytes"]) for r in rows if r["label"] == rows[0]["label"]]
    rng = np.random.default_rng(5)
    out = []
    for row in rows:
        pixels = photos[int(rng.integers(len(photos)))].astype(np.int64)
        shifted = np.clip(np.roll(pixels, rng.integers(-3, 4, 2), (0, 1)) + rng.integers(-9, 10), 0, 255)
        out.append(row | {"image": {"bytes": encode_jpeg(shifted.astype(np.uint8)), "path": "a.jpg"}})
    return out


def untouched(rows: list[Row]) -> list[Row]:
    """The rows as they are."""
    return rows


def planted(rows: list[Row]) -> list[Row]:
    """Twenty rows with one defect each (two share one), their ids row-0 ... row-19; their hashes are right."""
    rows = [dict(r) for r in rows]
    for n in range(20):
        rows[n]["id"] = f"row-{n}"
    black = np.zeros((60, 60, 3), np.uint8)
    photos = {0: _jpeg(black), 1: _jpeg(black + 120), 2: _jpeg(_noise(60, 20)), 3: b"no photo", 4: b""}
    rate = 22_050
    t = np.arange(2 * rate) / rate
    tone = (0.4 * np.sin(2 * np.pi * 3000 * t)).astype(np.float32)
    clips = {
        5: encode_flac(tone * 2.0**-13),
        6: encode_flac(np.full_like(tone, 0.25)),
        7: encode_flac(np.clip(20 * tone, -1, 1)),
        8: encode_flac(np.where(t < 0.5, tone, 0.0).astype(np.float32)),
        9: encode_flac(tone[: 2 * 16_000], 16_000),
        10: encode_flac(tone[:rate]),
        11: b"fLaC and nothing more",
    }
    for n, data in photos.items():
        _put(rows[n], "image", data)
    for n, data in clips.items():
        _put(rows[n], "audio", data)
    _share(rows, "image", 12, 13)
    _share(rows, "audio", 14, 15)
    rows[16]["id"] = rows[17]["id"] = "twice"
    rows[18]["image_license"] = "CC-BY-ND-4.0"
    rows[19]["audio_license"] = "unknown"
    return rows


def leaking(rows: list[Row]) -> list[Row]:
    """Some rows of every split name a recording of the first rows."""
    return [r | {"recording_id": rows[k % 5]["recording_id"]} if k % 7 == 0 else r for k, r in enumerate(rows)]


def _share(rows: list[Row], kind: str, a: int, b: int) -> None:
    """Row `b` takes the medium of row `a` and becomes another species."""
    _put(rows[b], kind, rows[a][kind]["bytes"])
    other = next(r for r in rows if r["label"] != rows[a]["label"])
    rows[b] |= {name: other[name] for name in _NAMES}


def _put(row: Row, kind: str, data: bytes) -> None:
    row[kind] = {"bytes": data or None, "path": "planted"}
    row[f"{kind}_sha256"] = sha256_bytes(data) if data else ""


def _noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def _jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()

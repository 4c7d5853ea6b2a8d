"""The release's miniature as a test sees it: its media, folders of it with parts away, and builds held against it."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from fakes.release import Truth, write
from PIL import Image

from birdmml.dataset.build import FinishedBuild, build
from birdmml.dataset.recipe import BuildSettings, Limits, Rules
from birdmml.sources import release
from birdmml.sources.release.table import member_key
from helpers import tree

PARTS = "audio.tar.gz.part-"


@dataclass(frozen=True)
class Whole:
    """A miniature of which nothing is missing, and the bytes of its regular members."""

    truth: Truth
    media: dict[str, bytes]

    @property
    def parts(self) -> list[str]:
        """Names of the audio's parts."""
        return sorted(p.name for p in (self.truth.root / "files").glob(PARTS + "*"))

    def fates(self, gone: Collection[str]) -> dict[str, str]:
        """By clip: lost, complete or behind, when the parts whose names end so are away."""
        order = {name: i for i, name in enumerate(self.parts)}
        away = {i for name, i in order.items() if name[-2:] in gone}
        found = {}
        for name, member in self.truth.members.items():
            held = {order[p] for p in member.parts}
            if member.archive == "audio":
                before = max(held) < min(away, default=len(order))
                found[name] = "lost" if held & away else "complete" if before else "behind"
        return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power will fail here, and nobody looks at the report."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr("birdmml.dataset.build.write_report", lambda *a, **k: None)


def whole(root: Path, seed: int, **knobs: Any) -> Whole:
    """Write a miniature below `root`, complete unless `missing` is given."""
    truth = write(root, seed, **({"missing": ()} | knobs))
    return Whole(truth, {n: d for n, d in regular(root) if n in truth.members})


def regular(root: Path) -> Iterator[tuple[str, bytes]]:
    """Regular members of both archives, withheld parts included."""
    for stem in ("photos", "audio"):
        parts = [p for folder in ("files", "withheld") for p in (root / folder).glob(f"{stem}*")]
        if [p.suffix for p in parts] == [".zip"]:
            with zipfile.ZipFile(parts[0]) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist())
            continue
        packed = b"".join(p.read_bytes() for p in sorted(parts, key=lambda p: p.name))
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield member.name, file.read()


def shelf(of: Path, to: Path, gone: Collection[str] = (), record: bool = True) -> Path:
    """A folder with the files of a miniature, without the audio parts whose names end as `gone` says."""
    to.mkdir(parents=True)
    for path in sorted((of / "files").iterdir()):
        if not (path.name.startswith(PARTS) and path.name[-2:] in gone):
            os.link(path, to / path.name)
    if record:
        os.link(of / "record.json", to / "record.json")
    return to


def spoil(path: Path, data: bytes) -> None:
    """Other bytes in place of a linked file; the file it was linked to stays."""
    path.unlink()
    path.write_bytes(data)


def settings(root: Path | str = "", mode: str = "grouped", limit: int | None = None, **own: Any) -> BuildSettings:
    """Of a build with clips of a second."""
    chosen = release.Settings(str(root), clip_seconds=1.0, **own)
    return BuildSettings("release", chosen, rules=Rules(mode), limit=limit, limits=Limits(clip_s=1.0))


def make(root: Path | str, out: Path, max_rejects: float = 0.5, **how: Any) -> FinishedBuild:
    """Build in this process."""
    return build(settings(root), out, max_rejects=max_rejects, **how)


def told(out: Path) -> dict[str, str]:
    """The files of a dataset by their hashes, but for the pages that `quick` leaves out."""
    return {k: v for k, v in tree(out).items() if k != "report/index.html" and "/media/" not in k}


def rows(out: Path) -> list[dict[str, Any]]:
    """The dataset's rows in order, train first; `number` is the table's, `split` the file's."""
    found = []
    for split in ("train", "validation", "test"):
        for path in sorted((out / "data").glob(f"{split}-*.parquet")):
            found += [{**r, "split": split} for r in pq.read_table(path).to_pylist()]
    return [{**r, "number": int(json.loads(r["metadata"])["source_index"])} for r in found]


def listed(out: Path, name: str) -> list[dict[str, str]]:
    """The lines of report/absent.csv or rejects.csv."""
    with (out / "report" / f"{name}.csv").open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def proven(of: Whole, out: Path) -> list[dict[str, Any]]:
    """The rows, each with `planned` and `clip` (the member's name), after comparing every value with the truth."""
    by_key = {member_key(name): name for name in of.media}
    found = rows(out)
    for row in found:
        number, rest = divmod(row["number"], 7)
        planned = of.truth.rows[number]
        clip = by_key[row["audio_id"].removesuffix("-000")]
        assert rest == 0
        assert (row["species"], row["caption"]) == (planned.species, " ".join(planned.caption.split("\n"))) or (
            row["species"], row["caption"]) == (planned.species, planned.caption)  # fmt: skip
        _same_photo(row, of.media[planned.photo_member])
        heard, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
        assert rate == 22_050
        assert np.array_equal(heard, np.frombuffer(of.media[clip][44:], "<i2"))
        assert planned.species in {r.species for r in of.truth.rows if r.audio_member == clip}
        row |= {"planned": planned, "clip": clip}
    return found


def _same_photo(row: dict[str, Any], data: bytes) -> None:
    if not row["image_reencoded"]:
        assert row["image"]["bytes"] == data
        return
    ours, theirs = (np.asarray(Image.open(io.BytesIO(d)).convert("RGB")) for d in (row["image"]["bytes"], data))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < 3

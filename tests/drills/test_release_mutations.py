"""Inputs of a release spoilt at random: each is mended, listed or refused, and nothing is silently different."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.releases import Whole, listed, make, quick, rows, shelf, spoil, whole

from birdmml.errors import BirdmmlError
from birdmml.sources.release.table import member_key

quick = quick
pytestmark = pytest.mark.usefixtures("quick")
DEFAULT, DRILL = 8, 200


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = tmp_path_factory.mktemp("full") / "r"
    return whole(root, seed=13, species=3, rows=7, audio_parts=6, photo_px=128)


def flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwritten(data: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(data)), rng.choice((16, 512, 5000))
    return data[:at] + rng.randbytes(min(n, len(data) - at)) + data[at + n :]


def shortened(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def stretched(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 700))) + data[at:]


def doubled(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at // 2 : at] + data[at:]


def emptied(data: bytes, rng: random.Random) -> bytes:
    return b""


CHANGES = (flipped, flipped, flipped, overwritten, shortened, stretched, doubled, emptied)


def mutate(root: Path, rng: random.Random, times: int) -> set[str]:
    """Change, swap or remove files; returns which."""
    changed = set()
    for _ in range(times):
        names = sorted(p.name for p in root.iterdir())
        name = rng.choice(names) if rng.random() < 0.5 else rng.choice([n for n in names if "audio" in n])
        changed.add(name)
        kind = rng.random()
        if kind < 0.1:
            (root / name).unlink()
        elif kind < 0.25:
            other = rng.choice([n for n in names if n != name])
            one, two = (root / name).read_bytes(), (root / other).read_bytes()
            spoil(root / name, two)
            spoil(root / other, one)
            changed.add(other)
        else:
            data = (root / name).read_bytes()
            spoil(root / name, rng.choice(CHANGES)(data, rng) if data else b"?")
    return changed


def trial(full: Whole, folder: Path, seed: int) -> str:
    """One spoilt release: how its build ended. Fails if anything in it is wrong or neither built nor listed."""
    rng = random.Random(seed)
    with_record = rng.random() < 0.6
    root = shelf(full.truth.root, folder / "r", record=with_record)
    changed = mutate(root, rng, 2 if with_record and rng.random() < 0.3 else 1)
    told = f"seed {seed}: {sorted(changed)}{'' if with_record else ', no record'}"
    try:
        make(root, folder / "out", max_rejects=1.0)
    except BirdmmlError as e:
        assert "\n" not in str(e), told
        assert not (folder / "out").exists(), told
        return "refused"
    except Exception as e:
        raise AssertionError(told) from e
    unsure = json.loads((folder / "out/manifest.json").read_bytes())["source"]["facts"]["unverified"]
    assert not with_record or "record.json" in changed or not any(unsure.values()), told
    if not exact(full, folder / "out", root, told):
        # Without an MD5, behind broken bits, nobody can know; then the manifest says so.
        assert any(unsure.values()), told
        return "unverified"
    found = {r["number"] // 7 for r in rows(folder / "out")}
    if "bird-mml.csv" not in changed:
        complete(full, folder / "out", found, told)
    return "whole" if len(found) == len(full.truth.rows) else "in part"


def exact(full: Whole, out: Path, root: Path, told: str) -> bool:
    """Whether every clip is the truth's; every photo and caption must be the truth's, or the table's as it is now."""
    by_key = {member_key(name): data for name, data in full.media.items()}
    table = (root / "bird-mml.csv").read_bytes().decode("utf-8", "replace").replace('""', '"')
    table = " ".join(table.split())
    same = True
    for row in rows(out):
        photo, clip = row["image_id"].split("#")[0], row["audio_id"].removesuffix("-000").split("#")[0]
        assert row["image"]["bytes"] == by_key[photo], told
        samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
        same &= np.array_equal(samples, np.frombuffer(by_key[clip][44:], "<i2"))
        assert " ".join(row["caption"].split()) in table, told
    return same


def complete(full: Whole, out: Path, found: set[int], told: str) -> None:
    """What is not in the dataset is listed: its line as absent, or one of its media as a reject."""
    absent = {line["path"] for line in listed(out, "absent")}
    rejects = {line["path"].split("#")[0] for line in listed(out, "rejects")}
    for row in full.truth.rows:
        media = {m.removeprefix("bird-mml/") for m in (row.photo_member, row.audio_member)}
        is_listed = f"bird-mml.csv, line {row.line}" in absent or bool(media & rejects)
        assert (row.number in found) != is_listed, f"{told}: row {row.number}"


def test_a_few_spoilt_releases(full: Whole, tmp_path: Path) -> None:
    ended = Counter(trial(full, tmp_path / str(seed), seed) for seed in range(DEFAULT))
    assert ended["in part"]


@pytest.mark.drill
def test_two_hundred_spoilt_releases(full: Whole, tmp_path: Path) -> None:
    ended = Counter(trial(full, tmp_path / str(seed), seed) for seed in range(1000, 1000 + DRILL))
    print(json.dumps(ended))
    assert ended["in part"] > DRILL // 10
    assert ended["unverified"] < DRILL // 50

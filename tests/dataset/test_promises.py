"""Files with a promised hash, and links: what does not hold is listed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from helpers import SPECIES, photo, sound

from birdmml.core.files import sha256_file
from birdmml.dataset.build import build
from birdmml.dataset.recipe import BuildSettings, Limits
from birdmml.sources import folder


def promised(root: Path, count: int = 6) -> Path:
    """A manifest with the hash of every file."""
    lines = ["species,path,sha256"]
    for i in range(count):
        for path in (photo(root / f"p{i}.png", seed=i, size=(64, 48)), sound(root / f"r{i}.wav", seed=i)):
            lines.append(f"{SPECIES[i % 3]},{path.name},{sha256_file(path).upper()}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


def rejects(root: Path, out: Path) -> dict[str, str]:
    plan = BuildSettings("folder", folder.Settings(str(root), 1.0), limits=Limits(clip_s=1.0))
    build(plan, out, max_rejects=1.0)
    return {r["path"]: r["reason"] for r in json.loads((out / "report/validation.json").read_bytes())["rejects"]}


def test_files_that_keep_their_promise_are_taken(tmp_path: Path) -> None:
    assert rejects(promised(tmp_path / "birds"), tmp_path / "out") == {}


@pytest.mark.parametrize("seed", range(4))
def test_one_flipped_bit_anywhere_is_noticed(tmp_path: Path, seed: int) -> None:
    root, rng = promised(tmp_path / "birds"), random.Random(seed)
    victims = rng.sample(["p0.png", "p1.png", "p2.png", "r0.wav", "r1.wav", "r2.wav"], 2)
    for name in victims:
        data = bytearray((root / name).read_bytes())
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
        (root / name).write_bytes(bytes(data))
    assert rejects(root, tmp_path / "out") == dict.fromkeys(victims, "sha256_differs")


def test_two_swapped_files_are_noticed(tmp_path: Path) -> None:
    root = promised(tmp_path / "birds")
    one, two = root / "p0.png", root / "p1.png"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert rejects(root, tmp_path / "out") == {"p0.png": "sha256_differs", "p1.png": "sha256_differs"}


def test_a_linked_folder_of_a_species_is_listed_and_not_passed_over(birds: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    photo(tmp_path / "elsewhere" / "p.jpg")
    (birds / "images" / "Corvus corax").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert rejects(birds, tmp_path / "out") == {"images/Corvus corax": "linked_folder"}

"""What several tests make: small media files, a folder of birds, the record of a command."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """A small noisy picture in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def sound(path: Path, seed: int = 0, seconds: float = 1.5, rate: int = 8000, channels: int = 1) -> Path:
    """A short noisy recording in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return path


SPECIES = ("Setophaga petechia", "Turdus migratorius", "Cyanocitta cristata")


def bird_folder(root: Path, photos: int = 5, recordings: int = 5, species: tuple[str, ...] = SPECIES) -> Path:
    """A folder by species with sound media of everything."""
    for s, name in enumerate(species):
        for i in range(photos):
            photo(root / "images" / name / f"p{i}.jpg", seed=100 * s + i)
        for i in range(recordings):
            sound(root / "audio" / name / f"r{i}.wav", seed=100 * s + i)
    return root


def tree(root: Path) -> dict[str, str]:
    """Every file below root with its hash."""
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def hamming(a: str, b: str) -> int:
    """How many of the 64 bits of two perceptual hashes in hex differ."""
    return (int(a, 16) ^ int(b, 16)).bit_count()

"""How near a build comes to its codecs: wall time on N processes against the CPU time of the codecs alone, over N.

    python benchmarks/throughput.py [--rows 400] [--workers 2]

Makes a folder of photos (JPEG, 1600 x 1200 px) and recordings (10 s, 44.1 kHz), measures the codecs alone in as many
processes (decode, scale, encode the photo; decode, resample, FLAC the sound), then builds the same folder with
`birdmml build`, and prints both and their ratio. Imports and the start of processes count as the build's.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from PIL import Image

SPECIES = ("Turdus migratorius", "Cyanocitta cristata", "Cardinalis cardinalis", "Corvus corax")
RATE, OUT_RATE, SECONDS, SIDE = 44_100, 22_050, 10.0, 1024


def make(root: Path, rows: int) -> list[tuple[Path, Path]]:
    """Photos with structure and recordings with notes and noise, seeded."""
    rng = np.random.default_rng(0)
    t = np.arange(round(RATE * SECONDS)) / RATE
    y, x = np.mgrid[0:1200, 0:1600].astype(np.float32) / 1600
    pairs = []
    for i in range(rows):
        species = SPECIES[i % len(SPECIES)]
        photo, sound = root / "images" / species / f"{i}.jpg", root / "audio" / species / f"{i}.ogg"
        for path in (photo, sound):
            path.parent.mkdir(parents=True, exist_ok=True)
        waves = np.stack(
            [np.sin(rng.uniform(4, 30) * x + rng.uniform(4, 30) * y + c) for c in range(3)], axis=-1
        )
        grain = rng.integers(-12, 12, (300, 400, 1), dtype=np.int16).repeat(4, 0).repeat(4, 1)
        pixels = np.clip(128 + 90 * waves + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(photo, quality=88)
        note = np.sin(2 * np.pi * (rng.uniform(2000, 5000) * t + rng.uniform(50, 300) * np.sin(6 * t)))
        soundfile.write(sound, 0.3 * note + 0.02 * rng.standard_normal(len(t)), RATE)
        pairs.append((photo, sound))
    return pairs


def floor_of(pairs: list[tuple[Path, Path]], workers: int) -> float:
    """CPU seconds of the libraries alone over `workers`, which share caches and memory as the build's do."""
    with ProcessPoolExecutor(workers) as pool:
        return sum(pool.map(codecs, [pairs[i::workers] for i in range(workers)])) / workers


def codecs(pairs: list[tuple[Path, Path]]) -> float:
    """CPU seconds of one process that does nothing else."""
    began = time.process_time()
    for photo, sound in pairs:
        with Image.open(photo) as picture:
            picture.draft("RGB", (SIDE, SIDE))
            picture.load()
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            picture.save(io.BytesIO(), "JPEG", quality=90)
        samples, rate = soundfile.read(sound, dtype="float32")
        flac = soxr.resample(samples, rate, OUT_RATE, quality="HQ")
        soundfile.write(io.BytesIO(), (flac * 32767).astype(np.int16), OUT_RATE, format="FLAC")
    return time.process_time() - began


def main() -> None:
    """Measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pairs = make(root / "birds", asked.rows)
        before = floor_of(pairs, asked.workers)
        command = [
            sys.executable,
            "-m",
            "birdmml",
            "build",
            "--source",
            "folder",
            "--from",
            str(root / "birds"),
        ]
        command += ["--out", str(root / "out"), "--workers", str(asked.workers), "--json"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own command
        wall = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Once more, for the machine may have been slower or faster meanwhile.
        floor = (before + floor_of(pairs, asked.workers)) / 2
        rows = json.loads((root / "out" / "manifest.json").read_text())["counts"]["rows"]
    print(
        f"{rows} rows, {asked.workers} workers: codecs alone {floor:.2f} s (CPU time / workers), build {wall:.2f} s"
    )
    busy = (used.ru_utime + used.ru_stime) / asked.workers
    print(
        f"ratio {wall / floor:.2f}; {rows / wall:.1f} triplets/s; the build's own CPU time / workers {busy:.2f} s"
    )


if __name__ == "__main__":
    main()

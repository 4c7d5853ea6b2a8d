"""Evaluation sets in their true layouts, a few kilobytes each; each function writes below `root` and returns it."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from birdmml.core.species import all_species
from birdmml.evalsets._multibench import PickleLayout
from birdmml.evalsets.ssw60 import _COLUMNS, _NEEDED, _TAXA, COLLECTIONS
from fakes import evalset_media as media
from fakes.evalset_media import mark


def ssw60(root: Path, seed: int) -> Path:
    """The true layout with four species in kilobytes: two train and two test items a species; returns `root`."""
    rng = np.random.default_rng(seed)
    species = all_species()[:4]
    media.write_csv(root / "taxa.csv", _TAXA, [
        (s.label, s.ebird_code, s.inat_taxon_id, s.label, s.label, s.common_name, s.scientific_name, s.family, s.order)
        for s in species
    ])  # fmt: skip
    listed: dict[str, list[tuple[object, ...]]] = {c.folder: [] for c in COLLECTIONS}
    for number, (s, split) in enumerate((s, split) for s in species for split in ("train", "train", "test", "test")):
        asset = 100_000 + number
        seconds, sound = 1.2 + 0.2 * (number % 3), number % 5 != 3
        media.film(root / "video_ml" / f"{asset}.mp4", rng, s.label, seconds, sound)
        frames = round(seconds * media.FPS)
        listed["video_ml"].append(
            (asset, s.label, split, media.FPS, frames, seconds, 32, 48, 3, 0, seconds, 0, 0, int(sound))
        )
        media.recording(root / "audio_ml" / f"{asset}.wav", rng, s.label, 0.5)
        listed["audio_ml"].append((asset, s.label, split, 22050, 1, 11025, 0.5))
        name = rng.bytes(8).hex()
        media.photo(root / "images_nabirds" / f"{name}.jpg", rng, s.label)
        listed["images_nabirds"].append((name, s.label, split, 30, 40, 3, "nobody"))
        media.photo(root / "images_inat" / f"{asset}.jpg", rng, s.label)
        listed["images_inat"].append((asset, s.label, split, 30, 40, 3, "nobody", 1))
    for folder, lines in listed.items():
        media.write_csv(root / f"{folder}.csv", (*_NEEDED, *_COLUMNS[f"{folder}.csv"].split()), lines)
    mark(root)
    return root


def vb100(root: Path, seed: int) -> Path:
    """The true layout with four classes in kilobytes, one of them unknown to the taxonomy; returns `root`."""
    rng = np.random.default_rng(seed)
    known = [s.vb100_class for s in all_species() if s.vb100_class][:3]
    folders = sorted([*map(str, known), "Imaginary_Bird"])
    lists: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label, folder in enumerate(folders):
        for number, split in enumerate(("train", "train", "test")):
            name = f"{folder}_{number:05d}.mp4"
            path = root / "vb100_all_videos" / folder / name
            media.film(path, rng, label, 1.0 + 0.3 * number, sound=(label + number) % 3 != 1)
            lists[split].append((f"{folder}/{name}", 3 * label + 1))  # Raw labels have gaps.
    for split, listed in lists.items():
        media.write_lines(root / "vb100_annotations_v1" / f"{split}_video.txt", listed)
    mark(root)
    return root


def cub200(root: Path, seed: int) -> Path:
    """The true layout with three classes in kilobytes, four photos each; returns `root`."""
    rng = np.random.default_rng(seed)
    base = root / "CUB_200_2011"
    classes = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
    images, labels, sides = list[tuple[int, str]](), list[tuple[int, int]](), list[tuple[int, int]]()
    for label, folder in enumerate(classes, 1):
        for number in range(4):
            name = f"{folder}/{folder[4:]}_{number:04d}_{label * 1000 + number}.jpg"
            media.photo(base / "images" / name, rng, label)
            image = len(images) + 1
            images.append((image, name))
            labels.append((image, label))
            sides.append((image, number % 2))
    media.write_lines(base / "images.txt", images)
    media.write_lines(base / "image_class_labels.txt", labels)
    media.write_lines(base / "train_test_split.txt", sides)
    media.write_lines(base / "classes.txt", list(enumerate(classes, 1)))
    mark(base)
    return root


def multibench(layout: PickleLayout, root: Path, seed: int) -> Path:
    """The true layout in kilobytes: 30 samples of up to 10 steps that share a topic; returns `root`.

    One sample of train has no text, one of test has -inf in its audio, and the text starts late in most.
    """
    rng = np.random.default_rng([seed, *layout.file.encode()])
    mixing = {m: rng.standard_normal((4, size)) for m, size in layout.features.items()}
    content = {}
    for part, n in zip(("train", "valid", "test"), (16, 6, 8), strict=True):
        topic = rng.standard_normal((n, 10, 4)) * 0.2 + rng.standard_normal((n, 1, 4))
        late = rng.integers(0, 6, n)
        for i, start in enumerate(late):
            topic[i, :start] = 0
        data: dict[str, Any] = {m: (topic @ mix).astype(np.float32) for m, mix in mixing.items()}
        data["labels"] = np.where(topic.sum(axis=(1, 2)) > 0, 1.0, -1.0)[:, None]
        data["id"] = np.array([f"fake{seed}_{part}_{i}" for i in range(n)])
        content[part] = data
    content["train"]["text"][1] = 0
    content["test"]["audio"][2, -1, 0] = -np.inf
    mark(root)
    (root / layout.file).write_bytes(pickle.dumps(content, protocol=4))
    return root


def av_mnist(root: Path, seed: int) -> Path:
    """MultiBench's layout with 24 train and 10 test pairs: a stroke, and a band, whose place is the digit's."""
    rng = np.random.default_rng([seed, 28])
    mark(root)
    for side, n in (("train", 24), ("test", 10)):
        labels = np.arange(n) % 10
        image = rng.integers(0, 60, (n, 28, 28))
        audio = rng.integers(0, 60, (n, 112, 112))
        for i, digit in enumerate(labels):
            image[i, 4:24, 2 * digit + 4 : 2 * digit + 6] = 250
            audio[i, 10 * digit + 4 : 10 * digit + 9, 20:80] = 230
        for modality, array in (("image", image.reshape(n, 784)), ("audio", audio)):
            (root / modality).mkdir(exist_ok=True)
            np.save(root / modality / f"{side}_data.npy", array.astype(np.uint8))
        np.save(root / f"{side}_labels.npy", labels)
    return root


def av_mnist_raw(root: Path, seed: int) -> Path:
    """The raw layout with 48 and 20 images (gzipped and not), 90 short utterances of three speakers; returns `root`."""
    rng = np.random.default_rng([seed, 112])
    mark(root)
    (root / "mnist").mkdir(exist_ok=True)
    (root / "fsdd" / "recordings").mkdir(parents=True, exist_ok=True)
    for side, n, end in (("train", 48, ".gz"), ("t10k", 20, "")):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (n, 28, 28)).astype(np.uint8)
        for image, digit in zip(images, labels, strict=True):
            image[4:24, 2 * digit + 4 : 2 * digit + 6] = 250
        write_idx(root / "mnist" / f"{side}-images-idx3-ubyte{end}", images)
        write_idx(root / "mnist" / f"{side}-labels-idx1-ubyte{end}", labels)
    for digit, speaker, number in np.ndindex(10, 3, 3):
        t = np.arange(1600) / 8000
        tone = 0.3 * np.sin(2 * np.pi * (300 + 300 * digit) * t) + 0.02 * rng.standard_normal(1600)
        name = f"{digit}_{'abc'[speaker]}_{number}.wav"
        soundfile.write(root / "fsdd" / "recordings" / name, tone, 8000, subtype="PCM_16")
    return root


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """An idx file, gzipped with a fixed date where its name ends in .gz."""
    data = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)

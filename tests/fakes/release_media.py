"""Photos, clips and captions of the release's miniature: seeded, different from one another, and learnable.

A species has a colour cast, a pitch and words of its own; everything else is chance, with noise that gzip cannot
pack. Photos are sums of the low DCT terms that perceptual hashes look at, so chance alone makes no near-duplicates.
"""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdmml.media.image import encode_jpeg
from fakes.release_plan import Bird, Knobs, Line, Shot, Sound

SIZES = ("small", "large", "plump", "slender", "tiny")
COLOURS = ("brown", "grey", "yellow", "white", "black", "rusty", "olive", "blue")
PARTS = ("breast", "head", "back", "crown", "tail", "throat")
DOINGS = ("sitting on", "perched on", "standing by", "looking down from")
PLACES = ("a branch", "a wire", "a fence", "the water's edge", "a rock")
VOICES = (
    "Its song is a long, varied warble.",
    'It calls "chip", then falls silent.',
    "It gives a sharp note, often repeated; it feeds on seeds, insects and fruit.",
    "Pairs stay together through the year (as far as is known).",
)

Pixels = NDArray[np.uint8]


def draw(shots: list[Shot], seed: int, bird: int, knobs: Knobs) -> dict[str, bytes]:
    """The files of a species' photos by path: JPEG, or what its defect makes of it; absent ones are left out."""
    rng = np.random.default_rng([seed, 1, bird])
    pixels = _pictures(rng, len(shots), bird, knobs)
    pictures = {shot.path: picture for shot, picture in zip(shots, pixels, strict=True)}
    files = {path: encode_jpeg(picture) for path, picture in pictures.items()}
    for shot in shots:
        at = shot.path
        if shot.how == "near_photos" and shot.of is not None:
            files[at] = _again(pictures[shot.of.path])
        elif shot.how == "equal_photos" and shot.of is not None:
            files[at] = files[shot.of.path]
        elif shot.how == "black_photos":
            files[at] = encode_jpeg(np.zeros_like(pictures[at]))
        elif shot.how == "broken_photos":
            files[at] = files[at][: len(files[at]) // 3] if shot.id % 2 else rng.bytes(400)
    return {shot.path: files[shot.path] for shot in shots if shot.how != "absent_photos"}


def sing(sounds: list[Sound], seed: int, bird: int, knobs: Knobs) -> dict[str, bytes]:
    """The WAV files of a species' clips by path; absent, linked and oversized ones are left out."""
    rng = np.random.default_rng([seed, 2, bird])
    t = np.arange(round(knobs.seconds * knobs.rate_hz), dtype=np.float32) / knobs.rate_hz
    hz = 400.0 * 20.0 ** (_scatter(bird) % 1.0)
    files = {}
    for sound in sounds:
        # The pitch of a recording is its own; its clips differ in phase and noise.
        own = hz * (1 + 0.02 * (_scatter(sound.xc) % 1.0))
        beat = 1 + 0.5 * np.sin(2 * np.pi * 6 * t + rng.uniform(0, 6))
        tone = 0.12 * beat * np.sin(2 * np.pi * own * t + rng.uniform(0, 6))
        wave = tone + 0.05 * rng.standard_normal(len(t), dtype=np.float32)
        if sound.how == "silent_audio":
            wave = np.zeros_like(t)
        data = wav(np.rint(32767 * np.clip(wave, -1, 1)).astype("<i2"), knobs.rate_hz)
        if sound.how == "truncated_audio":
            data = data[: 44 + 2 * (len(t) * 2 // 5)]
        if sound.how not in ("absent_audio", "linked_audio", "bombs"):
            files[sound.path] = data
    return files


def wav(samples: NDArray[np.int16], rate_hz: int) -> bytes:
    """16-bit mono PCM [T] as a WAV file."""
    data = samples.tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16
    )
    return head + struct.pack("<4sI", b"data", len(data)) + data


def captions(line: Line, bird: Bird, number: int, seed: int) -> tuple[str, str]:
    """The picture's caption and the one merged with the species text, which tells the name that was planned."""
    rng = np.random.default_rng([seed, 3, number])
    own = COLOURS[line.shot.bird * 5 % len(COLOURS)]

    def pick(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    colour = own if rng.random() < 0.7 else pick(COLOURS)
    where = f"{pick(DOINGS)} {pick(PLACES)}"
    common = bird.species.common_name
    who = "bird" if line.named != "common" else common if rng.random() < 0.5 else common.lower()
    text = f"A {pick(SIZES)} {who} with a {colour} {pick(PARTS)}, {where}."
    if line.named == "scientific":
        text += f" This is {bird.name}."
    # Line breaks within captions are legal CSV.
    return f"a {colour} bird {where}", text + ("\n" if number % 50 == 9 else " ") + pick(VOICES)


def _pictures(rng: np.random.Generator, n: int, bird: int, knobs: Knobs) -> Pixels:
    """RGB [N, H, W, 3]: a random picture in the cast of the species."""
    width, height = knobs.photo_px, knobs.photo_px * 3 // 4
    terms = rng.normal(0, 1, (n, 8, 8)).astype(np.float32)
    terms[:, 0, 0] = 0
    grey = np.einsum("hi,nij,wj->nhw", _cosines(height), terms, _cosines(width), optimize=True)
    grey *= 34 / grey.std(axis=(1, 2), keepdims=True)
    cast = 35 * np.cos(2 * np.pi * (_scatter(bird) + np.arange(3) / 3)) + rng.normal(0, 14, (n, 3))
    noise = 8 * rng.standard_normal((n, height, width, 3), dtype=np.float32)
    picture = 128 + grey[..., None] + cast[:, None, None, :] + noise
    return np.asarray(np.clip(picture, 0, 255), dtype=np.uint8)


def _cosines(n: int) -> NDArray[np.float32]:
    """The first 8 DCT-II terms at `n` points, [n, 8]."""
    at = (np.arange(n)[:, None] + 0.5) * np.arange(8)[None, :]
    return np.cos(np.pi * at / n).astype(np.float32)


def _scatter(number: int) -> float:
    """Multiples of the golden ratio: neighbours lie far apart in [0, 1), however many there are."""
    return number * 0.6180339887498949 % 1.0


def _again(picture: Pixels) -> bytes:
    """The same photo at three quarters of its size, saved worse."""
    image = Image.fromarray(picture)
    smaller = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
    return encode_jpeg(smaller, quality=60)


KINDS = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
LONGEST_MATCH = 258  # Deflate: bytes that one symbol on the edge of two parts can stand for.


class Archive(Protocol):
    """What members are put into; `spans` has where each regular one begins and ends, headers included."""

    spans: dict[str, tuple[int, int]]

    def add(self, name: str, data: bytes) -> None:
        """A regular file."""

    def zeros(self, name: str, size: int) -> None:
        """A regular file of so many zeros."""

    def folder(self, name: str) -> None:
        """A directory."""

    def special(self, name: str, kind: str, target: str = "") -> bool:
        """A link or device (a key of KINDS); False where the format has none."""

    def close(self) -> None:
        """Write the end."""


class Tar:
    """A tar, packed with gzip at `level` unless that is None."""

    def __init__(self, path: Path, level: int | None) -> None:
        self.spans: dict[str, tuple[int, int]] = {}
        self._sink = _Gzip(path, level)
        # Of a file, tarfile's writer needs write and tell.
        self._tar = tarfile.TarFile(mode="w", fileobj=self._sink, format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]

    def add(self, name: str, data: bytes) -> None:
        """A regular file."""
        self._put(name, len(data), io.BytesIO(data))

    def zeros(self, name: str, size: int) -> None:
        """A regular file of so many zeros."""
        self._put(name, size, _Zeros())

    def folder(self, name: str) -> None:
        """A directory."""
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        self._tar.addfile(info)

    def special(self, name: str, kind: str, target: str = "") -> bool:
        """A link or device (a key of KINDS)."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname = KINDS[kind], target
        self._tar.addfile(info)
        return True

    def close(self) -> None:
        """Write the end."""
        self._tar.close()
        self._sink.close()

    def _put(self, name: str, size: int, source: io.BytesIO | _Zeros) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        begin = self._tar.offset
        self._tar.addfile(info, source)
        self.spans[name] = (begin, self._tar.offset)


class Zip:
    """A zip; it has no devices and no hard links."""

    def __init__(self, path: Path, level: int) -> None:
        self.spans: dict[str, tuple[int, int]] = {}
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level)

    def add(self, name: str, data: bytes) -> None:
        """A regular file."""
        self._zip.writestr(self._info(name), data)
        self.spans[name] = (0, 0)

    def zeros(self, name: str, size: int) -> None:
        """A regular file of so many zeros."""
        with self._zip.open(self._info(name), "w") as f:
            for at in range(0, size, 1 << 20):
                f.write(bytes(min(1 << 20, size - at)))
        self.spans[name] = (0, 0)

    def folder(self, name: str) -> None:
        """A directory."""
        self._zip.writestr(self._info(f"{name}/"), b"")

    def special(self, name: str, kind: str, target: str = "") -> bool:
        """A symbolic link; False for anything else."""
        if kind != "symlink":
            return False
        info = self._info(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        self._zip.writestr(info, target)
        return True

    def close(self) -> None:
        """Write the end."""
        self._zip.close()

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, 0o644 << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        return info


def cut(path: Path, stem: str, pieces: int, piece_bytes: int = 0) -> list[Path]:
    """Cut a file into parts `stem` + aa, ab, ... of one size (the last may be smaller), and remove it."""
    size = piece_bytes or max(1, -(-path.stat().st_size // pieces))
    parts: list[Path] = []
    with path.open("rb") as f:
        while data := f.read(size):
            n = len(parts)
            part = path.with_name(f"{stem}{chr(97 + n // 26)}{chr(97 + n % 26)}")
            part.write_bytes(data)
            parts.append(part)
    path.unlink()
    return parts


def holders(parts: list[Path], spans: dict[str, tuple[int, int]]) -> dict[str, tuple[str, ...]]:
    """Which parts of a tar.gz hold any of a member's bytes: by how far zlib gets with each part."""
    edges = list(_edges(parts))
    found = {}
    for name, (begin, end) in spans.items():
        found[name] = tuple(part.name for part, low, high in edges if begin < high + LONGEST_MATCH and end > low)
    return found


def _edges(parts: list[Path]) -> Iterator[tuple[Path, int, int]]:
    """Each part with the range of decompressed bytes that end in it."""
    stream, done = zlib.decompressobj(31), 0
    for part in parts:
        begin = done
        with part.open("rb") as f:
            while data := f.read(1 << 12):
                done += len(stream.decompress(data))
        yield part, begin, done


class _Zeros:
    """A file of zeros, as long as it is read."""

    def read(self, n: int = 0, /) -> bytes:
        return bytes(n)


class _Gzip:
    """Counts what a tar writes, and packs it (level None: does not)."""

    def __init__(self, path: Path, level: int | None) -> None:
        self._file: BinaryIO = path.open("wb")
        # 31: a gzip wrapper, whose header has no time in it.
        self._pack = None if level is None else zlib.compressobj(level, zlib.DEFLATED, 31)
        self._count = 0

    def tell(self) -> int:
        return self._count

    def write(self, data: bytes) -> int:
        self._count += len(data)
        self._file.write(self._pack.compress(data) if self._pack else data)
        return len(data)

    def close(self) -> None:
        if self._pack:
            self._file.write(self._pack.flush())
        self._file.close()

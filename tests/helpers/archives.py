"""Split archives to break, and what ought to come back from them."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from birdmml.fetch.salvage.members import RecoveredMember
from birdmml.fetch.salvage.stream import Stream

NAMES = [chr(97 + i // 26) + chr(97 + i % 26) for i in range(26 * 26)]


def wav(rng: np.random.Generator, samples: int) -> bytes:
    """A header, noise under an envelope with silence: some of it compresses, some does not."""
    t = np.arange(samples)
    noise = rng.normal(0, 900, samples) * (np.sin(t / 700 + rng.uniform(0, 6)) > 0)
    tone = 6000 * np.sin(t * rng.uniform(0.05, 0.8)) * (rng.random() < 0.7)
    data = (noise + tone).astype("<i2").tobytes()
    return b"RIFF" + len(data).to_bytes(4, "little") + b"WAVEfmt " + data


def birds(n: int = 120, samples: int = 30000, seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    return {f"audio/Species_{i // 10:02d}/Bird_{i}.wav": wav(rng, samples + i) for i in range(n)}


def tar(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5  # A fraction makes a pax header for each member.
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def cut(packed: bytes, folder: Path, n: int = 16) -> list[Path]:
    """The pieces as `split -b` makes them: of one size but for the last."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(packed) // n)
    paths = [folder / f"audio.tar.gz.part-{NAMES[i]}" for i in range(-(-len(packed) // size))]
    for i, path in enumerate(paths):
        path.write_bytes(packed[i * size : (i + 1) * size])
    return paths


def written(out: Path) -> dict[str, bytes]:
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and p.name != "salvage.json"
    }


def output_by_input(packed: bytes) -> tuple[list[int], list[int]]:
    """How many bytes are out after so many bytes in, every 16 bytes, by zlib itself."""
    d, ins, outs = zlib.decompressobj(31), [0], [0]
    for i in range(0, len(packed), 16):
        outs.append(outs[-1] + len(d.decompress(packed[i : i + 16])))
        ins.append(min(i + 16, len(packed)))
    return ins, outs


def outside(files: dict[str, bytes], packed: bytes, holes: list[tuple[int, int]], slack: int) -> set[str]:
    """Members none of whose bytes (headers included) come from a hole or the `slack` compressed bytes behind it."""
    ins, outs = output_by_input(packed)
    lost = [(int(np.interp(a, ins, outs)) - 600, int(np.interp(b + slack, ins, outs)) + 600) for a, b in holes]
    kept, at = set(), 0
    for name, data in files.items():
        end = at + 1536 + -(-len(data) // 512) * 512
        if not any(at < b and a < end for a, b in lost):
            kept.add(name)
        at = end
    return kept


class Shelf:
    """A supply that counts: parts are there or not, and how many are held at once."""

    def __init__(self, paths: list[Path], gone: Collection[int] = (), once: bool = False) -> None:
        self.paths, self.gone, self.once = paths, set(gone), once
        self.names = tuple(p.name for p in paths)
        self.asked: list[int] = []
        self.held: set[int] = set()
        self.peak = 0

    def get(self, index: int) -> Path | None:
        self.asked.append(index)
        if index in self.gone or not self.paths[index].exists():
            return None
        self.held.add(index)
        self.peak = max(self.peak, len(self.held))
        return self.paths[index]

    def release(self, index: int) -> None:
        self.held.discard(index)
        if self.once and index not in self.gone:
            self.paths[index].unlink(missing_ok=True)


class Sized(Shelf):
    """One that knows how large its parts must be."""

    def __init__(self, paths: list[Path], gone: Collection[int] = ()) -> None:
        super().__init__(paths, gone)
        self.sizes = [p.stat().st_size for p in paths]

    def expected_size(self, index: int) -> int:
        return self.sizes[index]


def hostile_tar(*members: tuple[str, bytes, bytes, str]) -> bytes:
    """Members of any type: name, type, data, and where a link leads."""
    made = b""
    for name, kind, data, link in members:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, len(data), link
        made += info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    return made + bytes(1024)


def mixed(seed: int, most: int = 40, noise: bool = True) -> dict[str, bytes]:
    """Silence, sounds, text and (with `noise`) what does not compress, of very different sizes and name lengths."""
    rng = np.random.default_rng(seed)
    files = {}
    for i in range(int(rng.integers(1, most))):
        kind, size = rng.integers(4 if noise else 3), int(rng.integers(0, 30_000) * rng.choice([1, 4]))
        data = [bytes(size), wav(rng, size // 2), b"text %d " % i * (size // 7), rng.bytes(size)][kind]
        files["/".join(["d" * int(rng.integers(1, 70))] * int(rng.integers(1, 4))) + f"/{i}"] = data
    return files


SMALL = birds(60, 20000)


def drink(stream: Stream, got: dict[str, RecoveredMember], stop: int | None = None, every: int = 1) -> bool:
    """Take members as a consumer does, the first of each name; whether the end was reached before `stop` events."""
    last = 0
    for n, event in enumerate(stream, 1):
        if isinstance(event, RecoveredMember):
            got.setdefault(event.name, event)
        last = event.seq
        if n % every == 0:
            stream.acknowledge(last)
        if n == stop:
            return False
    stream.acknowledge(last)
    return True


def plain(got: dict[str, RecoveredMember]) -> dict[str, bytes]:
    return {name: member.data for name, member in got.items()}

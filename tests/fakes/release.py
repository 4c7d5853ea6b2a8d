"""A miniature of the published release in its true layout, seeded, with defects planted and every one recorded.

    root/record.json                        Zenodo's record of what lies in files/
    root/files/bird-mml.csv
    root/files/photos.tar.gz                bird-mml/photos/199840.0/770647.JPG
    root/files/audio.tar.gz.part-aa ..      bird-mml/audio/Haemorhous_mexicanus/House_Finch_323531_clip1.wav
    root/withheld/audio.tar.gz.part-ah      parts that were never uploaded

Numbers, names and defects are the release's as far as they are known; pictures and sounds are computed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from birdmml.core.files import sha256_bytes, write_json
from fakes.release_media import Archive, Tar, Zip, cut, draw, holders, sing
from fakes.release_plan import PREFIX, ROW_DEFECTS, Knobs, Plan, plan
from fakes.release_table import FakeRow, as_csv, rows_of

RECORD_ID = 18920487
Fate = Literal["complete", "behind", "lost"]


@dataclass(frozen=True)
class Member:
    """A regular file in an archive.

    `parts` are the parts of a split archive that hold any of its bytes. `fate` is "complete" when all parts up to
    its end are there, "lost" when a part of its own is missing, and "behind" when it lies whole behind a hole: it can
    be had, but for what begins in the same deflate block as the hole's end or copies from the hole.
    """

    name: str
    archive: Literal["photos", "audio"]
    size: int
    sha256: str
    parts: tuple[str, ...] = ()
    fate: Fate = "complete"


@dataclass(frozen=True)
class Truth:
    """Everything that was written, for a test to compare with.

    `defects` are row numbers by knob; `refused` the members that must not be extracted, by kind (symlink, hardlink,
    absolute, climbing, device, and bomb, which is regular but oversized); `unlisted` members that no row names;
    `missing` the parts that lie in `withheld/`; `reusing` the species of which several rows name one clip.
    """

    root: Path
    seed: int
    knobs: Knobs
    species: tuple[str, ...]
    reusing: tuple[str, ...]
    rows: tuple[FakeRow, ...]
    members: dict[str, Member]
    defects: dict[str, tuple[int, ...]]
    refused: dict[str, str]
    unlisted: tuple[str, ...]
    missing: tuple[str, ...]

    def fates(self, archive: str = "audio") -> dict[Fate, set[str]]:
        """Names of an archive's regular members by fate."""
        found: dict[Fate, set[str]] = {"complete": set(), "behind": set(), "lost": set()}
        for member in self.members.values():
            if member.archive == archive:
                found[member.fate].add(member.name)
        return found


def write(root: Path, seed: int, **knobs: Any) -> Truth:
    """Write the miniature of this seed below `root` (which has none yet); the keywords are those of Knobs.

    Same seed and knobs, same bytes. Raises ValueError for knobs that do not go together.
    """
    chosen = Knobs(**knobs)
    made = plan(seed, chosen)
    files = root / "files"
    files.mkdir(parents=True)
    text, rows = as_csv(rows_of(made, seed), chosen)
    (files / "bird-mml.csv").write_bytes(text.encode(chosen.encoding))
    work = _Writing(files, made, chosen, seed)
    members = work.photos() | work.audio()
    rows = [_there(row, members) for row in rows]
    for part in work.missing:
        part.rename(_folder(root / "withheld") / part.name)
    write_record(root, chosen.base, chosen.dialect)
    used = {r.photo_member for r in rows} | {r.audio_member for r in rows}
    return Truth(
        root=root,
        seed=seed,
        knobs=chosen,
        species=tuple(b.species.scientific_name for b in made.birds),
        reusing=tuple(made.birds[b].species.scientific_name for b in sorted(made.reusing)),
        rows=tuple(rows),
        members=members,
        defects={d: tuple(r.number for r in rows if r.defect == d) for d in ROW_DEFECTS if getattr(chosen, d)},
        refused=work.refused,
        unlisted=tuple(sorted(set(members) - used)),
        missing=tuple(part.name for part in work.missing),
    )


def write_record(root: Path, base: str, dialect: str = "new") -> None:
    """Write root/record.json for what lies in root/files now, in Zenodo's new or old dialect."""
    listed = []
    for path in sorted((root / "files").iterdir()):
        with path.open("rb") as f:
            md5 = hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        link = f"{base}/api/records/{RECORD_ID}/files/{path.name}"
        number = sha256_bytes(path.name.encode())[:8]
        if dialect == "new":
            links = {"self": f"{link}/content"}
            sized = {"key": path.name, "size": path.stat().st_size, "checksum": f"md5:{md5}"}
        else:
            links = {"self": link, "download": f"{link}/content"}
            sized = {"filename": path.name, "filesize": path.stat().st_size, "checksum": md5}
        listed.append({"id": number, **sized, "links": links})
    record = {"id": RECORD_ID, "metadata": {"title": "Bird-MML"}, "links": {"self": f"{base}/api/records/{RECORD_ID}"}}
    write_json(root / "record.json", {**record, "files": listed})


class _Writing:
    """The archives of one miniature."""

    def __init__(self, files: Path, made: Plan, knobs: Knobs, seed: int) -> None:
        self.files, self.made, self.knobs, self.seed = files, made, knobs, seed
        self.refused: dict[str, str] = {}
        self.missing: list[Path] = []
        self._hashes: dict[str, tuple[int, str]] = {}

    def photos(self) -> dict[str, Member]:
        """Write the photos; the regular members by name."""
        kind, knobs = self.knobs.photo_archive, self.knobs
        path = self.files / f"photos.{'tar.gz' if kind == 'split' else kind}"
        level = None if kind == "tar" else knobs.gzip_level
        archive: Archive = Zip(path, knobs.gzip_level) if kind == "zip" else Tar(path, level)
        self._hostile(archive, "photos")
        for bird in range(len(self.made.birds)):
            drawn = draw(self.made.shots[bird], self.seed, bird, knobs)
            for inside in sorted(drawn):
                self._add(archive, PREFIX + inside, drawn[inside])
        archive.close()
        if kind == "split":
            return self._split(path, archive, "photos", knobs.photo_parts, knobs.missing_photo_parts)
        return {name: Member(name, "photos", *self._hashes[name]) for name in archive.spans}

    def audio(self) -> dict[str, Member]:
        """Write the clips, species in name order; the regular members by name."""
        path = self.files / "audio.tar.gz"
        archive = Tar(path, self.knobs.gzip_level)
        self._hostile(archive, "audio")
        for number, bird in enumerate(self.made.birds):
            archive.folder(f"{PREFIX}audio/{bird.folder}")
            sung = sing(self.made.sounds[number], self.seed, number, self.knobs)
            for sound in sorted(self.made.sounds[number], key=lambda s: s.path):
                name = PREFIX + sound.path
                if sound.path in sung:
                    self._add(archive, name, sung[sound.path])
                elif sound.how == "bombs":
                    self._bomb(archive, name)
                elif sound.how == "linked_audio":
                    kind = ("symlink", "hardlink")[sound.xc % 2]
                    self._special(archive, name, kind, "../../../../../../etc/passwd")
        archive.close()
        return self._split(path, archive, "audio", self.knobs.audio_parts, self.knobs.missing, self.knobs.part_bytes)

    def _split(
        self,
        path: Path,
        archive: Archive,
        kind: Literal["photos", "audio"],
        pieces: int,
        missing: tuple[str, ...],
        size: int = 0,
    ) -> dict[str, Member]:
        parts = cut(path, f"{path.name}.part-", pieces, size)
        gone = [p for p in parts if p.name[-2:] in missing]
        if len(gone) != len(missing):
            raise ValueError(f"no part {', '.join(missing)} among {len(parts)} of {path.name}")
        self.missing += gone
        order = [p.name for p in parts]
        lost = {p.name for p in gone}
        hole = min((order.index(n) for n in lost), default=len(order))
        members = {}
        for name, held in holders(parts, archive.spans).items():
            last = max(order.index(n) for n in held)
            fate: Fate = "lost" if lost & set(held) else "complete" if last < hole else "behind"
            members[name] = Member(name, kind, *self._hashes[name], held, fate)
        return members

    def _add(self, archive: Archive, name: str, data: bytes) -> None:
        archive.add(name, data)
        self._hashes[name] = (len(data), sha256_bytes(data))

    def _bomb(self, archive: Archive, name: str) -> None:
        archive.zeros(name, self.knobs.bomb_bytes)
        digest = hashlib.sha256()
        for at in range(0, self.knobs.bomb_bytes, 1 << 20):
            digest.update(bytes(min(1 << 20, self.knobs.bomb_bytes - at)))
        self._hashes[name] = (self.knobs.bomb_bytes, digest.hexdigest())
        self.refused[name] = "bomb"

    def _special(self, archive: Archive, name: str, kind: str, target: str = "") -> None:
        if archive.special(name, kind, target):
            self.refused[name] = kind

    def _hostile(self, archive: Archive, folder: str) -> None:
        """Members that no one should extract, at the front, where no hole can hide them."""
        inside = f"{PREFIX}{folder}"
        for n in range(self.knobs.absolute_members):
            self._foreign(archive, f"/{inside}/absolute_{n}", "absolute")
        for n in range(self.knobs.climbing_members):
            self._foreign(archive, f"{inside}/../../../climbing_{n}", "climbing")
        for n in range(self.knobs.device_members):
            self._special(archive, f"{inside}/device_{n}", "device")

    def _foreign(self, archive: Archive, name: str, kind: str) -> None:
        archive.add(name, b"outside")
        del archive.spans[name]
        self.refused[name] = kind


def _there(row: FakeRow, members: dict[str, Member]) -> FakeRow:
    """The row with the members that the archives really have."""
    photo, audio = (name if name in members else "" for name in (row.photo_member, row.audio_member))
    return replace(row, photo_member=photo, audio_member=audio)


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path

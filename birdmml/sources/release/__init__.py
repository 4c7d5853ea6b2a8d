"""The published Bird-MML (Zenodo record 18920487), read past its missing part, or files of it that you have.

The archives are read as streams: a member goes from the archive into the build without lying on the disk as a file,
and a part is downloaded, checked, read and deleted before the next one comes. What cannot be had is listed row by row.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from birdmml.core import files
from birdmml.core.pool import Progress
from birdmml.errors import MediaError, SourceError
from birdmml.fetch.salvage.members import Loss, MemberLimits, RecoveredMember, Refusal
from birdmml.schema import Card, Delivery, Photo, Recording, Reject
from birdmml.sources.common import disk_lines, file_stamp
from birdmml.sources.release import table
from birdmml.sources.release.archive import RECORD, Archives, DownloadedFiles, LocalFiles, ReleaseFiles, every, look
from birdmml.sources.release.index import HAD, ReleaseIndex
from birdmml.sources.release.table import PREFIX, member_key, member_path
from birdmml.sources.release.zenodo import ZENODO, Release

CARD = Card(
    summary="Bird-MML as published: 149,681 rows of 150 species, with a part of its audio missing",
    license="as each file's row says; unknown where the release does not say",
    citation="Koutoupis et al., The More, the Merrier: Contrastive Fusion, CVPR 2026 (arXiv 2511.21331)",
    url="https://zenodo.org/records/18920487",
)
# What the paper reports; compared with what is found, never assumed.
PAPER = {"rows": 149_681, "species": 150}
LIMITS = MemberLimits(member_bytes=32 << 20)
KINDS = ("photo", "audio")


@dataclass(frozen=True)
class Settings:
    """`root` is a folder with files of the release (else they are downloaded from `zenodo`'s record `record`);
    `caption` is the table's column of captions, `encoding` the table's; clips are cut to `clip_seconds`.
    """

    root: str = ""
    record: str = "18920487"
    zenodo: str = ZENODO
    caption: str = table.CAPTION
    clip_seconds: float = 10.0
    encoding: str = "utf-8"


def open_media(settings: Settings, locator: str) -> Path:
    """A file of an unpacked release; raises MediaError if it has gone."""
    for base in (Path(settings.root).expanduser(), Path(settings.root).expanduser() / PREFIX):
        if (path := base / locator).is_file():
            return path
    raise MediaError("missing_file", "there is no such file")


def stamp(settings: Settings, locator: str) -> str:
    """Members of archives are named by the checked archive; files of an unpacked one by size and time."""
    if not settings.root:
        return ""
    try:
        return file_stamp(open_media(settings, locator))
    except MediaError:
        return ""


def decoding(settings: Settings) -> dict[str, Any]:
    """The settings that decide what a record becomes: not where its bytes come from."""
    return {"clip_seconds": settings.clip_seconds}


def public_settings(settings: Settings) -> dict[str, Any]:
    """The settings without the user's path."""
    return {k: v for k, v in asdict(settings).items() if k not in ("root", "zenodo")}


def plan(settings: Settings, out: Path) -> list[str]:
    """What would be read, in lines: files, sizes, what is missing, and the room on the disk."""
    lacking: list[str] = []
    if settings.root:
        folder_of = LocalFiles(Path(settings.root).expanduser())
        release, lacking = folder_of.release, folder_of.lacking()
    else:
        with tempfile.TemporaryDirectory() as folder:
            release = look(settings.zenodo, settings.record, Path(folder))
    sizes = [f.size for f in every(release)]
    lines = [
        *_archive_lines(release, lacking),
        f"{'read' if settings.root else 'download':<7} {files.human_bytes(sum(sizes))} in {len(sizes)} files, "
        f"the largest {files.human_bytes(max(sizes))}",
    ]
    # Encoded media wait in staging while the dataset is written: twice the data, and one part.
    return [*lines, *disk_lines(out, 2 * sum(sizes) + (0 if settings.root else max(sizes)), "up to")]


def _archive_lines(release: Release, lacking: Sequence[str]) -> Iterator[str]:
    yield f"table   {release.csv.key} ({files.human_bytes(release.csv.size)})"
    for kind, archives in (("photos", release.photos), ("audio", release.audio)):
        for archive in archives:
            size = files.human_bytes(sum(f.size for f in archive.files))
            parts = f", {len(archive.files)} parts" if archive.split else ""
            unsure = sum(f.md5 is None for f in archive.files)
            yield f"{kind:<7} {archive.name} ({size}{parts}{f', {unsure} without an MD5' if unsure else ''})"
            if gone := sorted([*archive.missing, *(f.key for f in archive.files if f.key in lacking)]):
                yield f"        missing: {', '.join(gone)}; what lay in them is lost, the rest is read"


class ReleaseSession:
    """Deliveries from the archives, in the order in which they stand there; `folder` keeps what it must not forget."""

    def __init__(
        self, settings: Settings, folder: Path, limit: int | None, retry_failed: bool, progress: Progress
    ) -> None:
        self._settings, self._progress = settings, progress
        self.resumes = True
        self.turn: Callable[[], None] = lambda: None
        self._seq = 0
        self._index = ReleaseIndex(folder / "release.sqlite")
        root = Path(settings.root).expanduser() if settings.root else None
        try:
            self._shelf: ReleaseFiles = (
                LocalFiles(root, self._index)
                if root
                else DownloadedFiles(settings.zenodo, settings.record, folder, retry_failed, progress)
            )
            self._load(limit)
        except BaseException:  # Whatever it is, files are closed; raised again.
            new = self._index.fact("loaded") is None
            self._index.close()
            if new and not (folder / RECORD).exists():
                shutil.rmtree(folder)  # Nothing is in it that would be of use the next time.
            raise
        # A lambda, for `turn` is set later, by the reader.
        self._archives = Archives(self._shelf, self._index, folder, LIMITS, root, lambda: self.turn())
        self.total: int | None = self._index.total()

    def __iter__(self) -> Iterator[Delivery]:
        for reject in self._index.refused():
            yield self._numbered(reject)
        for kind in KINDS:
            for event, path in self._archives.events(kind):
                yield from self._event(kind, event, path)
                self._archives.heard(event, self._seq)
        for kind in KINDS:
            if kind not in self._archives.opened:  # A build would be empty.
                gone = ", ".join(self._archives.unavailable(kind)) or "no archive with that in its name"
                raise SourceError(
                    f"the release has no {kind} that can be read ({gone}): download it again, or with --retry-failed"
                )

    def acknowledge(self, seq: int) -> None:
        """Everything delivered so far up to `seq` is safe: parts that were read may go."""
        self._index.commit()
        self._archives.acknowledge(seq)

    def absent(self) -> Iterator[Reject]:
        """Every row that lacks a half, with the reason; and members that no row names."""
        holes = {kind: self._archives.unavailable(kind) for kind in KINDS}
        for kind in KINDS:
            for names in self._index.ambiguous(kind):
                for name in names:
                    yield Reject(name, "member_ambiguous", _twins(names), absent=True)
        for line, species, kind, path, state, reason in self._index.missing():
            slug, why = state, reason
            if state == "ambiguous":
                why = _twins(json.loads(reason))
            elif not state and holes[kind]:
                # A name that no archive showed may have stood in a part that is lost.
                slug = "lost"
                why = f"it is in none of the parts that are there (not there: {', '.join(holes[kind])})"
            elif not state:
                slug, why = "absent", "the archive has no such member"
            where = f"{self._shelf.release.csv.key}, line {line}"
            detail = f"{'photo' if kind == 'photo' else 'clip'} {path}: {why}"
            yield Reject(where, f"{kind}_{slug}", detail, True, species)

    def withdrawn(self) -> Iterator[str]:
        """Locators of media that were handed over and then turned out to be one of two with the same name."""
        for kind in KINDS:
            for names in self._index.ambiguous(kind):
                yield from names

    def recovered(self) -> Iterator[str]:
        """Locators of what lies behind a hole that has not closed."""
        for kind in KINDS:
            yield from self._archives.behind(kind)

    def facts(self) -> dict[str, Any]:
        """What the manifest says: the table and the archives as found, beside what the paper says."""
        return {
            "demo": False,
            "paper": PAPER,
            "table": self._index.fact("table"),
            "disagreements": self._index.fact("disagreements"),
            "members": {kind: self._members(kind) for kind in KINDS},
            "not_there": {kind: self._archives.unavailable(kind) for kind in KINDS},
            "broken_inside": {kind: self._archives.broken(kind) for kind in KINDS},
            "uncertain_bytes": {kind: self._archives.uncertain(kind) for kind in KINDS},
            "unverified": {kind: self._archives.unverified(kind) for kind in KINDS},
            "without_md5": sum(f.md5 is None for f in every(self._shelf.release)),
        }

    def _members(self, kind: str) -> dict[str, int]:
        counts = self._index.counts(kind)
        had = sum(counts.pop(state, 0) for state in HAD)
        recovered = sum(1 for _ in self._archives.behind(kind))
        counted = {"complete": had - recovered, "recovered": recovered, **counts}
        return {state: n for state, n in sorted(counted.items()) if n}

    def unfinished(self) -> str:
        """The parts that could not be had, and how to go on with them."""
        gone = [name for kind in KINDS for name in self._archives.unavailable(kind)]
        if not gone:
            return ""
        how = (
            f"put them into {self._settings.root} and run the same command with --resume"
            if self._settings.root
            else "when they can be had, run the same command with --resume --retry-failed"
        )
        return f"{', '.join(gone)} could not be read: {how}"

    def close(self) -> None:
        """Close the files; what was not acknowledged comes again."""
        self._shelf.close()
        self._index.close()

    def _load(self, limit: int | None) -> None:
        """Take the table in, once; a changed one may not be mixed with what was built from the old one."""
        shelf, index = self._shelf, self._index
        path = shelf.path(shelf.release.csv)
        if path is None:
            state = shelf.states[shelf.release.csv.key]
            shelf.close()
            how = (
                f"put a sound one into {self._settings.root}"
                if self._settings.root
                else "when it can be had, run the same command with --retry-failed"
            )
            raise SourceError(
                f"{shelf.release.csv.key} cannot be had ({state}), and nothing can be built without it: {how}"
            )
        which = [files.sha256_file(path), self._settings.caption, self._settings.encoding, limit]
        if (loaded := index.fact("loaded")) == which:
            return
        if loaded is not None:
            raise SourceError(
                f"{path.name}, --caption, --encoding or --limit is another one than in the unfinished build: "
                "delete the .partial folder to start over, or give what was given before"
            )
        self._progress("read the table", 0, 1)
        index.load(table.read(path, self._settings.caption, self._settings.encoding), limit)
        index.note("loaded", which)
        index.commit()
        self._progress("read the table", 1, 1)

    def _numbered(self, record: Photo | Recording | Reject, data: bytes | None = None) -> Delivery:
        self._seq += 1
        return Delivery(record, data, self._seq)

    def _event(self, kind: str, event: RecoveredMember | Refusal | Loss, path: Path | None) -> Iterator[Delivery]:
        key, index = member_key(event.name), self._index
        name, state, reason = index.member(kind, key)
        here = member_path(event.name) or event.name
        if not isinstance(event, RecoveredMember):
            refused = isinstance(event, Refusal)
            if state not in (*HAD, "ambiguous"):
                index.met(kind, key, here, "refused" if refused else "lost", event.reason)
            if refused:
                yield self._numbered(Reject(event.name, "member_refused", event.reason, absent=True))
        elif state in HAD and name != here:
            # Nothing tells which of the two is meant, so neither may be used.
            index.met(kind, key, name, "ambiguous", json.dumps(sorted((name, here))))
        elif state == "ambiguous":
            index.met(kind, key, name, state, json.dumps(sorted({here, *json.loads(reason)})))
        elif state not in HAD:
            yield from self._member(kind, key, here, event, path)

    def _member(self, kind: str, key: str, name: str, member: RecoveredMember, path: Path | None) -> Iterator[Delivery]:
        index = self._index
        records: Sequence[Photo | Recording] = (
            index.photos(key, name) if kind == "photo" else index.recordings(key, name)
        )
        for record in records:
            yield self._numbered(record, None if path else member.data)
        if not records and not index.listed(kind, key):
            detail = "no row of the table that can be used names this member"
            yield self._numbered(Reject(name, "not_in_table", detail, absent=True))
        index.met(kind, key, name, member.state, archive=self._archives.current, behind=member.behind)


def _twins(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} have the same name but for spelling: which is meant cannot be known"


session = ReleaseSession  # What a build calls.

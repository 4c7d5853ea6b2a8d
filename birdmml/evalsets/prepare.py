"""A user's own copy of an evaluation set -> one folder of parquet, made once and read by `birdmml.evalsets.read`."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from birdmml import __version__
from birdmml.core import files, settings
from birdmml.core.pool import Pool, Progress, counter, silent
from birdmml.dataset.decode import next_chunk
from birdmml.dataset.format import MANIFEST
from birdmml.dataset.place import BuildPlace
from birdmml.dataset.shards import SHARD_BYTES, WrittenShard, shard_name, write_shard
from birdmml.errors import BuildError, EvalsetError, UsageError
from birdmml.evalsets import account
from birdmml.evalsets._annotations import AnnotatedItem
from birdmml.evalsets.account import EvalsetSurvey, write_report
from birdmml.evalsets.arrays import KIND, Gathered, SplitSource, schema, table
from birdmml.evalsets.decode import (
    DecodedFile,
    DecodeTask,
    EvalsetRow,
    MediaFile,
    decode,
    plan,
    prepare_shard,
    receipts,
)
from birdmml.evalsets.read import Prepared, digest, is_prepared, manifest_head, read_manifest
from birdmml.evalsets.shelf import EvalsetFiles, EvalsetLayout
from birdmml.schema import Reject

CHUNK_WORK = 128
_WORK = {"videos": 8}  # A video takes as long as hundreds of photos; a chunk is what a kill can lose.
CHUNK_BYTES = 64 << 20  # Of an archive's media, which wait on disk: a process holds one chunk.
FRAME_PX = 256
MAX_REJECTS = 0.01
COLLECTION = "samples"  # Of a set of arrays, which has one.
GROUP_BYTES = 16 << 20  # A row group is what a training reads at once.


@dataclass(frozen=True)
class MediaOptions:
    """What decides the bytes: the short side of stored frames in px (0 keeps it), at most so many rows a split."""

    frame_px: int = FRAME_PX
    limit: int | None = None


@dataclass(frozen=True)
class Preparation:
    """A finished preparation. `resumed` counts files that an earlier one had decoded."""

    root: Path
    manifest: Mapping[str, Any]
    report: Mapping[str, Any]
    resumed: int = 0


def look(module: ModuleType, source: Path, options: MediaOptions, progress: Progress) -> EvalsetSurvey:
    """What `prepare` would begin with; nothing is written. Raises EvalsetError as `survey` does."""
    try:
        return survey(module, EvalsetFiles(source, layout(module), module.ARCHIVES), options, progress)
    except OSError as e:
        raise EvalsetError(f"{e.filename or source} cannot be read ({e.strerror or e}): check its permissions") from e


def survey(module: ModuleType, shelf: EvalsetFiles, options: MediaOptions, progress: Progress) -> EvalsetSurvey:
    """Look through the source. Raises EvalsetError if it is not this set, or holds none of its media."""
    total = sum(archive.stat().st_size for archive in shelf.archives)
    listing = shelf.scan(lambda done: progress("look through", done, total))
    try:
        annotations = module.annotate(listing.tables, frozenset(listing.files))
    except EvalsetError as e:
        raise EvalsetError("; ".join([str(e), *listing.notes[:3]])) from e
    entries = {name: _limited(listed, options.limit) for name, listed in annotations.entries.items()}
    if not any(entries.values()):
        rejects = annotations.rejects
        first = f", first {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        lines = [f"not one file that the tables name is there ({len(rejects):,} rows{first})"]
        lines += [f"{r.path}: {r.detail}" for r in listing.strays[:1]]
        raise EvalsetError("; ".join(lines + listing.notes[:3]))
    return EvalsetSurvey(listing, annotations, entries)


def layout(module: ModuleType) -> EvalsetLayout:
    """Which files of an archive the set is made of."""
    return EvalsetLayout(module.TABLES, tuple(c.folder for c in module.COLLECTIONS))


def prepare(
    module: ModuleType,
    source: Path,
    out: Path,
    options: MediaOptions | None = None,
    workers: int = 1,
    max_rejects: float = MAX_REJECTS,
    resume: bool = False,
    progress: Progress | None = None,
) -> Preparation:
    """Convert the user's copy at `source` into `out`, which is replaced only by a complete set.

    A set of which more than `max_rejects` (a share of the tables' rows) cannot be used is written too, and says so in
    `report["accepted"]`; but it does not replace one that is there. Raises EvalsetError if the source is not this
    set, BuildError if `out` cannot be written, UsageError for `resume` without unfinished work.
    """
    with BuildPlace(out, is_prepared) as place:
        try:
            return _Stages(module, source, place, options or MediaOptions(), progress or silent).run(
                workers, max_rejects, resume
            )
        except OSError as e:
            raise BuildError(place.disk_words(e)) from e


class _Stages:
    """The stages of one preparation, in order."""

    def __init__(
        self, module: ModuleType, source: Path, place: BuildPlace, options: MediaOptions, progress: Progress
    ) -> None:
        self.module, self.place, self.options, self.progress = module, place, options, progress
        self.name = module.__name__.rpartition(".")[2]
        self.shelf = EvalsetFiles(source, layout(module), module.ARCHIVES)
        self.kinds = {c.folder: c.kind for c in module.COLLECTIONS}

    def run(self, workers: int, max_rejects: float, resume: bool) -> Preparation:
        work = self.place.work
        if resume and not self.place.has_work():
            raise UsageError(f"--resume: there is no unfinished work in {work}: leave --resume out to begin")
        # Decoded files are found again by their content, so neither the source's form nor --limit matters here.
        key = files.digest([__version__, self.name, account.settings(self.options.frame_px, None)])
        if not self.place.prepare(key) and resume:
            raise UsageError(f"--resume: the work in {work} was made with other settings, and is gone now: begin anew")
        shutil.rmtree(self.place.spool, ignore_errors=True)
        seen = survey(self.module, self.shelf, self.options, self.progress)
        seen.listing.notes += self._checksums()
        with Pool(workers) as pool:
            done, resumed = self._decode(seen, pool)
            rows, rejects = self._rows(seen, done)
            need = sum(row.decoded.bytes for splits in rows.values() for part in splits.values() for row in part)
            free = shutil.disk_usage(work).free
            if free < need:
                raise BuildError(
                    f"the set needs {files.human_bytes(need)} and {work} has {files.human_bytes(free)} left: "
                    "free some space and run the same command again (finished work is kept), or choose another --out"
                )
            shards = self._write(seen.annotations.classes, rows, pool)
        chosen = account.settings(self.options.frame_px, self.options.limit)
        manifest = account.manifest(self.module, self.name, chosen, seen, rows, shards)
        report = account.report(manifest, seen, rows, rejects, max_rejects)
        write_report(self.place.dataset, report, manifest["classes"], rows, self.place.staging)
        files.write_json(self.place.dataset / MANIFEST, manifest)
        if not report["accepted"] and is_prepared(self.place.out):
            raise BuildError(
                f"{report['rejected']:,} of {report['considered']:,} rows cannot be used, and {self.place.out} holds "
                f"a finished set, which stays; this one's report is {self.place.dataset / 'report' / 'index.html'}: "
                "name another --out, or allow more with --max-rejects"
            )
        self.place.commit()
        return Preparation(self.place.out, manifest, report, resumed)

    def _checksums(self) -> list[str]:
        """A note for an archive that bears the published one's name and not its MD5."""
        download, notes = self.module.DOWNLOAD, list[str]()
        for archive in self.shelf.archives if download.md5 else []:
            if archive.name == download.file:
                self.progress("compare MD5", 0, 1)
                with archive.open("rb") as f:
                    # The providers publish no other hash.
                    md5 = hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
                if md5 != download.md5:
                    notes.append(f"{archive.name} has MD5 {md5}, the published one has {download.md5}")
        return notes

    def _decode(self, seen: EvalsetSurvey, pool: Pool) -> tuple[dict[str, DecodedFile], int]:
        """What became of every wanted file; files that an earlier run has decoded are taken as they are."""
        keys = seen.listing.files
        wanted = {e.file: keys[e.file] for listed in seen.entries.values() for e in listed}
        kept = (d for d in receipts(self.place.staging) if d.reason != "unreadable")  # Permissions may be mended.
        done = {d.file: d for d in kept if wanted.get(d.file) == d.key}
        resumed, total = len(done), len(wanted)
        left = {file: key for file, key in wanted.items() if file not in done}
        spools: dict[int, Path] = {}

        def finish(index: int, part: list[DecodedFile]) -> None:
            done.update((d.file, d) for d in part)
            spools.pop(index).unlink(missing_ok=True)
            self.progress("decode", len(done), total)

        self.progress("decode", resumed, total)
        pool.feed(decode, self._chunks(left, spools), finish)
        if lost := [file for file in wanted if file not in done]:
            raise EvalsetError(
                f"{len(lost):,} files were there a moment ago and are not now, first {lost[0]}: do not change the "
                "source while it is read, and run the same command again"
            )
        return done, resumed

    def _chunks(self, wanted: Mapping[str, str], spools: dict[int, Path]) -> Iterator[DecodeTask]:
        """Chunks as the source hands out its files; bytes from archives wait on disk until their chunk is done."""
        first = next_chunk(self.place.staging)
        media = self.shelf.media(wanted)
        for index in itertools.count():
            spool = self.place.spool / f"{first + index:06d}.bin"
            items, size, work = list[MediaFile](), 0, 0
            for file, where in media:
                kind = self.kinds[file.split("/")[0]]
                at = str(where) if isinstance(where, Path) else _spooled(where, spool)
                items.append(MediaFile(file, wanted[file], kind, at))
                size += len(where) if isinstance(where, bytes) else 0
                work += _WORK.get(kind, 1)
                if size >= CHUNK_BYTES or work >= CHUNK_WORK:
                    break
            if not items:
                return
            spools[index] = spool
            yield DecodeTask(first + index, str(self.place.staging), tuple(items), self.options.frame_px, str(spool))

    def _rows(self, seen: EvalsetSurvey, done: Mapping[str, DecodedFile]) -> tuple[account.RowsBySplit, list[Reject]]:
        """Rows by collection and split in the tables' order, and everything that did not become one."""
        rejects, rows = list(seen.annotations.rejects), dict[str, dict[str, list[EvalsetRow]]]()
        for name, listed in seen.entries.items():
            rows[name] = {split: [] for split in self.module.SPLITS}
            for entry in listed:
                decoded = done[entry.file]
                if decoded.reason:
                    rejects.append(Reject(entry.file, decoded.reason, decoded.detail))
                else:
                    class_name = seen.annotations.classes[entry.label]
                    rows[name][entry.split].append(EvalsetRow(entry.id, entry.label, class_name, decoded))
        return rows, rejects

    def _write(self, classes: tuple[str, ...], rows: account.RowsBySplit, pool: Pool) -> list[WrittenShard]:
        root, staging = self.place.dataset, self.place.staging
        tasks = [
            task
            for collection in self.module.COLLECTIONS
            for split, part in rows[collection.name].items()
            for task in plan(root, staging, collection, classes, split, part)
        ]
        return pool.run(prepare_shard, tasks, counter(self.progress, "write", len(tasks)))


def _limited(entries: Sequence[AnnotatedItem], limit: int | None) -> tuple[AnnotatedItem, ...]:
    """At most `limit` entries of each split, evenly spread over its table so that many classes are among them."""
    if limit is None:
        return tuple(entries)
    chosen: set[int] = set()
    for split in {e.split for e in entries}:
        mine = [i for i, e in enumerate(entries) if e.split == split]
        chosen |= {mine[k * len(mine) // min(limit, len(mine))] for k in range(min(limit, len(mine)))}
    return tuple(e for i, e in enumerate(entries) if i in chosen)


def _spooled(data: bytes, spool: Path) -> tuple[int, int]:
    spool.parent.mkdir(exist_ok=True)
    with spool.open("ab") as f:
        offset = f.tell()
        f.write(data)
    return offset, len(data)


def prepare_arrays(
    module: ModuleType, source: Path, out: Path, options: Mapping[str, str], progress: Progress | None = None
) -> Prepared:
    """Write the set of numbers that `module` finds in `source` to the folder `out`, in blocks, the manifest last.

    The module brings `Options`, a frozen dataclass of what users may set, `gather(source, options, progress)`, which
    reads and checks the provider's files, PUBLISHED, the provider's counts, and DOWNLOAD. `options` override the
    fields of its `Options`. The same files and options give the same bytes. `out` is as it was until the new set is
    complete. Raises UsageError for an option that does not exist, EvalsetError for files that are not the provider's,
    BuildError where `out` cannot be written or holds something else.
    """
    chosen = settings.override(module.Options(), [f"{k}={v}" for k, v in options.items()])
    name = module.__name__.rpartition(".")[2]
    progress = progress or silent
    with BuildPlace(out, lambda folder: is_prepared(folder) and read_manifest(folder)["name"] == name) as place:
        try:
            gathered: Gathered = module.gather(source, chosen, progress)
            for split, part in gathered.splits.items():
                if part.rows == 0:
                    raise EvalsetError(f"{name}: no sample of {split} is left: see the publisher's files")
            place.prepare("")  # Made anew each time: it takes minutes at most.
            root = place.dataset
            splits = {split: _write(part, gathered, root, split, progress) for split, part in gathered.splits.items()}
            manifest = _describe(module, name, gathered, splits)
            account.write(root / "report", manifest, gathered)
            files.write_json(root / MANIFEST, manifest)
            place.commit()
            return Prepared(place.out, manifest)
        except OSError as e:
            raise BuildError(place.disk_words(e)) from e


def _write(part: SplitSource, gathered: Gathered, root: Path, split: str, progress: Progress) -> dict[str, Any]:
    """The shards of one split, each whole or absent."""
    step = max(1, SHARD_BYTES // sum(f.bytes for f in gathered.fields))
    starts = range(0, part.rows, step)
    shards = []
    for number, start in enumerate(starts):
        stop = min(start + step, part.rows)
        name = f"data/{COLLECTION}/{shard_name(split, number, len(starts))}"
        groups = _groups(part, gathered, start, stop)
        # In chunks of equal content the same numbers would be other bytes.
        shards.append(write_shard(root, name, schema(gathered.fields), groups, ["class_name"], chunked=False))
        progress(f"write {split}", stop, part.rows)
    return {"rows": part.rows, "shards": [s.listed() for s in shards]}


def _groups(part: SplitSource, gathered: Gathered, start: int, stop: int) -> Iterator[pa.Table]:
    step = max(1, GROUP_BYTES // sum(f.bytes for f in gathered.fields))
    for at in range(start, stop, step):
        yield table(part.read(at, min(at + step, stop)), gathered.fields, gathered.class_names)


def _describe(module: ModuleType, name: str, gathered: Gathered, splits: Mapping[str, Any]) -> dict[str, Any]:
    collections = {COLLECTION: {"kind": KIND, "splits": dict(splits)}}
    return {
        **manifest_head(name, gathered.demo, gathered.class_names),
        "collections": collections,
        "published": dict(module.PUBLISHED),
        "found": dict(gathered.counts),
        "differences": [*differences(module.PUBLISHED, gathered.counts), *gathered.notes],
        "left_out": dict(Counter(c.reason for c in gathered.rejects)),
        "changed": dict(Counter(c.reason for c in gathered.changes)),
        "settings": dict(gathered.settings),
        "digest": digest(gathered.class_names, gathered.settings, collections),
    }


def differences(published: Mapping[str, Any], counts: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line for each published count that was not found: "samples.test: 686 published, 685 found"."""
    lines = []
    for key, value in published.items():
        here = counts.get(key)
        if isinstance(value, Mapping):
            lines += differences(value, here if isinstance(here, Mapping) else {}, f"{prefix}{key}.")
        elif here != value:
            want, have = (f"{v:,}" if isinstance(v, int) else "none" if v is None else str(v) for v in (value, here))
            lines.append(f"{prefix}{key}: {want} published, {have} found")
    return lines

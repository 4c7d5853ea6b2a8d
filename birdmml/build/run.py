"""One build from start to finish: the only place where its stages meet."""

from __future__ import annotations

import errno
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml import __version__, discover, files
from birdmml.build import account, assemble, ingest, split, staging, write
from birdmml.build.card import render_card
from birdmml.build.place import Place
from birdmml.build.pool import Pool
from birdmml.build.report import write_report
from birdmml.errors import BuildError, SourceError
from birdmml.manifest import MANIFEST
from birdmml.schema import Photo, Recording, Reject, Triplet

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildSettings:
    """What decides the bytes of a dataset. Fractions are of train, validation and test."""

    source: str
    source_settings: Any
    seed: int = 0
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    passes: int = 0
    limit: int | None = None
    limits: ingest.Limits = field(default_factory=ingest.Limits)


@dataclass(frozen=True)
class Built:
    """A finished build: where it is, its manifest and its validation record."""

    root: Path
    manifest: Mapping[str, Any]
    validation: Mapping[str, Any]
    resumed_chunks: int


def build(
    settings: BuildSettings,
    out: Path,
    workers: int = 1,
    max_rejects: float = 0.01,
    progress: Progress | None = None,
) -> Built:
    """Build a dataset into `out`, which is replaced only by a complete one.

    Raises BuildError if `out` may not be written or more than `max_rejects` (a share) of the media are
    rejected, and SourceError if the source has nothing to offer; `out` is then as it was.
    """
    tell = progress or (lambda stage, done, total: None)
    source = discover.load("source", settings.source)
    with Place(out) as place:
        try:
            return _build(source, settings, place, workers, max_rejects, tell)
        except OSError as e:
            raise BuildError(_disk_words(e, place)) from e


def _build(
    source: ModuleType,
    settings: BuildSettings,
    place: Place,
    workers: int,
    max_rejects: float,
    tell: Progress,
) -> Built:
    records, refused = offered(source, settings)
    tasks = _tasks(source, settings, records, place)
    resuming = place.prepare(
        files.digest([__version__, settings.source, asdict(settings.limits), len(records)])
    )
    with Pool(workers) as pool:
        receipts, resumed = _ingest(tasks, place, pool, tell, resuming)
        media = [m for r in receipts for m in r.media]
        rejects = refused + [x for r in receipts for x in r.rejects]
        sides = split.assign(media, settings.fractions, settings.seed)
        rows, unpaired = assemble.assemble(media, sides, settings.seed, settings.passes)
        validation = account.validation(media, rows, rejects, unpaired, receipts, max_rejects)
        report = place.work / "validation.json"
        files.write_json(report, validation)
        _refuse(validation, report, rows, rejects)
        _check_space(place, rows)
        shard_tasks = write.plan(rows, place.dataset, place.staging, settings.limits.rate_hz)
        shards = pool.run(write.write_shard, shard_tasks, _counter(tell, "write", len(shard_tasks)))
        extras = _extras(source, settings, place.dataset, pool, tell)
    manifest = account.manifest(settings, source, rows, shards, extras)
    _write_words(place.dataset, manifest, validation, tell)
    files.write_json(place.dataset / MANIFEST, manifest)
    place.commit()
    return Built(place.out, manifest, validation, resumed)


def offered(source: ModuleType, settings: BuildSettings) -> tuple[list[Photo | Recording], list[Reject]]:
    """What the source offers, and what it already refuses; at most `limit` of a kind and species.

    Raises SourceError if there is nothing to build from.
    """
    records: list[Photo | Recording] = []
    refused: list[Reject] = []
    taken: dict[tuple[str, bool], int] = defaultdict(int)
    for item in source.records(settings.source_settings):
        if isinstance(item, Reject):
            refused.append(item)
            continue
        kind = (item.species, isinstance(item, Photo))
        taken[kind] += 1
        if settings.limit is None or taken[kind] <= settings.limit:
            records.append(item)
    if not records:
        why = f"; all {len(refused)} entries were refused, first {_line(refused[0])}" if refused else ""
        raise SourceError(f"the {settings.source} source has no photo and no recording to offer{why}")
    return records, refused


def _tasks(
    source: ModuleType, settings: BuildSettings, records: list[Photo | Recording], place: Place
) -> list[ingest.Task]:
    stamp = getattr(source, "stamp", lambda settings, locator: "")
    chunks = [records[i : i + ingest.CHUNK_RECORDS] for i in range(0, len(records), ingest.CHUNK_RECORDS)]
    return [
        ingest.Task(
            number,
            str(place.staging),
            settings.source,
            settings.source_settings,
            settings.limits,
            tuple(chunk),
            tuple(stamp(settings.source_settings, r.locator) for r in chunk),
        )
        for number, chunk in enumerate(chunks)
    ]


def _ingest(
    tasks: list[ingest.Task], place: Place, pool: Pool, tell: Progress, resuming: bool
) -> tuple[list[staging.Receipt], int]:
    """Receipts of all chunks, in order; those that an earlier, interrupted build has left are taken as they are."""
    receipts: dict[int, staging.Receipt] = {}
    if resuming:
        for task in tasks:
            if (receipt := staging.read_receipt(place.staging, task.chunk, task.key())) is not None:
                receipts[task.chunk] = receipt
    resumed = len(receipts)
    todo = [t for t in tasks if t.chunk not in receipts]
    total = sum(len(t.records) for t in tasks)
    count = sum(len(t.records) for t in tasks if t.chunk in receipts)
    tell("decode and check", count, total)

    def done(index: int, receipt: staging.Receipt) -> None:
        nonlocal count
        count += len(todo[index].records)
        receipts[todo[index].chunk] = receipt
        tell("decode and check", count, total)

    pool.run(ingest.ingest, todo, done)
    return [receipts[t.chunk] for t in tasks], resumed


def _refuse(validation: Mapping[str, Any], report: Path, rows: list[Triplet], rejects: list[Reject]) -> None:
    """Stop before anything is written if too much was rejected or nothing can be paired."""
    listed = f"all are listed in {report}"
    if not rows:
        first = f"; first reject: {_line(rejects[0])}" if rejects else ""
        raise BuildError(
            f"no triplet can be made: no species has both a usable photo and a usable recording "
            f"({len(rejects)} rejects{first}); {listed}"
        )
    if not validation["accepted"]:
        shown = "".join(f"\n  {_line(r)}" for r in rejects[:10])
        more = f"\n  ... and {len(rejects) - 10} more" if len(rejects) > 10 else ""
        raise BuildError(
            f"{len(rejects)} of {validation['media_checked']} media were rejected "
            f"({100 * validation['reject_share']:.1f} %), over --max-rejects {validation['max_rejects']:g}:"
            f"{shown}{more}\n{listed}; mend or remove them, or allow more with --max-rejects"
        )


def _check_space(place: Place, rows: list[Triplet]) -> None:
    need = sum(r.image.length + r.audio.length for r in rows)
    free = shutil.disk_usage(place.work).free
    if free < need:
        raise BuildError(
            f"the dataset needs {files.human_bytes(need)} and {place.work} has {files.human_bytes(free)} left: "
            "free some space and run the same command again (finished work is kept), or choose another --out"
        )


@dataclass(frozen=True)
class _ExtraTask:
    source: str
    settings: Any
    root: str
    index: int


def _write_extra(task: _ExtraTask) -> None:
    discover.load("source", task.source).write_extra(task.settings, Path(task.root), task.index)


def _extras(
    source: ModuleType, settings: BuildSettings, root: Path, pool: Pool, tell: Progress
) -> dict[str, str]:
    """What a source brings beside its rows (the demo: an evaluation set of videos), as path -> sha256."""
    if not hasattr(source, "extra_tasks"):
        return {}
    count = source.extra_tasks(settings.source_settings)
    tasks = [_ExtraTask(settings.source, settings.source_settings, str(root), i) for i in range(count)]
    if tasks:
        pool.run(_write_extra, tasks, _counter(tell, "videos", count))
        source.finish_extras(settings.source_settings, root)
    found = sorted(p for p in (root / "evalsets").rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): files.sha256_file(p) for p in found}


def _write_words(
    root: Path, manifest: Mapping[str, Any], validation: Mapping[str, Any], tell: Progress
) -> None:
    """The card and the report: for people, from the same manifest."""
    tell("report", 0, 1)
    files.write_text(root / "README.md", render_card(manifest, validation))
    files.write_json(root / "report" / "validation.json", validation)
    write_report(root, manifest, validation)
    tell("report", 1, 1)


def _counter(tell: Progress, stage: str, total: int) -> Callable[[int, object], None]:
    seen: list[int] = []

    def done(index: int, result: object) -> None:
        seen.append(index)
        tell(stage, len(seen), total)

    tell(stage, 0, total)
    return done


def _disk_words(error: OSError, place: Place) -> str:
    where = error.filename or place.work
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"the disk is full at {where}: {place.out} is as it was; free some space and run the same command "
            "again (finished work is kept), or choose another --out"
        )
    return f"{where}: {error.strerror or error}; {place.out} is as it was; mend it and run the same command again"


def _line(reject: Reject) -> str:
    return f"{reject.path}: {reject.reason}: {reject.detail}"

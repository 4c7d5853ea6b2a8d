"""One build from start to finish: the only place where its stages meet."""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import shutil
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml import __version__, discover, files, species_list
from birdmml.build import account, assemble, captioning, ingest, split, staging, write
from birdmml.build.card import render_card
from birdmml.build.catalog import Catalog, Media
from birdmml.build.deliver import Chunks, Keys, Listing, Session, opened
from birdmml.build.listing import write_listings
from birdmml.build.place import Place
from birdmml.build.pool import Pool
from birdmml.build.report import write_report
from birdmml.errors import BuildError, SourceError, UsageError
from birdmml.manifest import MANIFEST
from birdmml.schema import Reject
from birdmml.taxonomy import to_csv

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildSettings:
    """What decides the bytes of a dataset. `evalsets` are folders whose photos must not be trained on.

    `captions` are the captioner's own settings, None for its defaults.
    """

    source: str
    source_settings: Any
    seed: int = 0
    rules: split.Rules = field(default_factory=split.Rules)
    passes: int = 0
    limit: int | None = None
    limits: ingest.Limits = field(default_factory=ingest.Limits)
    evalsets: tuple[str, ...] = ()
    captioner: str = "template"
    captions: Any = None

    @property
    def species_list(self) -> species_list.SpeciesList:
        """The species that there are: those of the source's list, or the shipped 150."""
        return species_list.of_settings(self.source_settings)


@dataclass(frozen=True)
class Effort:
    """How a build works, which its bytes do not depend on; `max_rejects` is a share of the media."""

    workers: int
    max_rejects: float
    resume: bool
    retry_failed: bool


@dataclass(frozen=True)
class Built:
    """A finished build: where it is, its manifest and its validation record.

    `resumed` counts records that an earlier build had done. `unfinished` says why more may be had later; then the
    work is kept in `kept`.
    """

    root: Path
    manifest: Mapping[str, Any]
    validation: Mapping[str, Any]
    resumed: int
    unfinished: str = ""
    kept: Path | None = None


def build(
    settings: BuildSettings,
    out: Path,
    workers: int = 1,
    max_rejects: float = 0.01,
    progress: Progress | None = None,
    resume: bool = False,
    retry_failed: bool = False,
) -> Built:
    """Build a dataset into `out`, which is replaced only by a complete one.

    `resume` demands that there is unfinished work to go on from; `retry_failed` tries again what could not be
    downloaded. Raises BuildError if `out` may not be written or more than `max_rejects` (a share) of the media are
    rejected, and SourceError if the source has nothing to offer; `out` is then as it was.
    """
    tell = progress or (lambda stage, done, total: None)
    source = discover.load("source", settings.source)
    effort = Effort(workers, max_rejects, resume, retry_failed)
    with Place(out) as place:
        try:
            return _Build(source, settings, place, effort, tell).run()
        except OSError as e:
            raise BuildError(place.disk_words(e)) from e
        except sqlite3.OperationalError as e:
            # What SQLite calls an error of the disk is mostly a full one.
            raise BuildError(place.disk_words(OSError(errno.ENOSPC, str(e)))) from e


def session_of(
    source: ModuleType, settings: BuildSettings, folder: Path, tell: Progress, retry_failed: bool = False
) -> Session:
    """The source's own session, or a plain listing of its records."""
    if hasattr(source, "session"):
        found: Session = source.session(settings.source_settings, folder, settings.limit, retry_failed, tell)
        return found
    return Listing(source, settings.source_settings, settings.limit)


class _Build:
    """The stages of one build, in order."""

    def __init__(
        self, source: ModuleType, settings: BuildSettings, place: Place, effort: Effort, tell: Progress
    ) -> None:
        self.source, self.settings, self.place = source, settings, place
        self.effort, self.tell = effort, tell
        self.keys = Keys(source, settings.source, settings.source_settings, settings.limits)

    def run(self) -> Built:
        place, effort = self.place, self.effort
        self._prepare()
        species = self.settings.species_list
        # What measures leaks takes seconds to import: meanwhile, while the workers decode.
        warm = threading.Thread(target=_warm)
        warm.start()
        with (
            opened(
                session_of(self.source, self.settings, place.source, self.tell, effort.retry_failed)
            ) as session,
            Catalog(place.catalog, species=species.taxonomy) as catalog,
            Pool(effort.workers) as pool,
        ):
            resumed = self._ingest(session, catalog, pool)
            media = catalog.freeze()
            leaks, validation = self._assemble(catalog, media)
            written = captioning.write_captions(self.settings, catalog, place, session, self.tell)
            shards = self._write(catalog, pool)
            extras = self._extras(pool) | self._table(species)
            facts = session.facts()
            manifest = account.manifest(
                self.settings, self.source, facts, catalog, shards, extras, written.facts
            )
            validation |= account.of_rows(catalog, shards, species.taxonomy)
            validation |= {"captioner": dict(written.counts)}
            named = account.names_in_captions(shards)
            validation["leakage"] = {
                "splits": leaks,
                "captions": _leaking().of_captions(place.dataset, manifest, named, species.taxonomy),
            }
            self._write_words(catalog, pool, manifest, validation)
            unfinished = session.unfinished()
        files.write_json(place.dataset / MANIFEST, manifest)
        place.commit(keep_work=bool(unfinished))
        return Built(place.out, manifest, validation, resumed, unfinished, place.work if unfinished else None)

    def _prepare(self) -> None:
        captioning.check(self.settings)
        if self.effort.resume and not self.place.has_work():
            raise UsageError(
                f"--resume: there is no unfinished work in {self.place.work}: leave --resume out to build anew"
            )
        key = files.digest([__version__, self.keys.base])
        if not self.place.prepare(key) and self.effort.resume:
            raise UsageError(
                f"--resume: the work in {self.place.work} was made with other settings, and is gone now: "
                "leave --resume out to build anew"
            )

    def _ingest(self, session: Session, catalog: Catalog, pool: Pool) -> int:
        """Fill the catalog; records that an earlier, interrupted build has done are taken as they are."""
        place, settings = self.place, self.settings
        known = 0
        for _, done in staging.receipts(place.staging):
            catalog.add(done, wanted=session.resumes)
            known += len(done)
        template = ingest.Task(
            staging.next_chunk(place.staging), str(place.staging), settings.source,
            settings.source_settings, settings.limits, (),
        )  # fmt: skip
        chunks = Chunks(session, template, self.keys, catalog.want)
        total = session.total or 0

        def done_one(index: int, done: list[staging.Done]) -> None:
            catalog.add(done, wanted=True)
            chunks.finished(index)
            self.tell("decode and check", chunks.records, max(total, chunks.records))

        self.tell("decode and check", 0, total)
        pool.feed(ingest.ingest, chunks, done_one)
        catalog.reject(session.absent())
        catalog.withdraw(session.withdrawn())
        catalog.recover(session.recovered())
        resumed = known if session.resumes else chunks.reused
        if not chunks.records and not resumed:
            raise SourceError(_nothing(settings.source, catalog))
        return resumed

    def _assemble(self, catalog: Catalog, media: Media) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sides, rows, leaks and the first half of the validation record; stops here if that is not acceptable."""
        settings, rules = self.settings, self.settings.rules
        if rules.mode == "released" and len(media) and not (media.row >= 0).any():
            raise UsageError(f"--split released: the {settings.source} source has no row order; use grouped")
        self.tell("split and pair", 0, 1)
        known = settings.species_list.taxonomy
        near = _leaking().near_duplicates(media, rules.near_radius)
        held_out = _leaking().held_out(media, settings.evalsets, rules.near_radius)
        sides = split.assign(media, rules, settings.seed, near, held_out, known)
        rows = assemble.Assembler(
            media, sides, catalog.ids, settings.seed, settings.passes, rules.mode, known
        )
        catalog.add_rows(rows)
        catalog.order_rows()
        validation = account.checks(catalog, rows.tally, self.effort.max_rejects, known)
        report = self.place.work / "validation.json"
        files.write_json(report, validation)
        _refuse(validation, report, catalog)
        leaks = _leaking().of_splits(media, catalog.light(), rules, settings.seed, near)
        if held_out is not None:
            leaks["evaluation_sets"] = {"photos_held_out_in_test": int(held_out.sum())}
        self.tell("split and pair", 1, 1)
        return leaks, validation

    def _write(self, catalog: Catalog, pool: Pool) -> list[write.Shard]:
        place, settings = self.place, self.settings
        _check_space(place, catalog)
        tasks = write.plan(
            catalog, place.catalog, place.dataset, place.staging, settings.seed, settings.limits.rate_hz,
            settings.species_list,
        )  # fmt: skip
        return pool.run(write.write_shard, tasks, _counter(self.tell, "write", len(tasks)))

    def _extras(self, pool: Pool) -> dict[str, str]:
        """What a source brings beside its rows (the demo: an evaluation set of videos), as path -> sha256."""
        source, settings, root = self.source, self.settings, self.place.dataset
        if not hasattr(source, "extra_tasks"):
            return {}
        count = source.extra_tasks(settings.source_settings)
        tasks = [_ExtraTask(settings.source, settings.source_settings, str(root), i) for i in range(count)]
        if tasks:
            pool.run(_write_extra, tasks, _counter(self.tell, "videos", count))
            source.finish_extras(settings.source_settings, root)
        found = sorted(p for p in (root / "evalsets").rglob("*") if p.is_file())
        return {p.relative_to(root).as_posix(): files.sha256_file(p) for p in found}

    def _table(self, species: species_list.SpeciesList) -> dict[str, str]:
        """The table of a list goes into the dataset, which is then read without the list; path -> sha256."""
        if not species:
            return {}
        path = self.place.dataset / species_list.TABLE
        files.write_text(path, to_csv(species.taxonomy.species))
        return {species_list.TABLE: files.sha256_file(path)}

    def _write_words(
        self, catalog: Catalog, pool: Pool, manifest: Mapping[str, Any], validation: Mapping[str, Any]
    ) -> None:
        """The card and the report: for people, from the same manifest."""
        root = self.place.dataset
        self.tell("report", 0, 1)
        files.write_text(root / "README.md", render_card(manifest, validation))
        files.write_json(root / "report" / "validation.json", validation)
        write_listings(root / "report", catalog)
        write_report(root, manifest, validation, pool=pool)
        self.tell("report", 1, 1)


def _warm() -> None:
    # An interrupted program ends below this thread; a true fault is raised again where the module is used.
    with contextlib.suppress(Exception):
        _leaking()


def _leaking() -> ModuleType:
    return importlib.import_module("birdmml.build.leaking")


def _refuse(validation: Mapping[str, Any], report: Path, catalog: Catalog) -> None:
    """Stop before anything is written if too much was rejected or nothing can be paired."""
    listed = f"all are listed in {report}"
    first = list(itertools.islice(catalog.rejects(absent=False), 10))
    if not catalog.count("SELECT count(*) FROM final"):
        shown = f"; first reject: {_line(first[0])}" if first else ""
        raise BuildError(
            f"no triplet can be made: no species has both a usable photo and a usable recording "
            f"({validation['rejected']} rejects{shown}); {listed}"
        )
    if not validation["accepted"]:
        shown = "".join(f"\n  {_line(r)}" for r in first)
        more = f"\n  ... and {validation['rejected'] - 10} more" if validation["rejected"] > 10 else ""
        raise BuildError(
            f"{validation['rejected']} of {validation['media_checked']} media were rejected "
            f"({100 * validation['reject_share']:.1f} %), over --max-rejects {validation['max_rejects']:g}:"
            f"{shown}{more}\n{listed}; mend or remove them, or allow more with --max-rejects"
        )


def _check_space(place: Place, catalog: Catalog) -> None:
    need = catalog.count("SELECT sum(length) FROM final")
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


def _counter(tell: Progress, stage: str, total: int) -> Callable[[int, object], None]:
    seen = itertools.count(1)

    def done(index: int, result: object) -> None:
        tell(stage, next(seen), total)

    tell(stage, 0, total)
    return done


def _nothing(source: str, catalog: Catalog) -> str:
    first = next(catalog.rejects(absent=False), None)
    refused = sum(catalog.reasons(absent=False).values())
    why = f"; all {refused} entries were refused, first {_line(first)}" if first else ""
    return f"the {source} source has no photo and no recording to offer{why}"


def _line(reject: Reject) -> str:
    return f"{reject.path}: {reject.reason}: {reject.detail}"

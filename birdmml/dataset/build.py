"""One build from start to finish: the only place where its stages meet."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml.core import discover, files, species_list
from birdmml.core.pool import Pool, Progress, Writers, counter, give_memory_back, silent
from birdmml.core.species import to_csv
from birdmml.dataset import account, captions, divide, pair, split, write
from birdmml.dataset.card import write_documents
from birdmml.dataset.catalog import Catalog, MediaColumns
from birdmml.dataset.format import MANIFEST
from birdmml.dataset.intake import SourceAccount, session_of, take_up, work_key
from birdmml.dataset.place import BuildPlace
from birdmml.dataset.recipe import BuildSettings
from birdmml.dataset.report import write_listings, write_report
from birdmml.dataset.shards import WrittenShard
from birdmml.errors import BuildError, SourceError, UsageError
from birdmml.schema import Reject

# Puts the end of every record into the catalog, from a session or from finished parts; how many there are, and how many
# of them an earlier run had done.
Fill = Callable[[Catalog, Pool], tuple[int, int]]


def refuse_rejects(validation: Mapping[str, Any], report: Path, catalog: Catalog) -> None:
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


def refuse_nothing(source: str, catalog: Catalog) -> None:
    """Stop because nothing came."""
    first = next(catalog.rejects(absent=False), None)
    refused = sum(catalog.reasons(absent=False).values())
    why = f"; all {refused} entries were refused, first {_line(first)}" if first else ""
    raise SourceError(f"the {source} source has no photo and no recording to offer{why}")


def _line(reject: Reject) -> str:
    return f"{reject.path}: {reject.reason}: {reject.detail}"


@dataclass(frozen=True)
class _ExtraTask:
    """One of the files that a source brings beside its rows (the demo: an evaluation set of videos)."""

    source: str
    settings: Any
    root: str
    index: int

    def below(self, root: Path) -> _ExtraTask:
        """The same task with its files below another folder."""
        return replace(self, root=str(root))


def write_extras(
    source: ModuleType, settings: BuildSettings, root: Path, pool: Writers, report: Progress
) -> dict[str, str]:
    """Write what the source brings beside its rows below the dataset's folder `root`; path -> sha256."""
    if not hasattr(source, "extra_tasks"):
        return {}
    count = source.extra_tasks(settings.source_settings)
    tasks = [_ExtraTask(settings.source, settings.source_settings, str(root), i) for i in range(count)]
    if tasks:
        pool.run(_write_one, tasks, counter(report, "videos", count))
        source.finish_extras(settings.source_settings, root)
    paths = sorted(p for p in (root / "evalsets").rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): files.sha256_file(p) for p in paths}


def _write_one(task: _ExtraTask) -> None:
    discover.load("source", task.source).write_extra(task.settings, Path(task.root), task.index)


@dataclass(frozen=True)
class FinishedBuild:
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
) -> FinishedBuild:
    """Build a dataset into `out`, which is replaced only by a complete one.

    `resume` demands that there is unfinished work to go on from; `retry_failed` tries again what could not be
    downloaded. Raises BuildError if `out` may not be written or more than `max_rejects` (a share) of the media are
    rejected, and SourceError if the source has nothing to offer; `out` is then as it was.
    """
    report = progress or silent
    source = discover.load("source", settings.source)
    with BuildPlace(out) as place, place.telling():
        if place.parts.exists():
            raise BuildError(
                f"{place.parts} holds parts of a divided build: put them together with --finish, or delete that "
                "folder to build anew"
            )

        def opened() -> tuple[SourceAccount, Fill]:
            session = session_of(source, settings, place.source, report, retry_failed)
            return session, functools.partial(take_up, source, settings, session, place.staging, report)

        return _Build(settings, place, report, workers, max_rejects, resume).run(opened)


def finish(
    settings: BuildSettings,
    out: Path,
    workers: int = 1,
    max_rejects: float = 0.01,
    progress: Progress | None = None,
    count: int | None = None,
    pool: Writers | None = None,
) -> FinishedBuild:
    """Make the dataset `out` of its `count` parts (None: as many as there are), byte for byte as `build` does.

    `pool` writes the shards, where that is not for this machine to do. Raises what `build` raises, and BuildError
    if a part is lacking, damaged, being worked on, or made with other settings; the parts are then as they were.
    """
    report = progress or silent
    source = discover.load("source", settings.source)
    with BuildPlace(out) as place, place.telling(), divide.finishing(place.work):
        parts = divide.BuildParts(source, settings, place.parts, count, report)
        return _Build(settings, place, report, workers, max_rejects, writers=pool).run(lambda: (parts, parts.fill))


class _Build:
    """The stages of one build, in order; `writers` write what is large, if not this machine's processes."""

    def __init__(
        self,
        settings: BuildSettings,
        place: BuildPlace,
        report: Progress,
        workers: int,
        max_rejects: float,
        resume: bool = False,
        writers: Writers | None = None,
    ) -> None:
        self.source = discover.load("source", settings.source)
        self.settings, self.place, self.report, self.workers = settings, place, report, workers
        self.max_rejects, self.resume, self.writers = max_rejects, resume, writers

    def run(self, opened: Callable[[], tuple[SourceAccount, Fill]]) -> FinishedBuild:
        """All stages; `opened` gives what the source will say at its end, and what puts its records into a catalog."""
        place = self.place
        self._prepare()
        species = self.settings.species_list
        # What measures leaks takes seconds to import: meanwhile, while the workers decode.
        threading.Thread(target=_warm, daemon=True).start()
        statement, fill = opened()
        with (
            contextlib.closing(statement),
            Catalog(place.catalog, species=species.taxonomy) as catalog,
            Pool(self.workers) as pool,
        ):
            records, resumed = fill(catalog, pool)
            # Some things a source knows only at its end: what never came, must not be used, lay behind a hole.
            catalog.reject(statement.absent())
            catalog.withdraw(statement.withdrawn())
            catalog.recover(statement.recovered())
            if not records and not resumed:
                refuse_nothing(self.settings.source, catalog)
            leaks, validation = self._assemble(catalog, catalog.freeze())
            give_memory_back()
            captioner, captioned = captions.write_captions(self.settings, catalog, place, statement, self.report)
            shards = self._write(catalog, self.writers or pool)
            extras = write_extras(self.source, self.settings, place.dataset, self.writers or pool, self.report)
            if species:
                # The table of a list goes into the dataset, which is then read without the list.
                table = place.dataset / species_list.TABLE
                files.write_text(table, to_csv(species.taxonomy.species))
                extras[species_list.TABLE] = files.sha256_file(table)
            balanced = pair.measure(self.source, self.settings, catalog)
            facts = statement.facts() | ({"balance": pair.summary(balanced)} if balanced else {})
            manifest = account.manifest(self.settings, self.source, facts, catalog, shards, extras, captioner)
            validation |= account.of_rows(catalog, shards, species.taxonomy)
            validation["captioner"] = captioned
            if balanced:
                validation["balance"] = balanced
                # What a species lost is what is lacking in the end, not what was refused on the way.
                lacking = {b["species"]: b["lacking"] for b in balanced}
                for row in validation["by_species"]:
                    row["lost"] = lacking.get(row["species"], row["lost"])
            named = account.names_in_captions(shards)
            validation["leakage"] = {
                "splits": leaks,
                "captions": _leaking().of_captions(place.dataset, manifest, named, species.taxonomy),
            }
            give_memory_back()
            self._write_words(catalog, pool, manifest, validation)
            unfinished = statement.unfinished()
        files.write_json(place.dataset / MANIFEST, manifest)
        place.commit(keep_work=bool(unfinished))
        kept = place.work if unfinished else None
        return FinishedBuild(place.out, manifest, validation, resumed, unfinished, kept)

    def _prepare(self) -> None:
        captions.check(self.settings)
        if self.resume and not self.place.has_work():
            raise UsageError(
                f"--resume: there is no unfinished work in {self.place.work}: leave --resume out to build anew"
            )
        if not self.place.prepare(work_key(self.source, self.settings)) and self.resume:
            raise UsageError(
                f"--resume: the work in {self.place.work} was made with other settings, and is gone now: "
                "leave --resume out to build anew"
            )

    def _assemble(self, catalog: Catalog, media: MediaColumns) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sides, rows, leaks and the first half of the validation record; stops here if that is not acceptable."""
        settings, rules = self.settings, self.settings.rules
        if rules.mode == "released" and len(media) and not (media.row >= 0).any():
            raise UsageError(f"--split released: the {settings.source} source has no row order; use grouped")
        self.report("split and pair", 0, 1)
        taxonomy = settings.species_list.taxonomy
        near = _leaking().near_duplicates(media, rules.near_radius)
        held_out = _leaking().held_out(media, settings.evalsets, rules.near_radius)
        sides = split.assign(media, rules, settings.seed, near, held_out, taxonomy)
        rows = pair.Assembler(media, sides, catalog.ids, settings.seed, settings.passes, rules.mode, taxonomy)
        catalog.add_rows(rows)
        catalog.order_rows()
        validation = account.checks(catalog, rows.tally, self.max_rejects, taxonomy)
        path = self.place.work / "validation.json"
        files.write_json(path, validation)
        refuse_rejects(validation, path, catalog)
        leaks = _leaking().of_splits(media, catalog.light(), rules, settings.seed, near)
        if held_out is not None:
            leaks["evaluation_sets"] = {"photos_held_out_in_test": int(held_out.sum())}
        self.report("split and pair", 1, 1)
        return leaks, validation

    def _write(self, catalog: Catalog, pool: Writers) -> list[WrittenShard]:
        place, settings = self.place, self.settings
        need, free = catalog.count("SELECT sum(length) FROM final"), shutil.disk_usage(place.work).free
        if free < need:
            raise BuildError(
                f"the dataset needs {files.human_bytes(need)} and {place.work} has {files.human_bytes(free)} left: "
                "free some space and run the same command again (finished work is kept), or choose another --out"
            )
        if self.writers is not None:  # They may run on other machines, which see files and not our memory.
            catalog.flush()
        tasks = write.plan(
            catalog, place.catalog, place.dataset, place.staging, settings.seed, settings.limits.rate_hz,
            settings.species_list,
        )  # fmt: skip
        return pool.run(write.build_shard, tasks, counter(self.report, "write", len(tasks)))

    def _write_words(
        self, catalog: Catalog, pool: Pool, manifest: Mapping[str, Any], validation: Mapping[str, Any]
    ) -> None:
        """The card and the report: for people, from the same manifest."""
        root = self.place.dataset
        self.report("report", 0, 1)
        write_documents(root, manifest, validation)
        files.write_json(root / "report" / "validation.json", validation)
        write_listings(root / "report", catalog)
        write_report(root, manifest, validation, pool=pool)
        self.report("report", 1, 1)


def _warm() -> None:
    # An interrupted program ends below this thread; a true fault is raised again where the module is used.
    with contextlib.suppress(Exception):
        _leaking()


def _leaking() -> ModuleType:
    return importlib.import_module("birdmml.dataset.leaks")

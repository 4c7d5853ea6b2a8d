"""One build from start to finish: the only place where its stages meet."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml import __version__
from birdmml.core import discover, files, species_list
from birdmml.core.pool import Pool, Progress, Writers, counter, give_memory_back, silent
from birdmml.core.species import to_csv
from birdmml.dataset import account, captions, divide, pair, split, write
from birdmml.dataset.card import write_documents
from birdmml.dataset.catalog import Catalog, MediaColumns
from birdmml.dataset.format import MANIFEST
from birdmml.dataset.intake import Inlet, Keys, Own, amend, opened, session_of
from birdmml.dataset.place import BuildPlace, telling
from birdmml.dataset.recipe import BuildSettings, Effort
from birdmml.dataset.report import write_listings, write_report
from birdmml.dataset.shards import WrittenShard
from birdmml.errors import BuildError, SourceError, UsageError
from birdmml.schema import Reject

# ---- Whether a build may go on: enough was accepted, something can be paired, the disk has room.


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


def refuse_small_disk(place: BuildPlace, catalog: Catalog) -> None:
    """Stop before anything is written if the disk has no room for it."""
    need = catalog.count("SELECT sum(length) FROM final")
    free = shutil.disk_usage(place.work).free
    if free < need:
        raise BuildError(
            f"the dataset needs {files.human_bytes(need)} and {place.work} has {files.human_bytes(free)} left: "
            "free some space and run the same command again (finished work is kept), or choose another --out"
        )


def refuse_nothing(source: str, catalog: Catalog) -> None:
    """Stop because nothing came."""
    first = next(catalog.rejects(absent=False), None)
    refused = sum(catalog.reasons(absent=False).values())
    why = f"; all {refused} entries were refused, first {_line(first)}" if first else ""
    raise SourceError(f"the {source} source has no photo and no recording to offer{why}")


def _line(reject: Reject) -> str:
    return f"{reject.path}: {reject.reason}: {reject.detail}"


# ---- What a source brings beside its rows (the demo: an evaluation set of videos).


@dataclass(frozen=True)
class _ExtraTask:
    source: str
    settings: Any
    root: str
    index: int

    def below(self, root: Path) -> _ExtraTask:
        """The same task with its files below another folder."""
        return replace(self, root=str(root))


def write_extras(
    source: ModuleType, name: str, settings: Any, root: Path, pool: Writers, tell: Progress
) -> dict[str, str]:
    """Write them below the dataset's folder `root`; path -> sha256."""
    if not hasattr(source, "extra_tasks"):
        return {}
    count = source.extra_tasks(settings)
    tasks = [_ExtraTask(name, settings, str(root), i) for i in range(count)]
    if tasks:
        pool.run(_write_one, tasks, counter(tell, "videos", count))
        source.finish_extras(settings, root)
    found = sorted(p for p in (root / "evalsets").rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): files.sha256_file(p) for p in found}


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
    tell = progress or silent
    source = discover.load("source", settings.source)

    with BuildPlace(out) as place, telling(place):
        if place.parts.exists():
            raise BuildError(
                f"{place.parts} holds parts of a divided build: put them together with --finish, or delete that "
                "folder to build anew"
            )

        def own() -> Inlet:
            session = session_of(source, settings, place.source, tell, retry_failed)
            return Own(source, settings, session, place.staging, tell)

        return _Build(source, settings, place, Effort(workers, max_rejects, resume), tell).run(own)


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
    tell = progress or silent
    source = discover.load("source", settings.source)
    with BuildPlace(out) as place, telling(place), divide.finishing(place.work):
        inlet = divide.BuildParts(source, settings, place.parts, count, tell)
        return _Build(source, settings, place, Effort(workers, max_rejects), tell, pool).run(lambda: inlet)


class _Build:
    """The stages of one build, in order; `writers` write what is large, if not this machine's processes."""

    def __init__(
        self,
        source: ModuleType,
        settings: BuildSettings,
        place: BuildPlace,
        effort: Effort,
        tell: Progress,
        writers: Writers | None = None,
    ) -> None:
        self.source, self.settings, self.place = source, settings, place
        self.effort, self.tell, self.writers = effort, tell, writers

    def run(self, inlet_of: Callable[[], Inlet]) -> FinishedBuild:
        place, effort = self.place, self.effort
        self._prepare()
        species = self.settings.species_list
        # What measures leaks takes seconds to import: meanwhile, while the workers decode.
        threading.Thread(target=_warm, daemon=True).start()
        inlet = inlet_of()
        with (
            opened(inlet.told) as statement,
            Catalog(place.catalog, species=species.taxonomy) as catalog,
            Pool(effort.workers) as pool,
        ):
            taken = inlet.fill(catalog, pool)
            amend(statement, catalog)
            if not taken.records and not taken.resumed:
                refuse_nothing(self.settings.source, catalog)
            leaks, validation = self._assemble(catalog, catalog.freeze())
            give_memory_back()
            written = captions.write_captions(self.settings, catalog, place, statement, self.tell)
            shards = self._write(catalog, self.writers or pool)
            extras = self._extras(self.writers or pool) | self._table(species)
            balanced = pair.measure(
                self.source, self.settings.source_settings, self.settings.limit, catalog, species.taxonomy
            )
            facts = statement.facts() | ({"balance": pair.summary(balanced)} if balanced else {})
            manifest = account.manifest(self.settings, self.source, facts, catalog, shards, extras, written.facts)
            validation |= account.of_rows(catalog, shards, species.taxonomy)
            validation["captioner"] = dict(written.counts)
            pair.add_to_validation(validation, balanced)
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
        return FinishedBuild(place.out, manifest, validation, taken.resumed, unfinished, kept)

    def _prepare(self) -> None:
        captions.check(self.settings)
        if self.effort.resume and not self.place.has_work():
            raise UsageError(
                f"--resume: there is no unfinished work in {self.place.work}: leave --resume out to build anew"
            )
        keys = Keys(self.source, self.settings.source, self.settings.source_settings, self.settings.limits)
        key = files.digest([__version__, keys.base])
        if not self.place.prepare(key) and self.effort.resume:
            raise UsageError(
                f"--resume: the work in {self.place.work} was made with other settings, and is gone now: "
                "leave --resume out to build anew"
            )

    def _assemble(self, catalog: Catalog, media: MediaColumns) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sides, rows, leaks and the first half of the validation record; stops here if that is not acceptable."""
        settings, rules = self.settings, self.settings.rules
        if rules.mode == "released" and len(media) and not (media.row >= 0).any():
            raise UsageError(f"--split released: the {settings.source} source has no row order; use grouped")
        self.tell("split and pair", 0, 1)
        taxonomy = settings.species_list.taxonomy
        near = _leaking().near_duplicates(media, rules.near_radius)
        held_out = _leaking().held_out(media, settings.evalsets, rules.near_radius)
        sides = split.assign(media, rules, settings.seed, near, held_out, taxonomy)
        rows = pair.Assembler(media, sides, catalog.ids, settings.seed, settings.passes, rules.mode, taxonomy)
        catalog.add_rows(rows)
        catalog.order_rows()
        validation = account.checks(catalog, rows.tally, self.effort.max_rejects, taxonomy)
        report = self.place.work / "validation.json"
        files.write_json(report, validation)
        refuse_rejects(validation, report, catalog)
        leaks = _leaking().of_splits(media, catalog.light(), rules, settings.seed, near)
        if held_out is not None:
            leaks["evaluation_sets"] = {"photos_held_out_in_test": int(held_out.sum())}
        self.tell("split and pair", 1, 1)
        return leaks, validation

    def _write(self, catalog: Catalog, pool: Writers) -> list[WrittenShard]:
        place, settings = self.place, self.settings
        refuse_small_disk(place, catalog)
        if self.writers is not None:
            catalog.flush()
        tasks = write.plan(
            catalog, place.catalog, place.dataset, place.staging, settings.seed, settings.limits.rate_hz,
            settings.species_list,
        )  # fmt: skip
        return pool.run(write.build_shard, tasks, counter(self.tell, "write", len(tasks)))

    def _extras(self, pool: Writers) -> dict[str, str]:
        settings = self.settings
        root = self.place.dataset
        return write_extras(self.source, settings.source, settings.source_settings, root, pool, self.tell)

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
        write_documents(root, manifest, validation)
        files.write_json(root / "report" / "validation.json", validation)
        write_listings(root / "report", catalog)
        write_report(root, manifest, validation, pool=pool)
        self.tell("report", 1, 1)


def _warm() -> None:
    # An interrupted program ends below this thread; a true fault is raised again where the module is used.
    with contextlib.suppress(Exception):
        _leaking()


def _leaking() -> ModuleType:
    return importlib.import_module("birdmml.dataset.leaks")

"""A build divided into parts: how one is made in its own folder, on whatever machine, and how all are put together.

data.partial/parts/00003-of-00010/
    plan.json     the settings it is made with
    claim         which run works on it
    staging/ spool/ source/    as those of an undivided build
    told.jsonl    what the source said at its end, and which receipts no longer count
    part.json     written last: the part is complete
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from birdmml import __version__
from birdmml.core import discover, files
from birdmml.core.pool import Pool, Progress, silent
from birdmml.dataset import decode, intake, place
from birdmml.dataset.catalog import Catalog
from birdmml.dataset.intake import ListingSession, SourceAccount, SourceSession
from birdmml.dataset.place import BuildLock, BuildPart
from birdmml.errors import BuildError, UsageError
from birdmml.schema import Article, Reject

if TYPE_CHECKING:
    from birdmml.dataset.recipe import BuildSettings


PLAN, PART_FILE, SOURCE_FILE, CLAIM = "plan.json", "part.json", "told.jsonl", "claim"
# So many parts are listed in a message.
_SHOWN = 20


class PartPlace(place.WorkFolder):
    """Owns the folder of one part of `out` for the time of one run; raises BuildError if it may not or cannot."""

    def __init__(self, out: Path, part: BuildPart) -> None:
        self.build = place.BuildPlace(out)
        super().__init__(self.build.out, self.build.parts / part.name)
        self.claim = BuildLock(self.work / CLAIM, f"part {part.index} of {part.count} of {self.out}")

    def __enter__(self) -> Self:
        self.build.make_work()
        if (self.build.work / "plan").exists() and not self.build.parts.exists():
            raise BuildError(
                f"{self.build.work} has the work of a build that is not divided: finish it with the same command "
                "without --num-shards, or delete that folder, or choose another --out"
            )
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise BuildError(f"cannot write to {self.work} ({e.strerror}): choose another --out") from e
        self.claim.__enter__()
        # Looked at after the claim is made, as --finish does the other way round: one of the two sees the other.
        if holder := finishing(self.build.work).held():
            self.claim.__exit__(None, None, None)
            raise BuildError(f"{self.out} is being finished by {holder}: no part of it can be made now")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.claim.__exit__(kind, value, trace)
        if kind is not None and not self.worth_keeping():
            shutil.rmtree(self.work, ignore_errors=True)
            self.build.forget()

    def prepare(self, key: str, settings: Mapping[str, Any]) -> None:
        """Keep finished work that was made with the same `key`; the part counts as incomplete until `declare`."""
        (self.work / PART_FILE).unlink(missing_ok=True)
        plan = self.work / PLAN
        if _read_object(plan).get("key") != key:
            for folder in self.kept:
                shutil.rmtree(folder, ignore_errors=True)
        self.staging.mkdir(exist_ok=True)
        self.catalog.unlink(missing_ok=True)
        files.write_json(plan, {"key": key, "settings": settings})

    def declare(self, record: Mapping[str, Any], lines: Iterator[tuple[str, Any]]) -> None:
        """The part is complete: write its `record`, after the `lines` of its source, (what, value)."""
        self.claim.check()
        count = 0
        with files.atomic_write(self.work / SOURCE_FILE) as f:
            for line in lines:
                f.write(json.dumps(line).encode() + b"\n")
                count += 1
        sha256 = files.sha256_file(self.work / SOURCE_FILE)
        files.write_json(self.work / PART_FILE, {**record, "lines": count, "told_sha256": sha256})
        self.catalog.unlink(missing_ok=True)


def finishing(work: Path) -> BuildLock:
    """The claim of the run that puts the parts together."""
    return BuildLock(work / CLAIM, f"the dataset that {work} is for")


def counts(folder: Path) -> list[int]:
    """Into how many parts the work below `folder` was divided: several answers where several were begun."""
    names = (path.name.partition("-of-") for path in folder.glob("?????-of-?????"))
    return sorted({int(count) for index, _, count in names if index.isdecimal() and count.isdecimal()})


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class PartMade:
    """A complete part: its folder, how many records it took up and had already, and what became of them."""

    part: BuildPart
    root: Path
    records: int
    resumed: int
    media: int
    rejects: int


def settings_record(source: ModuleType, settings: BuildSettings) -> dict[str, Any]:
    """What decides the bytes of the dataset, by name, without paths: parts and their end must agree on it."""
    record: dict[str, Any] = files.plain_json(
        {
            "birdmml version": __version__,
            "source": settings.source,
            **source.public_settings(settings.source_settings),
            "species list": settings.species_list.sha256,
            "seed": settings.seed,
            "split": settings.rules.mode,
            "split shares": list(settings.rules.fractions),
            "split by author": settings.rules.by_author,
            "near duplicates": settings.rules.near_radius,
            "passes": settings.passes,
            "limit": settings.limit,
            "evaluation sets": [Path(e).name for e in settings.evalsets],
            **asdict(settings.limits),
            # No captioner: captions are written when the parts are put together, by that run's models.
        }
    )
    return record


def build_part(
    settings: BuildSettings,
    out: Path,
    part: BuildPart,
    workers: int = 1,
    progress: Progress | None = None,
    retry_failed: bool = False,
) -> PartMade:
    """Do one part of the dataset `out`; what an earlier run of it has done is kept.

    Raises BuildError if `out` may not be written or another run works on the part, UsageError if the source cannot
    be divided, and SourceError if it cannot be read.
    """
    report = progress or silent
    source = discover.load("source", settings.source)
    with PartPlace(out, part) as here, here.telling():

        def checked(stage: str, done: int, total: int) -> None:
            # A run that has lost its claim must not write on beside the one that took over: asked at each step.
            here.claim.check()
            report(stage, done, total)

        here.prepare(intake.work_key(source, settings), settings_record(source, settings))
        with (
            closing(intake.session_of(source, settings, here.source, checked, retry_failed, part)) as session,
            Catalog(here.catalog, species=settings.species_list.taxonomy) as catalog,
            Pool(workers) as pool,
        ):
            records, resumed = intake.take_up(source, settings, session, here.staging, checked, catalog, pool)
            record = _part_record(source, settings, part, session, catalog, here.staging)
            here.declare(record, _source_facts(session, catalog))
        return PartMade(part, here.work, records, resumed, record["media"], record["rejects"])


def _part_record(
    source: ModuleType, settings: BuildSettings, part: BuildPart, session: SourceSession, catalog: Catalog, folder: Path
) -> dict[str, Any]:
    """What part.json says."""
    mine = "key IN (SELECT key FROM done WHERE wanted)"
    sizes = [decode.data_path(folder, number).stat().st_size for number, _ in decode.receipts(folder)]
    return {
        "part": part.index,
        "count": part.count,
        "settings": settings_record(source, settings),
        "listing": getattr(session, "listing", ""),
        "facts": session.facts(),
        "unfinished": session.unfinished(),
        "records": catalog.count("SELECT count(*) FROM done WHERE wanted"),
        "media": catalog.count(f"SELECT count(*) FROM media WHERE {mine}"),  # noqa: S608  # a constant
        "rejects": catalog.count(f"SELECT count(*) FROM rejects WHERE {mine}"),  # noqa: S608  # a constant
        "chunks": len(sizes),
        "bytes": sum(sizes),
    }


def _source_facts(session: SourceSession, catalog: Catalog) -> Iterator[tuple[str, Any]]:
    """What `BuildParts` must know beside the receipts."""
    for (key,) in catalog.select("SELECT key FROM done WHERE NOT wanted ORDER BY key"):
        yield "stale", key
    yield from (("absent", reject.__dict__) for reject in session.absent())
    yield from (("withdrawn", path) for path in session.withdrawn())
    yield from (("recovered", path) for path in session.recovered())
    articles = session.articles() if hasattr(session, "articles") else {}
    yield from (("article", article.__dict__) for article in articles.values())


class BuildParts(SourceAccount):
    """All parts below `folder` as if one machine had made them; raises BuildError if they are not there and alike.

    Says at the end what the sources of all parts have said, as a session does.
    """

    def __init__(
        self, source: ModuleType, settings: BuildSettings, folder: Path, count: int | None, progress: Progress
    ) -> None:
        self._source, self._settings, self._folder, self._progress = source, settings, folder, progress
        count = _count(folder, count)
        parts = [BuildPart(i, count) for i in range(count)]
        # What part.json says of each.
        self._records = {part: _read_object(folder / part.name / PART_FILE) for part in parts}
        if lacking := [part for part, record in self._records.items() if not record]:
            begun = [p for p in lacking if (folder / p.name).is_dir()]
            some = f" ({_words(begun)} begun, and not complete)" if begun else ""
            are = "is" if len(lacking) == 1 else "are"
            raise BuildError(f"{_words(lacking)} of {count} {are} not there{some}: {_again(lacking)}")
        for part in parts:
            claim = folder / part.name / CLAIM
            if claim.exists() and (holder := BuildLock(claim, "").held()):
                raise BuildError(
                    f"part {part.index} of {part.count} is being made again by {holder}: wait for it, then --finish"
                )
        _refuse_unlike(self._records, settings_record(source, settings))
        self._refuse_listings()

    def fill(self, catalog: Catalog, pool: Pool) -> tuple[int, int]:
        """Every part's receipts into the catalog; how many records that are, none of them done by this run before."""
        records = 0
        total = sum(record["records"] for record in self._records.values())
        for part, record in self._records.items():
            records += self._fill_one(catalog, part, record)
            self._progress("merge the parts", records, total)
        return records, 0

    def _fill_one(self, catalog: Catalog, part: BuildPart, record: Mapping[str, Any]) -> int:
        folder = self._folder / part.name / "staging"
        stale = {value for what, value in self._lines(part) if what == "stale"}
        chunks = size = records = 0
        for number, done in decode.receipts(folder):
            fresh = [d for d in done if d.key not in stale]
            for d in fresh:  # Chunk numbers must hold among all parts.
                media = tuple(replace(m, chunk=place.numbered(m.chunk, part)) for m in d.media)
                catalog.add([replace(d, media=media)], wanted=True)
            chunks += 1
            records += len(fresh)
            size += decode.data_path(folder, number).stat().st_size
        if (chunks, size) != (record["chunks"], record["bytes"]):
            raise BuildError(
                f"part {part.index} of {part.count} is damaged: {folder} holds {chunks} chunks of "
                f"{files.human_bytes(size)}, and {record['chunks']} of {files.human_bytes(record['bytes'])} were made; "
                f"make it again: {_again([part])}"
            )
        return records

    def absent(self) -> Iterator[Reject]:
        """What never came, in all parts."""
        for value in self._of("absent"):
            yield Reject(**value)

    def withdrawn(self) -> Iterator[str]:
        """Locators of what must not be used after all."""
        return self._of("withdrawn")

    def recovered(self) -> Iterator[str]:
        """Locators of what was read behind a hole."""
        return self._of("recovered")

    def articles(self) -> dict[str, Article]:
        """What an encyclopaedia says of each species, where the source has asked one."""
        return {value["species"]: Article(**value) for value in self._of("article")}

    def facts(self) -> dict[str, Any]:
        """What the manifest says: the source's own `merge_facts`, or what all parts agree on."""
        every = [record["facts"] for record in self._records.values()]
        if hasattr(self._source, "merge_facts"):
            merged: dict[str, Any] = self._source.merge_facts(every)
            return merged
        first: dict[str, Any] = every[0]
        for part, one in zip(self._records, every, strict=True):
            if differ := _differing(one, first):
                raise BuildError(
                    f"parts 0 and {part.index} of {part.count} found the source different ({', '.join(differ)}): "
                    f"make again what is older: {_again([BuildPart(0, part.count), part])}"
                )
        return first

    def unfinished(self) -> str:
        """Why more may be had later, as each part says it."""
        reasons: dict[str, list[str]] = {}
        for part, record in self._records.items():
            if record["unfinished"]:
                reasons.setdefault(record["unfinished"], []).append(str(part.index))
        return "; ".join(f"{reason} (parts {', '.join(which)})" for reason, which in reasons.items())

    def _of(self, wanted: str) -> Iterator[Any]:
        for part in self._records:
            yield from (value for what, value in self._lines(part) if what == wanted)

    def _lines(self, part: BuildPart) -> Iterator[tuple[str, Any]]:
        """What the part's source said at its end."""
        record, path = self._records[part], self._folder / part.name / SOURCE_FILE
        if not record["lines"]:
            return
        try:
            sound = files.sha256_file(path) == record["told_sha256"]
        except OSError:
            sound = False
        if not sound:
            raise BuildError(f"part {part.index} of {part.count} is damaged ({path}): {_again([part])}")
        with path.open(encoding="utf-8") as f:
            for line in f:
                what, value = json.loads(line)
                yield what, value

    def _refuse_listings(self) -> None:
        """All parts have seen one and the same listing, and it is today's."""
        if hasattr(self._source, "session"):
            return
        now = ListingSession(self._source, self._settings.source_settings, self._settings.limit).listing
        old = [part for part, record in self._records.items() if record["listing"] != now]
        if old:
            raise BuildError(
                f"the {self._settings.source} source lists something else now than when {_words(old)} of "
                f"{old[0].count} {'was' if len(old) == 1 else 'were'} made: nothing was written; make them again "
                f"(finished media are kept): {_again(old)}"
            )


def _count(folder: Path, count: int | None) -> int:
    begun = counts(folder)
    if not begun:
        raise UsageError(
            f"--finish: there are no parts in {folder}: make them first, with --num-shards N --shard-index 0 to N-1"
        )
    if count is None and len(begun) > 1:
        raise UsageError(
            f"--finish: {folder} has parts of {' and '.join(map(str, begun))}: say which are meant with --num-shards"
        )
    if count is not None and count not in begun:
        raise UsageError(
            f"--finish: {folder} has no part of {count}, but of {', '.join(map(str, begun))}: give that --num-shards"
        )
    return count or begun[0]


def _refuse_unlike(records: Mapping[BuildPart, Mapping[str, Any]], mine: Mapping[str, Any]) -> None:
    """Parts and their end must have the same settings."""
    for part, record in records.items():
        theirs = record["settings"]
        if differ := _differing(theirs, mine):
            words = "; ".join(f"{k} {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in differ)
            raise BuildError(
                f"part {part.index} of {part.count} was made with other settings: {words}: give --finish the same "
                "options, or make the parts again with these (finished media that they do not change are kept)"
            )


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(k for k in one.keys() | other.keys() if k not in one or k not in other or one[k] != other[k])


def _words(some: Sequence[BuildPart]) -> str:
    """ "part 3", "parts 3, 7"."""
    shown = ", ".join(str(p.index) for p in some[:_SHOWN])
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return f"part{'s' if len(some) > 1 else ''} {shown}{more}"


def _again(some: Sequence[BuildPart]) -> str:
    """The command that makes these parts."""
    which = ",".join(str(p.index) for p in some)
    command = shlex.join(["--num-shards", str(some[0].count), "--shard-index", str(some[0].index)])
    array = f", and so on for each (a Slurm array: --array={which})" if len(some) > 1 else ""
    return f"run the same command with {command} in place of --finish{array}"

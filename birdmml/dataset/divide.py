"""The folder of one part, below the work folder of the dataset that it belongs to.

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
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from birdmml import __version__
from birdmml.core import discover, files
from birdmml.core.pool import Pool, Progress, silent
from birdmml.dataset import decode, intake, place
from birdmml.dataset.catalog import Catalog
from birdmml.dataset.intake import Keys, ListingSession, SourceAccount, SourceSession, Taken, opened
from birdmml.dataset.place import BuildLock, BuildPart
from birdmml.errors import BuildError, UsageError
from birdmml.schema import Article, Reject

if TYPE_CHECKING:
    from birdmml.dataset.recipe import BuildSettings


PLAN, PART_FILE, SOURCE_FILE, CLAIM = "plan.json", "part.json", "told.jsonl", "claim"


class PartPlace:
    """Owns the folder of one part of `out` for the time of one run; raises BuildError if it may not or cannot."""

    def __init__(self, out: Path, part: BuildPart) -> None:
        self.part = part
        self.whole = place.BuildPlace(out)
        self.out = self.whole.out
        self.work = self.whole.parts / part.name
        self.staging = self.work / "staging"
        self.spool = self.work / "spool"
        self.source = self.work / "source"
        self.catalog = self.work / "catalog.sqlite"
        self.claim = BuildLock(self.work / CLAIM, f"part {part.index} of {part.count} of {self.out}")

    def __enter__(self) -> Self:
        self.whole.check_out()
        self.whole.make_work()
        if (self.whole.work / "plan").exists() and not self.whole.parts.exists():
            raise BuildError(
                f"{self.whole.work} has the work of a build that is not divided: finish it with the same command "
                "without --num-shards, or delete that folder, or choose another --out"
            )
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise BuildError(f"cannot write to {self.work} ({e.strerror}): choose another --out") from e
        self.claim.__enter__()
        # Looked at after the claim is made, as --finish does the other way round: one of the two sees the other.
        if holder := finishing(self.whole.work).held():
            self.claim.__exit__(None, None, None)
            raise BuildError(f"{self.out} is being finished by {holder}: no part of it can be made now")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.claim.__exit__(kind, value, trace)
        if kind is not None and not any(any(f.rglob("*")) for f in (self.staging, self.spool, self.source)):
            shutil.rmtree(self.work, ignore_errors=True)
            self.whole.forget()

    def prepare(self, key: str, settings: Mapping[str, Any]) -> None:
        """Keep finished work that was made with the same `key`; the part counts as incomplete until `declare`."""
        (self.work / PART_FILE).unlink(missing_ok=True)
        plan = self.work / PLAN
        same = plan.is_file() and _loaded(plan).get("key") == key
        if not same:
            for folder in (self.staging, self.spool, self.source):
                shutil.rmtree(folder, ignore_errors=True)
        self.staging.mkdir(exist_ok=True)
        self.catalog.unlink(missing_ok=True)
        files.write_json(plan, {"key": key, "settings": settings})

    def declare(self, made: Mapping[str, Any], told: Iterator[tuple[str, Any]]) -> dict[str, Any]:
        """The part is complete; `told` are (what, value) to be merged. Returns what part.json says."""
        self.claim.check()
        lines = 0
        with files.atomic_write(self.work / SOURCE_FILE) as f:
            for entry in told:
                f.write(json.dumps(entry).encode() + b"\n")
                lines += 1
        whole = {**made, "lines": lines, "told_sha256": files.sha256_file(self.work / SOURCE_FILE)}
        files.write_json(self.work / PART_FILE, whole)
        self.catalog.unlink(missing_ok=True)
        return whole


def finishing(work: Path) -> BuildLock:
    """The claim of the run that puts the parts together."""
    return BuildLock(work / "claim", f"the dataset that {work} is for")


def counts(folder: Path) -> list[int]:
    """Into how many parts the work below `folder` was divided: several answers where several were begun."""
    found = set()
    for path in folder.glob("?????-of-?????"):
        index, _, count = path.name.partition("-of-")
        if index.isdecimal() and count.isdecimal():
            found.add(int(count))
    return sorted(found)


def part_facts(folder: Path, part: BuildPart) -> dict[str, Any]:
    """What part.json of a complete part says; {} if there is none that can be read."""
    return _loaded(folder / part.name / PART_FILE)


def source_lines(folder: Path, part: BuildPart) -> Iterator[tuple[str, Any]]:
    """What the part's source said at its end."""
    with (folder / part.name / SOURCE_FILE).open(encoding="utf-8") as f:
        for line in f:
            what, value = json.loads(line)
            yield what, value


def staging_of(folder: Path, part: BuildPart) -> Path:
    """Where the part's checked media lie."""
    return folder / part.name / "staging"


def _loaded(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


# ---- One part of a build, on whatever machine: its records decoded and checked, and put where `merge` finds them.


# Settings that `told_settings` names in its own words; all others stand there as they are.
_NAMED = {"source", "source_settings", "seed", "rules", "passes", "limit", "limits", "evalsets"}
# Captions are written when the parts are put together, by that run's models: parts know nothing of them.
_AT_THE_END = {"captioner", "captions"}


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
    value = {
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
        **{
            f.name: _plain_setting(getattr(settings, f.name))
            for f in fields(settings)
            if f.name not in _NAMED | _AT_THE_END
        },
    }
    plain: dict[str, Any] = files.plain_json(value)
    return plain


def _plain_setting(value: Any) -> Any:
    """A setting in plain values; a file's is its hash."""
    if (sha256 := getattr(value, "sha256", None)) is not None:
        return sha256
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


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
    tell = progress or silent
    source = discover.load("source", settings.source)
    keys = Keys(source, settings.source, settings.source_settings, settings.limits)
    with PartPlace(out, part) as here, place.telling(here):

        def told(stage: str, done: int, total: int) -> None:
            here.claim.check()
            tell(stage, done, total)

        here.prepare(files.digest([__version__, keys.base]), settings_record(source, settings))
        with (
            opened(intake.session_of(source, settings, here.source, told, retry_failed, part)) as session,
            Catalog(here.catalog, species=settings.species_list.taxonomy) as catalog,
            Pool(workers) as pool,
        ):
            taken = intake.Own(source, settings, session, here.staging, told).fill(catalog, pool)
            made = _part_record(source, settings, part, session, catalog, here.staging)
            here.declare(made, _source_facts(session, catalog))
        return PartMade(part, here.work, taken.records, taken.resumed, made["media"], made["rejects"])


def _part_record(
    source: ModuleType, settings: BuildSettings, part: BuildPart, session: SourceSession, catalog: Catalog, folder: Path
) -> dict[str, Any]:
    """What part.json says."""
    mine = "key IN (SELECT key FROM done WHERE wanted)"
    chunks = [number for number, _ in decode.receipts(folder)]
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
        "chunks": len(chunks),
        "bytes": sum(decode.data_path(folder, n).stat().st_size for n in chunks),
    }


def _source_facts(session: SourceSession, catalog: Catalog) -> Iterator[tuple[str, Any]]:
    """What `merge` must know beside the receipts."""
    for (key,) in catalog.select("SELECT key FROM done WHERE NOT wanted ORDER BY key"):
        yield "stale", key
    for reject in session.absent():
        yield "absent", reject.__dict__
    for path in session.withdrawn():
        yield "withdrawn", path
    for path in session.recovered():
        yield "recovered", path
    articles = session.articles() if hasattr(session, "articles") else {}
    for article in articles.values():
        yield "article", article.__dict__


# ---- All parts of a build as if one machine had made them.


_SHOWN = 20


class BuildParts:
    """The parts below `folder`, all there and made alike; raises BuildError if they are not.

    Says at the end what the sources of all parts have said, as a session does.
    """

    def __init__(
        self, source: ModuleType, settings: BuildSettings, folder: Path, count: int | None, tell: Progress
    ) -> None:
        self._source, self._settings, self._folder, self._tell = source, settings, folder, tell
        self.parts = [BuildPart(i, n) for n in (_count(folder, count),) for i in range(n)]
        self.made = [part_facts(folder, part) for part in self.parts]
        _refuse_lacking([p for p, made in zip(self.parts, self.made, strict=True) if not made], folder)
        _refuse_busy(self.parts, folder)
        _refuse_unlike(self.parts, self.made, settings_record(source, settings))
        self._refuse_listings()

    @property
    def told(self) -> SourceAccount:
        """The parts themselves."""
        return self

    def fill(self, catalog: Catalog, pool: Pool) -> Taken:
        """Every part's receipts into the catalog."""
        records = 0
        total = sum(made["records"] for made in self.made)
        for part, made in zip(self.parts, self.made, strict=True):
            stale = {value for what, value in self._told(part, made) if what == "stale"}
            records += self._fill_one(catalog, part, made, stale)
            self._tell("merge the parts", records, total)
        return Taken(records, 0)

    def _fill_one(self, catalog: Catalog, part: BuildPart, made: Mapping[str, Any], stale: set[str]) -> int:
        folder = staging_of(self._folder, part)
        chunks = size = records = 0
        for number, done in decode.receipts(folder):
            fresh = [_placed(d, part) for d in done if d.key not in stale]
            catalog.add(fresh, wanted=True)
            chunks += 1
            records += len(fresh)
            size += decode.data_path(folder, number).stat().st_size
        if (chunks, size) != (made["chunks"], made["bytes"]):
            raise BuildError(
                f"part {part.index} of {part.count} is damaged: {folder} holds {chunks} chunks of "
                f"{files.human_bytes(size)}, and {made['chunks']} of {files.human_bytes(made['bytes'])} were made; "
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
        every = [made["facts"] for made in self.made]
        if hasattr(self._source, "merge_facts"):
            merged: dict[str, Any] = self._source.merge_facts(every)
            return merged
        for part, one in zip(self.parts, every, strict=True):
            if one != every[0]:
                differ = sorted(k for k in one.keys() | every[0].keys() if one.get(k) != every[0].get(k))
                raise BuildError(
                    f"parts 0 and {part.index} of {part.count} found the source different ({', '.join(differ)}): "
                    f"make again what is older: {_again([self.parts[0], part])}"
                )
        first: dict[str, Any] = every[0]
        return first

    def unfinished(self) -> str:
        """Why more may be had later, as each part says it."""
        said: dict[str, list[str]] = {}
        for part, made in zip(self.parts, self.made, strict=True):
            if made["unfinished"]:
                said.setdefault(made["unfinished"], []).append(str(part.index))
        return "; ".join(f"{words} (parts {', '.join(which)})" for words, which in said.items())

    def close(self) -> None:
        """Nothing is open."""

    def _of(self, wanted: str) -> Iterator[Any]:
        for part, made in zip(self.parts, self.made, strict=True):
            yield from (value for what, value in self._told(part, made) if what == wanted)

    def _told(self, part: BuildPart, made: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        if not made["lines"]:
            return
        path = self._folder / part.name / SOURCE_FILE
        try:
            sound = files.sha256_file(path) == made["told_sha256"]
        except OSError:
            sound = False
        if not sound:
            raise BuildError(f"part {part.index} of {part.count} is damaged ({path}): {_again([part])}")
        yield from source_lines(self._folder, part)

    def _refuse_listings(self) -> None:
        """All parts have seen one and the same listing, and it is today's."""
        if hasattr(self._source, "session"):
            return
        now = ListingSession(self._source, self._settings.source_settings, self._settings.limit).listing
        old = [p for p, made in zip(self.parts, self.made, strict=True) if made["listing"] != now]
        if old:
            raise BuildError(
                f"the {self._settings.source} source lists something else now than when {_words(old)} of "
                f"{old[0].count} {'was' if len(old) == 1 else 'were'} made: nothing was written; make them again "
                f"(finished media are kept): {_again(old)}"
            )


def _placed(done: decode.DecodedRecord, part: BuildPart) -> decode.DecodedRecord:
    """With chunk numbers that hold among all parts."""
    media = tuple(replace(m, chunk=place.numbered(m.chunk, part)) for m in done.media)
    return replace(done, media=media)


def _count(folder: Path, count: int | None) -> int:
    found = counts(folder)
    if not found:
        raise UsageError(
            f"--finish: there are no parts in {folder}: make them first, with --num-shards N --shard-index 0 to N-1"
        )
    if count is None and len(found) > 1:
        told = " and ".join(str(n) for n in found)
        raise UsageError(f"--finish: {folder} has parts of {told}: say which are meant with --num-shards")
    if count is not None and count not in found:
        told = ", ".join(str(n) for n in found)
        raise UsageError(f"--finish: {folder} has no part of {count}, but of {told}: give that --num-shards")
    return count or found[0]


def _refuse_lacking(lacking: Sequence[BuildPart], folder: Path) -> None:
    if lacking:
        begun = [p for p in lacking if (folder / p.name).is_dir()]
        some = f" ({_words(begun)} begun, and not complete)" if begun else ""
        raise BuildError(
            f"{_words(lacking)} of {lacking[0].count} {'is' if len(lacking) == 1 else 'are'} not there{some}: "
            f"{_again(lacking)}"
        )


def _refuse_busy(every: Sequence[BuildPart], folder: Path) -> None:
    for part in every:
        path = folder / part.name / CLAIM
        if path.exists() and (holder := BuildLock(path, "").held()):
            raise BuildError(
                f"part {part.index} of {part.count} is being made again by {holder}: wait for it, then --finish"
            )


def _refuse_unlike(every: Sequence[BuildPart], made: Sequence[Mapping[str, Any]], mine: Mapping[str, Any]) -> None:
    """Parts and their end must have the same settings."""
    for part, one in zip(every, made, strict=True):
        theirs = one["settings"]
        if theirs != mine:
            differ = [k for k in sorted(theirs.keys() | mine.keys()) if theirs.get(k) != mine.get(k)]
            told = "; ".join(f"{k} {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in differ)
            raise BuildError(
                f"part {part.index} of {part.count} was made with other settings: {told}: give --finish the same "
                "options, or make the parts again with these (finished media that they do not change are kept)"
            )


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

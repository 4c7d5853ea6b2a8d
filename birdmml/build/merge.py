"""All parts of a build as if one machine had made them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from birdmml import files
from birdmml.build import part_place, parts, staging
from birdmml.build.catalog import Catalog
from birdmml.build.claim import Claim
from birdmml.build.deliver import Listing, Told
from birdmml.build.intake import Taken
from birdmml.build.part_run import told_settings
from birdmml.build.parts import Part
from birdmml.build.pool import Pool
from birdmml.build.progress import Tell
from birdmml.errors import BuildError, UsageError
from birdmml.schema import Article, Reject

if TYPE_CHECKING:
    from birdmml.build.recipe import BuildSettings

_SHOWN = 20


class Parts:
    """The parts below `folder`, all there and made alike; raises BuildError if they are not.

    Says at the end what the sources of all parts have said, as a session does.
    """

    def __init__(
        self, source: ModuleType, settings: BuildSettings, folder: Path, count: int | None, tell: Tell
    ) -> None:
        self._source, self._settings, self._folder, self._tell = source, settings, folder, tell
        self.parts = [Part(i, n) for n in (_count(folder, count),) for i in range(n)]
        self.made = [part_place.made(folder, part) for part in self.parts]
        _refuse_lacking([p for p, made in zip(self.parts, self.made, strict=True) if not made], folder)
        _refuse_busy(self.parts, folder)
        _refuse_unlike(self.parts, self.made, told_settings(source, settings))
        self._refuse_listings()

    @property
    def told(self) -> Told:
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

    def _fill_one(self, catalog: Catalog, part: Part, made: Mapping[str, Any], stale: set[str]) -> int:
        folder = part_place.staging_of(self._folder, part)
        chunks = size = records = 0
        for number, done in staging.receipts(folder):
            fresh = [_placed(d, part) for d in done if d.key not in stale]
            catalog.add(fresh, wanted=True)
            chunks += 1
            records += len(fresh)
            size += staging.data_path(folder, number).stat().st_size
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

    def _told(self, part: Part, made: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        if not made["lines"]:
            return
        path = self._folder / part.name / part_place.TOLD
        try:
            sound = files.sha256_file(path) == made["told_sha256"]
        except OSError:
            sound = False
        if not sound:
            raise BuildError(f"part {part.index} of {part.count} is damaged ({path}): {_again([part])}")
        yield from part_place.told(self._folder, part)

    def _refuse_listings(self) -> None:
        """All parts have seen one and the same listing, and it is today's."""
        if hasattr(self._source, "session"):
            return
        now = Listing(self._source, self._settings.source_settings, self._settings.limit).listing
        old = [p for p, made in zip(self.parts, self.made, strict=True) if made["listing"] != now]
        if old:
            raise BuildError(
                f"the {self._settings.source} source lists something else now than when {_words(old)} of "
                f"{old[0].count} {'was' if len(old) == 1 else 'were'} made: nothing was written; make them again "
                f"(finished media are kept): {_again(old)}"
            )


def _placed(done: staging.Done, part: Part) -> staging.Done:
    """With chunk numbers that hold among all parts."""
    media = tuple(replace(m, chunk=parts.numbered(m.chunk, part)) for m in done.media)
    return replace(done, media=media)


def _count(folder: Path, count: int | None) -> int:
    found = part_place.counts(folder)
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


def _refuse_lacking(lacking: Sequence[Part], folder: Path) -> None:
    if lacking:
        begun = [p for p in lacking if (folder / p.name).is_dir()]
        some = f" ({_words(begun)} begun, and not complete)" if begun else ""
        raise BuildError(
            f"{_words(lacking)} of {lacking[0].count} {'is' if len(lacking) == 1 else 'are'} not there{some}: "
            f"{_again(lacking)}"
        )


def _refuse_busy(every: Sequence[Part], folder: Path) -> None:
    for part in every:
        path = folder / part.name / part_place.CLAIM
        if path.exists() and (holder := Claim(path, "").held()):
            raise BuildError(
                f"part {part.index} of {part.count} is being made again by {holder}: wait for it, then --finish"
            )


def _refuse_unlike(every: Sequence[Part], made: Sequence[Mapping[str, Any]], mine: Mapping[str, Any]) -> None:
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


def _words(some: Sequence[Part]) -> str:
    """ "part 3", "parts 3, 7"."""
    shown = ", ".join(str(p.index) for p in some[:_SHOWN])
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return f"part{'s' if len(some) > 1 else ''} {shown}{more}"


def _again(some: Sequence[Part]) -> str:
    """The command that makes these parts."""
    which = ",".join(str(p.index) for p in some)
    command = shlex.join(["--num-shards", str(some[0].count), "--shard-index", str(some[0].index)])
    array = f", and so on for each (a Slurm array: --array={which})" if len(some) > 1 else ""
    return f"run the same command with {command} in place of --finish{array}"

"""From a source to the catalog: what it delivers is decoded and checked, and what an earlier run has done is kept."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from birdmml.build import ingest, staging
from birdmml.build.catalog import Catalog
from birdmml.build.deliver import WHOLE, Chunks, Keys, Listing, Session, Told
from birdmml.build.parts import Part
from birdmml.build.pool import Pool
from birdmml.build.progress import Tell
from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.build.recipe import BuildSettings


@dataclass(frozen=True)
class Taken:
    """How many records came, and how many of them an earlier run had done."""

    records: int
    resumed: int


class Inlet(Protocol):
    """Where the media of a build come from; `told` is what its source says at the end."""

    @property
    def told(self) -> Told:
        """What the source says once all records are there."""

    def fill(self, catalog: Catalog, pool: Pool) -> Taken:
        """Put every record's end into the catalog."""


def session_of(
    source: ModuleType,
    settings: BuildSettings,
    folder: Path,
    tell: Tell,
    retry_failed: bool = False,
    part: Part = WHOLE,
) -> Session:
    """The source's own session, or a plain listing of its records; raises UsageError if it cannot be divided."""
    if not hasattr(source, "session"):
        return Listing(source, settings.source_settings, settings.limit, part)
    if part.count > 1:
        refuse_undividable(source, settings)
    more = {"part": part} if _takes_part(source) else {}
    session: Session = source.session(
        settings.source_settings, folder, settings.limit, retry_failed, tell, **more
    )
    return session


def refuse_undividable(source: ModuleType, settings: BuildSettings) -> None:
    """Raises UsageError if the source's work cannot be divided into parts."""
    if hasattr(source, "session") and not _takes_part(source):
        raise UsageError(
            f"the {settings.source} source reads one stream from end to end and cannot be divided: leave "
            "--num-shards and --runner out, and give one machine more --workers"
        )


def _takes_part(source: ModuleType) -> bool:
    return "part" in inspect.signature(source.session).parameters


class Own:
    """What a session of this run delivers; records whose receipts lie in `folder` already are taken as they are."""

    def __init__(
        self, source: ModuleType, settings: BuildSettings, session: Session, folder: Path, tell: Tell
    ) -> None:
        self.told = self._session = session
        self._settings, self._folder, self._tell = settings, folder, tell
        self._keys = Keys(source, settings.source, settings.source_settings, settings.limits)

    def fill(self, catalog: Catalog, pool: Pool) -> Taken:
        """Decode and check; every record's end is in the catalog."""
        session, settings, folder = self._session, self._settings, self._folder
        known = 0
        for _, done in staging.receipts(folder):
            catalog.add(done, wanted=session.resumes)
            known += len(done)
        template = ingest.Task(
            staging.next_chunk(folder),
            str(folder),
            settings.source,
            settings.source_settings,
            settings.limits,
            (),
        )
        chunks = Chunks(session, template, self._keys, catalog.want)
        total = session.total or 0

        def done_one(index: int, done: list[staging.Done]) -> None:
            catalog.add(done, wanted=True)
            chunks.finished(index)
            self._tell("decode and check", chunks.records, max(total, chunks.records))

        self._tell("decode and check", 0, total)
        pool.feed(ingest.ingest, chunks, done_one)
        return Taken(chunks.records, known if session.resumes else chunks.reused)


def amend(told: Told, catalog: Catalog) -> None:
    """What the source knows only at its end: what never came, what must not be used, what lay behind a hole."""
    catalog.reject(told.absent())
    catalog.withdraw(told.withdrawn())
    catalog.recover(told.recovered())

"""One part of a build, on whatever machine: its records decoded and checked, and put where `merge` finds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from birdmml import __version__, discover, files
from birdmml.build import intake, place, staging
from birdmml.build.catalog import Catalog
from birdmml.build.deliver import Keys, Session, opened
from birdmml.build.part_place import PartPlace
from birdmml.build.parts import Part
from birdmml.build.pool import Pool
from birdmml.build.progress import Tell, silent

if TYPE_CHECKING:
    from birdmml.build.recipe import BuildSettings


# Settings that `told_settings` names in its own words; all others stand there as they are.
_NAMED = {"source", "source_settings", "seed", "rules", "passes", "limit", "limits", "evalsets"}
# Captions are written when the parts are put together, by that run's models: parts know nothing of them.
_AT_THE_END = {"captioner", "captions"}


@dataclass(frozen=True)
class PartMade:
    """A complete part: its folder, how many records it took up and had already, and what became of them."""

    part: Part
    root: Path
    records: int
    resumed: int
    media: int
    rejects: int


def told_settings(source: ModuleType, settings: BuildSettings) -> dict[str, Any]:
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
            f.name: _told_value(getattr(settings, f.name))
            for f in fields(settings)
            if f.name not in _NAMED | _AT_THE_END
        },
    }
    plain: dict[str, Any] = files.plain_json(value)
    return plain


def _told_value(value: Any) -> Any:
    """A setting in plain values; a file's is its hash."""
    if (sha256 := getattr(value, "sha256", None)) is not None:
        return sha256
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def build_part(
    settings: BuildSettings,
    out: Path,
    part: Part,
    workers: int = 1,
    progress: Tell | None = None,
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

        here.prepare(files.digest([__version__, keys.base]), told_settings(source, settings))
        with (
            opened(intake.session_of(source, settings, here.source, told, retry_failed, part)) as session,
            Catalog(here.catalog, species=settings.species_list.taxonomy) as catalog,
            Pool(workers) as pool,
        ):
            taken = intake.Own(source, settings, session, here.staging, told).fill(catalog, pool)
            made = _made(source, settings, part, session, catalog, here.staging)
            here.declare(made, _told(session, catalog))
        return PartMade(part, here.work, taken.records, taken.resumed, made["media"], made["rejects"])


def _made(
    source: ModuleType, settings: BuildSettings, part: Part, session: Session, catalog: Catalog, folder: Path
) -> dict[str, Any]:
    """What part.json says."""
    mine = "key IN (SELECT key FROM done WHERE wanted)"
    chunks = [number for number, _ in staging.receipts(folder)]
    return {
        "part": part.index,
        "count": part.count,
        "settings": told_settings(source, settings),
        "listing": getattr(session, "listing", ""),
        "facts": session.facts(),
        "unfinished": session.unfinished(),
        "records": catalog.count("SELECT count(*) FROM done WHERE wanted"),
        "media": catalog.count(f"SELECT count(*) FROM media WHERE {mine}"),  # noqa: S608  # a constant
        "rejects": catalog.count(f"SELECT count(*) FROM rejects WHERE {mine}"),  # noqa: S608  # a constant
        "chunks": len(chunks),
        "bytes": sum(staging.data_path(folder, n).stat().st_size for n in chunks),
    }


def _told(session: Session, catalog: Catalog) -> Iterator[tuple[str, Any]]:
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

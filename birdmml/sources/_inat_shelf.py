"""Where the iNaturalist tables come from: a folder of the user's, or the bucket, downloaded so that it can go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from birdmml.errors import SourceError
from birdmml.fetch.download import Fetcher, Politeness, Wanted
from birdmml.fetch.ledger import Ledger
from birdmml.sources._inat_tables import TABLES, Table, open_folder
from birdmml.sources._raw_settings import Settings

Tell = Callable[[str, int, int], None]


def tables_of(settings: Settings, folder: Path, agent: str, progress: Tell) -> dict[str, Table]:
    """The four tables, checked by their headers. Raises SourceError for one that cannot be had."""
    if not settings.is_url:
        return open_folder(Path(settings.inat).expanduser())
    base, to = settings.inat.rstrip("/"), folder / "tables"

    def heard(key: str, done: int, total: int | None) -> None:
        progress(f"download {key}", done, total or done)

    politeness = Politeness(
        agent,
        named=[base],
        allow_private=settings.allow_private,
        back_off_s=settings.back_off_s,
        timeout_s=settings.timeout_s,
    )
    with (
        Ledger(folder / "tables.sqlite") as ledger,
        Fetcher(ledger, politeness) as fetcher,
    ):
        ledger.retry_failed()
        for name in TABLES:
            key = f"{name}.csv.gz"
            outcome = fetcher.fetch(Wanted(key, f"{base}/{key}"), to / key, heard)
            if outcome.state != "done":
                raise SourceError(
                    f"{base}/{key} cannot be had ({outcome.reason or outcome.state}): check --inat, or try "
                    "again later; what has come is kept"
                )
    return open_folder(to)

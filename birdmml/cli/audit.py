"""`birdmml audit`: what a reviewer would ask of a dataset, on one page."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from birdmml.cli._options import argument, flag, option
from birdmml.cli._show import DEMO_BANNER, print_either, progress_bar
from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.dataset.audit.model import Audit


@dataclass(frozen=True, kw_only=True)
class AuditCommand:
    """Audit a dataset: counts, licences, leaks, media, and a probe of every modality against shuffled labels.

    Writes index.html and audit.json; shards and manifest are only read. Exit 0 if nothing serious was found,
    1 if there is a serious finding or nothing can be read.
    """

    folder: Path = argument(..., "A folder of Parquet shards, built by birdmml or not.", show_default=False)
    out: Path | None = option(None, "Folder for the page and the JSON.", show_default="FOLDER/report/audit")
    as_json: bool = flag("--json", "Print the audit as JSON.")
    sample: int = option(6000, "Rows for the probes, as many of each species.", min=1)
    seed: int = option(0, "Same dataset and seed: the same bytes.", min=0)
    workers: int = option(2, "Processes to use; the bytes do not depend on it.", min=1)
    evalset: list[Path] = option([], "Folder of an evaluation set to look for overlap with; again for more.")
    near_duplicates: int = option(6, "Photos alike: perceptual hashes up to N bits apart; -1: off.", min=-1, max=64)

    def _run(self) -> None:
        from birdmml.dataset.audit import AuditSettings
        from birdmml.dataset.audit import audit as run
        from birdmml.dataset.audit.page import write
        from birdmml.dataset.audit.read import find

        find(self.folder)
        place = self.out or self.folder / "report" / "audit"
        # Here, not only at the end: a full audit takes a while.
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as e:
            raise UsageError(f"{place} cannot be written ({e.strerror or e}): choose another folder with --out") from e
        settings = AuditSettings(self.sample, self.seed, tuple(self.evalset), self.near_duplicates)
        with progress_bar(quiet=self.as_json) as progress:
            result = run(self.folder, settings, self.workers, progress)
        try:
            page = write(result, place)
        except OSError as e:
            raise UsageError(f"{place} cannot be written ({e.strerror or e}): choose another --out") from e
        print_either(self.as_json, result.to_json(), _lines(self.folder, result, page))
        if result.red:
            raise typer.Exit(1)


def _lines(folder: Path, audit: Audit, page: Path) -> list[str]:
    lines = [DEMO_BANNER] if audit.demo else []
    lines.append(f"{folder}: {audit.count.rows:,} rows of {audit.count.species:,} species: {audit.verdict}")
    for f in audit.findings:
        word = "SERIOUS" if f.severity == "red" else "note   "
        lines.append(f"  {word}     {_plain(f.words)} ({f.slug})")
        if f.where:
            more = ", ..." if f.count > 3 and len(f.where) > 3 else ""
            lines.append(f"              {_plain(', '.join(f.where[:3]) + more)}")
    for p in audit.probes:
        figures = (
            f"{100 * p.accuracy:.1f} % [{100 * p.low:.1f}, {100 * p.high:.1f}], shuffled {100 * p.shuffled_mean:.1f} %"
            if p.shuffles
            else p.why
        )
        lines.append(f"  probe       {p.modality}: {p.verdict}: {figures}")
    lines += [f"  not checked {s.check}: {s.why}" for s in audit.skipped]
    lines.append(f"  look at it  {page}")
    return lines


def _plain(text: str) -> str:
    """Text of strangers without the controls that a terminal obeys."""
    return "".join(c if c.isprintable() else " " for c in text)

"""Lists that may be long: what was rejected and what was never there, as CSV beside the report."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from birdmml import files
from birdmml.build.catalog import Catalog
from birdmml.text import csv_cell


def write_listings(folder: Path, catalog: Catalog) -> None:
    """Write rejects.csv and absent.csv into `folder`; one line each, nothing left out."""
    for name, absent in (("rejects.csv", False), ("absent.csv", True)):
        with files.atomic_write(folder / name) as f:
            text = io.TextIOWrapper(f, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(("path", "species", "reason", "detail"))
            for reject in catalog.rejects(absent):
                writer.writerow(
                    csv_cell(v) for v in (reject.path, reject.species, reject.reason, reject.detail)
                )
            text.detach()

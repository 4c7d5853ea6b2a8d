"""Whether a build may go on: enough was accepted, something can be paired, the disk has room."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdmml import files
from birdmml.build.catalog import Catalog
from birdmml.build.place import Place
from birdmml.errors import BuildError, SourceError
from birdmml.schema import Reject


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


def refuse_small_disk(place: Place, catalog: Catalog) -> None:
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

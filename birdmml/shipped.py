"""Data that lies in benchmarks/ and not in the package: beside it in a checkout, inside it once installed."""

from __future__ import annotations

from pathlib import Path

from birdmml.errors import UsageError

PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """benchmarks/`name`. A wheel carries it as birdmml/benchmarks/`name` (pyproject.toml, force-include).

    Raises UsageError where it is in neither place.
    """
    for root in (PACKAGE, PACKAGE.parent):
        if (path := root / "benchmarks" / name).is_dir():
            return path
    raise UsageError(f"benchmarks/{name} did not come with this birdmml: install it again")

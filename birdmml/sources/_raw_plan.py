"""What a build from raw sources would ask of whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdmml.sources.inat_xc import Settings


def plan(settings: Settings, out: Path) -> list[str]:
    """In lines."""
    return [f"{len(settings.species_list.taxonomy)} species"]

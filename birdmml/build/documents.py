"""The texts that a dataset carries, all from one manifest: card, Croissant and datasheet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdmml import files
from birdmml.build import croissant, datasheet
from birdmml.build.card import render_card

CARD = "README.md"
NAMES = (CARD, croissant.FILE, datasheet.FILE)


def write_documents(root: Path, manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
    """Write them into a dataset's folder; the same manifest and validation give the same bytes."""
    files.write_text(root / CARD, render_card(manifest, validation))
    files.write_text(root / croissant.FILE, croissant.render(manifest, validation))
    files.write_text(root / datasheet.FILE, datasheet.render(manifest, validation))

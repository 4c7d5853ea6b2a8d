"""How near a build came to the rows that were asked for of each species, and how often its clips were used again.

Only for sources that are asked for a number of rows a species: those with `wanted_rows(settings, limit)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from birdmml.build.catalog import Catalog
from birdmml.taxonomy import Taxonomy

_ROWS = """SELECT a.label, count(*), count(DISTINCT image), count(DISTINCT audio) FROM final
JOIN place p ON p.m = image JOIN media a ON a.n = p.n GROUP BY a.label"""
_MOST = """SELECT label, max(uses) FROM (SELECT b.label AS label, count(*) AS uses FROM final
JOIN place q ON q.m = audio JOIN media b ON b.n = q.n GROUP BY audio) GROUP BY label"""


def measure(
    source: ModuleType, source_settings: Any, limit: int | None, catalog: Catalog, known: Taxonomy
) -> list[dict[str, Any]]:
    """For each species that was asked for: rows wanted, there and lacking, photos, clips and the most uses of a clip.

    Empty for a source that is not asked for a number of rows.
    """
    if not hasattr(source, "wanted_rows"):
        return []
    wanted: Mapping[str, int] = source.wanted_rows(source_settings, limit)
    rows = {label: counts for label, *counts in catalog.select(_ROWS)}
    most = dict(catalog.select(_MOST))
    told = []
    for species in known.species:
        if (asked := wanted.get(species.scientific_name)) is None:
            continue
        there, photos, clips = rows.get(species.label, (0, 0, 0))
        told.append(
            {
                "species": species.scientific_name,
                "wanted": asked,
                "rows": there,
                "lacking": max(asked - there, 0),
                "photos": photos,
                "clips": clips,
                "most_uses_of_a_clip": most.get(species.label, 0),
            }
        )
    return told


def summary(balance: list[dict[str, Any]]) -> dict[str, int]:
    """The same in a few numbers, for the manifest."""
    return {
        "species": len(balance),
        "rows_wanted": sum(b["wanted"] for b in balance),
        "rows_lacking": sum(b["lacking"] for b in balance),
        "species_short_of_rows": sum(b["lacking"] > 0 for b in balance),
        "species_with_audio_used_again": sum(b["most_uses_of_a_clip"] > 1 for b in balance),
        "rows_with_audio_used_again": sum(b["rows"] - b["clips"] for b in balance),
        "most_uses_of_a_clip": max((b["most_uses_of_a_clip"] for b in balance), default=0),
    }


def tell(validation: dict[str, Any], balance: list[dict[str, Any]]) -> None:
    """Put it into the validation record: what a species lost is what is lacking, not what was refused on the way."""
    if not balance:
        return
    validation["balance"] = balance
    lacking = {b["species"]: b["lacking"] for b in balance}
    for row in validation["by_species"]:
        row["lost"] = lacking.get(row["species"], row["lost"])

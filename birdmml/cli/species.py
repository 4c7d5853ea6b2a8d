"""`birdmml species`: list the taxonomy or a list of your own, or find one species by any of its names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmml.cli._show import print_json

if TYPE_CHECKING:
    from birdmml.core.species import Species
    from birdmml.core.species_list import Loaded


def species(
    name: Annotated[
        str | None, typer.Argument(help="A scientific or common name, eBird code or iNaturalist taxon id.")
    ] = None,
    species_list: Annotated[
        Path | None,
        typer.Option(help="Check and show a list of your own: CSV, TSV, JSONL, or one scientific name a line."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the 150 species or those of a list of your own, or find one by any of its names.

    \b
    birdmml species yelwar
    birdmml species --species-list my-species.csv
    """
    from birdmml.core.species_list import SHIPPED, read_list

    chosen = SHIPPED if species_list is None else read_list(species_list)
    loaded = chosen.load()
    rows = list(loaded.taxonomy.species) if name is None else [loaded.taxonomy.resolve(name)]
    if as_json:
        records = [dataclasses.asdict(s) for s in rows]
        print_json(records[0] if name is not None else records)  # One asked for by name is no list of one.
    elif name is not None:
        typer.echo(_details(rows[0]))
    else:
        head = ("label", "scientific name", "common name", "eBird", "order", "family")
        lines = [head]
        lines += [(str(s.label), s.scientific_name, s.common_name, s.ebird_code, s.order, s.family) for s in rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            typer.echo("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
        if species_list is not None:
            typer.echo("\n".join(_summary(species_list, chosen.sha256, loaded)))


def _summary(path: Path, sha256: str, loaded: Loaded) -> list[str]:
    """What is known of a list, and what of it is the shipped table's."""
    species = loaded.taxonomy.species
    lacking = {
        "common name": sum(not s.common_name for s in species),
        "order": sum(not s.order for s in species),
        "family": sum(not s.family for s in species),
        "iNaturalist taxon id": sum(s.inat_taxon_id is None for s in species),
    }
    lacks = ", ".join(f"{n:,} have no {what}" for what, n in lacking.items() if n)
    return [
        f"{path.name}: {len(species):,} species (SHA-256 {sha256[:12]}); {len(loaded.completed):,} completed from "
        f"the shipped table{f'; {lacks}' if lacks else ''}",
        *(f"  {note}" for note in loaded.notes),
    ]


def _details(s: Species) -> str:
    taxa = [i for i in (s.inat_taxon_id, *s.former_inat_ids) if i is not None]
    fields = {
        "label": s.label,
        "common name": s.common_name or "-",
        "order, family": ", ".join(filter(None, (s.order, s.family))) or "-",
        "eBird code": s.ebird_code or "-",
        "iNaturalist": ", formerly ".join(map(str, taxa)) or "-",
        "SSW60 label": "-" if s.ssw60_label is None else s.ssw60_label,
        "VB100 class": s.vb100_class or "-",
        "synonyms": ", ".join(s.synonyms) or "-",
        "other names": ", ".join(s.other_names) or "-",
    }
    return "\n".join([s.scientific_name, *(f"  {k:<14}{v}" for k, v in fields.items())])

"""`birdmml species`: list the taxonomy, or find one species by any of its names."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdmml.taxonomy import Species


def species(
    name: Annotated[
        str | None, typer.Argument(help="A scientific or common name, eBird code or iNaturalist taxon id.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the 150 species, or find one by any of its names."""
    from birdmml import taxonomy

    found = [taxonomy.resolve(name)] if name is not None else list(taxonomy.all_species())
    if as_json:
        records = [dataclasses.asdict(s) for s in found]
        typer.echo(json.dumps(records[0] if name is not None else records, indent=2, ensure_ascii=False))
    elif name is not None:
        typer.echo(_details(found[0]))
    else:
        typer.echo(_table(found))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(species)


def _table(found: list[Species]) -> str:
    head = ("label", "scientific name", "common name", "eBird", "order", "family")
    rows = [(str(s.label), s.scientific_name, s.common_name, s.ebird_code, s.order, s.family) for s in found]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, *rows]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _details(s: Species) -> str:
    fields = {
        "label": s.label,
        "common name": s.common_name,
        "order, family": f"{s.order}, {s.family}",
        "eBird code": s.ebird_code,
        "iNaturalist": ", formerly ".join(map(str, (s.inat_taxon_id, *s.former_inat_ids))),
        "SSW60 label": "-" if s.ssw60_label is None else s.ssw60_label,
        "VB100 class": s.vb100_class or "-",
        "synonyms": ", ".join(s.synonyms) or "-",
        "other names": ", ".join(s.other_names) or "-",
    }
    return "\n".join([s.scientific_name, *(f"  {k:<14}{v}" for k, v in fields.items())])

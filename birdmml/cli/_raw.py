"""Options of `birdmml build --source inat-xc`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

CONTACT = "BIRDMML_CONTACT"

Inat = Annotated[
    str | None, typer.Option(help="inat-xc: folder or address of the iNaturalist Open Data tables.")
]
Contact = Annotated[
    str | None,
    typer.Option(help=f"inat-xc: your e-mail or home page, told to the services (or {CONTACT})."),
]
Licenses = Annotated[
    str | None,
    typer.Option(help="inat-xc: SPDX ids or families, CC0,CC-BY,...; default: all but ND and unknown."),
]
PhotoSize = Annotated[str | None, typer.Option(help="inat-xc: original, large, medium or small (medium).")]
MinSide = Annotated[
    int | None, typer.Option(min=0, help="inat-xc: least shorter side of an original in px (240).")
]
Memory = Annotated[int | None, typer.Option(min=64, help="inat-xc: MB that the join may hold (2048).")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="inat-xc: addresses inside a network may be asked, too.")
]
Photos = Annotated[str | None, typer.Option(help="inat-xc: address of the photos' bucket.")]
XenoCanto = Annotated[str | None, typer.Option(help="inat-xc: address of Xeno-canto.")]
Wikipedia = Annotated[str | None, typer.Option(help="inat-xc: address of Wikipedia (its language).")]
PhotosPerSecond = Annotated[float | None, typer.Option(help="inat-xc: photos asked for a second (20).")]
RecordingsPerSecond = Annotated[
    float | None, typer.Option(help="inat-xc: requests to Xeno-canto a second (1).")
]


def contact_of(given: str | None, source: str) -> str | None:
    """The contact for the source that wants one: the option, or else the environment."""
    wanted = source.replace("-", "_").casefold() == "inat_xc"
    return given if given is not None or not wanted else os.environ.get(CONTACT, "")

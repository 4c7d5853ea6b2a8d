"""datasheet.md: the questions of Gebru et al. (arXiv 1803.09010), answered where the manifest knows the answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from birdmml.build.report_text import markdown, templates
from birdmml.build.statements import of
from birdmml.schema import SPLITS

FILE = "datasheet.md"
# What only those can answer who publish the dataset; `birdmml push` counts what is left of it.
OPEN = "TO BE ANSWERED BY THE MAINTAINER"


def render(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> str:
    """The datasheet as Markdown; questions that the manifest cannot answer are marked with OPEN, not answered."""
    return _template().render(
        manifest=manifest,
        says=of(manifest, validation),
        splits=[(s, manifest["splits"][s]["rows"]) for s in SPLITS if s in manifest["splits"]],
        files=len(manifest["files"]),
        open=Markup(f"**{OPEN}.**"),  # noqa: S704  # our own words
    )


@cache
def _template() -> jinja2.Template:
    return templates(markdown).get_template("datasheet.md.j2")

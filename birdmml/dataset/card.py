"""The texts that a built dataset carries: its card (README.md), its datasheet, and both beside croissant.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from birdmml import __version__
from birdmml.core import files
from birdmml.core.licenses import UNKNOWN_LICENSE
from birdmml.core.text import RELATIONS, markdown, printable, templates
from birdmml.dataset import croissant
from birdmml.dataset.account import of
from birdmml.dataset.format import COLUMNS
from birdmml.schema import SPLITS

TEMPLATES = Path(__file__).with_name("templates")
PARTS = ("image", "audio", "caption")

# The Creative Commons licences and versions that the Hub's `license:` field knows; all others are `other` there.
_HUB_VERSIONS = {
    "by": ("2.0", "2.5", "3.0", "4.0"),
    "by-sa": ("3.0", "4.0"),
    "by-nc": ("2.0", "3.0", "4.0"),
    "by-nd": ("4.0",),
    "by-nc-nd": ("3.0", "4.0"),
    "by-nc-sa": ("2.0", "3.0", "4.0"),
}
HUB_LICENSES = frozenset({"cc0-1.0"} | {f"cc-{t}-{v}" for t, versions in _HUB_VERSIONS.items() for v in versions})

_SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7}
_TASKS = ("zero-shot-image-classification", "image-classification", "audio-classification")


def render_card(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> str:
    """The card as Markdown with YAML front matter; the same manifest and validation give the same text.

    Licence counts are those of `manifest["licenses"]` ({"image": {"CC-BY-4.0": rows, ...}, ...}).
    """
    facts, taxonomy = manifest["source"].get("facts", {}), manifest["taxonomy"]
    # With species of its own, a dataset's labels are rows of its own table.
    label = f"row of `species.csv`, from 0: one of the {taxonomy.get('species')} species of this dataset"
    own = {"label": label} if taxonomy.get("file") else {}
    return _card_template().render(
        manifest=manifest,
        validation=validation,
        front_matter=Markup(_front_matter(manifest)),  # noqa: S704  # JSON strings of our making, see below
        splits=[(s, manifest["splits"][s]) for s in SPLITS if s in manifest["splits"]],
        ceilings=facts.get("ceilings", {}),
        licenses=[(part, _by_count(manifest["licenses"][part])) for part in PARTS],
        rejects=_by_count(validation["rejects_by_reason"]),
        absent=_by_count(validation["absent_by_reason"]),
        leaks=validation["leakage"]["splits"],
        captions=validation["leakage"]["captions"],
        relations=RELATIONS,
        unverified=sum(facts.get("unverified", {}).values()),
        paper=facts.get("paper"),
        table=facts.get("table"),
        origins=validation["captions_by_origin"],
        unknown=validation["unknown_licenses"],
        conflicts=sum(len(d["species"]) > 1 for d in validation["duplicates"]),
        columns=[(Markup(c.name), c.kind, Markup(own.get(c.kind, c.meaning))) for c in COLUMNS],  # noqa: S704  # ours
        version=__version__,
    )


def hub_licenses(licenses: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The Hub's `license:` list for the licences of a dataset's parts, sorted, `other` last."""
    ids = {spdx.lower() for part in licenses.values() for spdx, rows in part.items() if rows}
    listed = sorted(ids & HUB_LICENSES)
    return listed if listed and ids <= HUB_LICENSES else [*listed, "other"]


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    return next((name for name, limit in _SIZES.items() if rows < limit), "10M<n<100M")


def _front_matter(manifest: Mapping[str, Any]) -> str:
    """YAML whose values are JSON, a subset of YAML: quotes, colons and line ends in them stay data."""
    demo = bool(manifest["demo"])
    # A pattern without a file would make the dataset unloadable.
    filled = [s for s in SPLITS if manifest["splits"].get(s, {}).get("rows")]
    fields = {
        "pretty_name": "birdmml demo (generated; not Bird-MML)" if demo else manifest["name"],
        "license": hub_licenses(manifest["licenses"]),
        "language": ["en"],
        "task_categories": list(_TASKS),
        "tags": ["birds", "bioacoustics", "biology", "multimodal", *(["synthetic"] if demo else [])],
        "size_categories": [size_category(int(manifest["counts"]["rows"]))],
        # `datasets` names its cache after this block and not after the shards: without the digest, a dataset
        # that was built again would be served from the cache of the old one.
        "configs": [
            {
                "config_name": "default",
                "description": f"build {manifest['digest'][:16]}",
                "data_files": [{"split": s, "path": f"data/{s}-*.parquet"} for s in filled],
            }
        ],
    }
    return "\n".join(f"{key}:{_yaml(value)}" for key, value in fields.items())


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return "".join(f"\n-{_yaml(item)}" for item in value)
    return f" {printable(json.dumps(value, ensure_ascii=False))}"


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Largest first, then by name; `unknown` last."""
    return sorted(counts.items(), key=lambda kv: (kv[0] == UNKNOWN_LICENSE, -kv[1], kv[0]))


def _settings(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and plain values, in the order of their names."""
    for key, item in sorted(value.items()):
        if isinstance(item, Mapping):
            yield from _settings(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


@cache
def _card_template() -> jinja2.Template:
    environment = templates(markdown, TEMPLATES)
    environment.filters["settings"] = lambda m: list(_settings(m))
    return environment.get_template("dataset_card.md.j2")


# The questions of Gebru et al. (arXiv 1803.09010), answered where the manifest knows the answer.
FILE = "datasheet.md"
# What only those can answer who publish the dataset; `birdmml push` counts what is left of it.
OPEN = "TO BE ANSWERED BY THE MAINTAINER"


def render(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> str:
    """The datasheet as Markdown; questions that the manifest cannot answer are marked with OPEN, not answered."""
    template = templates(markdown, TEMPLATES).get_template("datasheet.md.j2")
    return template.render(
        manifest=manifest,
        says=of(manifest, validation),
        splits=[(s, manifest["splits"][s]["rows"]) for s in SPLITS if s in manifest["splits"]],
        files=len(manifest["files"]),
        open=Markup(f"**{OPEN}.**"),  # noqa: S704  # our own words
    )


CARD = "README.md"
NAMES = (CARD, croissant.FILE, FILE)


def write_documents(root: Path, manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
    """Write them into a dataset's folder; the same manifest and validation give the same bytes."""
    files.write_text(root / CARD, render_card(manifest, validation))
    files.write_text(root / croissant.FILE, croissant.render(manifest, validation))
    files.write_text(root / FILE, render(manifest, validation))

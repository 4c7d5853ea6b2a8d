"""The cards of a board's dataset and Space, and the table of figures that the hub's viewer shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from birdmml import __version__
from birdmml.build.card import hub_licenses
from birdmml.build.report_text import markdown, templates
from birdmml.files import atomic_write
from birdmml.hub.parcel import TAGS, TEMPLATES
from birdmml.leaderboard.accepting import Change
from birdmml.leaderboard.submission import Entry, Submission
from birdmml.leaderboard.submission.model import at, plain

INDEX = "index.html"
_TEXTS = (
    "submission", "name", "license", "method", "preset", "protocol", "dataset", "suite", "evalset", "task", "metric",
)  # fmt: skip
_NUMBERS = ("value", "low", "high", "sd", "chance")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.float64()) for name in _NUMBERS),
        ("n", pa.int64()),
        ("seeds", pa.int64()),
        ("labels", pa.list_(pa.string())),
    ]
)


def write_figures(made: Sequence[Submission], path: Path) -> None:
    """One row a figure, shares as in the results; equal submissions give equal bytes."""
    rows = [row for one in made for entry in one.entries for row in _rows(one, entry)]
    with atomic_write(path) as f:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), f)


def dataset(repo: str, made: Sequence[Submission], changes: Sequence[Change], figures: str) -> str:
    """README.md of the dataset; what submitters wrote is inert in it."""
    from huggingface_hub import DatasetCardData

    counted = dict(sorted(Counter(str(one.about["license"]) for one in made).items()))
    demo = any("demo" in one.about["labels"] for one in made)
    data = DatasetCardData(
        pretty_name=f"{repo.split('/')[1]}: submissions to birdmml",
        license=hub_licenses({"submissions": counted}),
        tags=[*TAGS, "leaderboard", *(["synthetic", "demo"] if demo else [])],
        configs=[{"config_name": "figures", "data_files": figures, "default": True}],
    )
    return _template().render(
        front_matter=Markup(data.to_yaml()),  # noqa: S704  # a YAML writer's own quoting
        repo=Markup(repo),  # noqa: S704  # letters, digits, "-", "_", ".": checked
        name=repo.split("/")[1],
        demo=demo,
        made=sorted(made, key=lambda one: one.slug),
        results=sum(len(one.entries) for one in made),
        figures=sum(len(entry.result.figures) for one in made for entry in one.entries),
        licenses=counted,
        changes=changes,
        version=__version__,
    )


def space(repo: str) -> str:
    """README.md of the static Space."""
    from huggingface_hub import SpaceCardData

    data = SpaceCardData(title=repo.split("/")[1], sdk="static", app_file=INDEX, datasets=[repo])
    return (
        f"---\n{data.to_yaml()}\n---\n\nA static site that `birdmml leaderboard build` made from the submissions in the"
        " dataset of the same name.\nEvery figure of it can be computed again from that dataset.\n"
    )


def is_space(card: Path) -> bool:
    """Whether a README.md tells the hub to show index.html as it is; anything else could be told to run."""
    start, *rest = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    lines = rest[0].splitlines() if len(rest) == 2 and not start else []
    said = [line for line in lines if line.startswith(("sdk", "app_file"))]
    return sorted(said) == [f"app_file: {INDEX}", "sdk: static"]


def _rows(one: Submission, entry: Entry) -> Iterator[dict[str, Any]]:
    result = entry.result
    common = {
        "submission": one.slug,
        "name": plain(one.about["name"]),
        "license": one.about["license"],
        "method": plain(result.method),
        "preset": plain(result.preset),
        "protocol": at(result.settings, "protocol", "name"),
        "dataset": plain(str(result.dataset.get("name", ""))),
        "seeds": len(result.seeds),
        "labels": list(one.about["labels"]),
    }
    for f in result.figures:
        texts = {name: plain(getattr(f, name)) for name in ("suite", "evalset", "task", "metric")}
        yield common | texts | {name: getattr(f, name) for name in (*_NUMBERS, "n")}


@cache
def _template() -> jinja2.Template:
    return templates(markdown, TEMPLATES).get_template("board_card.md.j2")

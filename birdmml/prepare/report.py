"""report/ of a prepared set: report.json for programs, rejects.csv for tables, index.html for people."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2

from birdmml import files
from birdmml.media import image
from birdmml.prepare.account import RowsBySplit
from birdmml.prepare.decode import shrink
from birdmml.prepare.shards import EvalsetRow

MAX_THUMBS = 200
MAX_LISTED = 200
THUMB_PX = 64


def write_report(
    root: Path, report: Mapping[str, Any], classes: list[str], rows: RowsBySplit, folder: Path
) -> None:
    """Write all of report/ below `root`; thumbnails come from the media staged in `folder`. Same set, same bytes."""
    files.write_json(root / "report" / "report.json", report)
    files.write_text(root / "report" / "rejects.csv", _csv(report))
    page = _template().render(
        report=report,
        counts=list(_counts(report)),
        thumbs=list(_thumbs(classes, rows, folder)),
        shown=MAX_LISTED,
    )
    files.write_text(root / "report" / "index.html", page)


def _csv(report: Mapping[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("what", "path", "reason", "detail"))
    for what, listed in (("row", report["rejects"]), ("file", report["strays"])):
        writer.writerows((what, r["path"], r["reason"], r["detail"]) for r in listed)
    return out.getvalue()


def _counts(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(collection and split, published, in the tables, written) of everything that has a count."""
    yield "classes", f"{report['published']['classes']:,}", "", f"{report['found']['classes']:,}"
    for name, written in report["found"].items():
        if name == "classes":
            continue
        published, claimed = report["published"].get(name, {}), report["claimed"].get(name, {})
        for split in dict.fromkeys([*written, *published, *claimed]):
            first = f"{published[split]:,}" if split in published else ""
            yield f"{name} {split}", first, f"{_of(claimed, split):,}", f"{_of(written, split):,}"


def _of(counts: Mapping[str, int], split: str) -> int:
    return sum(counts.values()) if split == "all" else counts.get(split, 0)


def _thumbs(classes: list[str], rows: RowsBySplit, folder: Path) -> Iterator[tuple[str, str]]:
    """Class name and a small picture as a data URI, of the first row of each class that has one."""
    first: dict[int, bytes] = {}
    for splits in rows.values():
        for row in (row for part in splits.values() for row in part):
            if row.label not in first and (data := _first_picture(row, folder)):
                first[row.label] = data
    for label, data in sorted(first.items())[:MAX_THUMBS]:
        small = image.encode_jpeg(shrink(image.decode_image(data, at_least=THUMB_PX), THUMB_PX))
        yield classes[label], f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"


def _first_picture(row: EvalsetRow, folder: Path) -> bytes:
    return next(chain(row.media(folder, "frames"), row.media(folder, "image")), b"")


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("prepared.html.j2")

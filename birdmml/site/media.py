"""Photos, spectrograms and sounds of the items of a built dataset, each where its own licence lets it be shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml.build import report_draw
from birdmml.build.report_text import web_address
from birdmml.errors import MediaError
from birdmml.files import canonical_json
from birdmml.licenses import UNKNOWN_LICENSE, normalise
from birdmml.load import Built, DatasetRows
from birdmml.media import audio, image
from birdmml.site.model import BoardTable
from birdmml.site.significance import ColumnOutcomes
from birdmml.site.text import file_name, plain

SIDE_PX = 320
MOST = 2000
SCRIPT = "media"
_CREDIT = ("license", "author", "url")
_NAMES = {"image": "photo", "audio": "sound"}


@dataclass(frozen=True)
class ShownItem:
    """One item's media: `parts` of it ("image", "audio") may be shown; `values` are its row's columns."""

    id: str
    name: str
    row: int
    parts: tuple[str, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class SiteMedia:
    """The media of one split of a dataset; `tables` are those whose items they are."""

    rows: DatasetRows
    rate_hz: int
    shown: tuple[ShownItem, ...]
    tables: frozenset[str]
    script: str = SCRIPT

    def of(self, table: BoardTable) -> bool:
        """Whether the table's items are these."""
        return table.id in self.tables

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The script that names them, and every medium; one row group of the dataset is in memory at a time."""
        credits = [[plain(s.id), _about(s)] for s in self.shown]
        yield (
            f"items/{SCRIPT}.js",
            f'"use strict";birdmmlMedia({canonical_json(credits)});\n'.encode(),
        )
        for one in self.shown:
            (cells,) = self.rows.cells([one.row])
            for suffix, content in _content(one, cells, self.rate_hz):
                yield f"items/media/{one.name}{suffix}", content


def of(
    data: Path, tables: Sequence[tuple[BoardTable, Sequence[ColumnOutcomes]]]
) -> tuple[SiteMedia, list[str]]:
    """The media of every item of the test split that a page may list, and notes on what is left out.

    Raises DatasetError for a folder that is no built dataset.
    """
    built = Built.open(data)
    mine = [(t, tasks) for t, tasks in tables if t.evalset == "test-split" and t.digest == built.digest[:12]]
    wanted = {i for _, tasks in mine for task in tasks for i in task.items.ids}
    rows = built.split("test")
    columns = {
        name: rows.column(name)
        for name in ("id", "audio_valid_seconds", *(f"{p}_{c}" for p in ("image", "audio") for c in _CREDIT))
    }
    closed: Counter[str] = Counter()
    shown: list[ShownItem] = []
    for row, item in enumerate(columns["id"]):
        if item in wanted and len(shown) < MOST:
            values = {name: column[row] for name, column in columns.items()}
            parts = tuple(p for p in ("image", "audio") if may_be_shown(values[f"{p}_license"]))
            closed.update({"image", "audio"} - set(parts))
            if parts:
                shown.append(ShownItem(item, file_name(item), row, parts, values))
    notes = [
        f"no {part} of {n:,} items: their licence does not allow it" for part, n in sorted(closed.items())
    ]
    if not mine:
        notes.append(
            f"no table sets two results on the test split of {data} side by side: no media are shown"
        )
    if len(wanted) > MOST:
        notes.append(f"media of at most {MOST:,} items are shown; {len(wanted):,} are listed")
    rate_hz = int(built.manifest["settings"]["rate_hz"])
    return SiteMedia(rows, rate_hz, tuple(shown), frozenset(t.id for t, _ in mine)), notes


def may_be_shown(license_id: str | None) -> bool:
    """Whether a copy, scaled down or drawn as a spectrogram, may be passed on: Creative Commons, but no ND."""
    license_id = normalise(license_id)
    return license_id != UNKNOWN_LICENSE and "-ND" not in license_id


def _content(one: ShownItem, cells: Mapping[str, Any], rate_hz: int) -> Iterator[tuple[str, bytes]]:
    try:
        if "image" in one.parts:
            yield ".jpg", image.ready_image(cells["image"]["bytes"], SIDE_PX).data
        if "audio" in one.parts:
            clip = cells["audio"]["bytes"]
            samples = audio.decode_clip(clip, rate_hz)
            yield ".png", report_draw.spectrogram_png(samples, rate_hz, one.values["audio_valid_seconds"])
            yield ".flac", clip
    except MediaError as e:
        raise MediaError(
            e.reason, f"{plain(one.id)}: {e.detail}; run `birdmml validate` on the dataset"
        ) from e


def _about(one: ShownItem) -> dict[str, Any]:
    """What the page says of an item: whose photo and sound it shows, under which licence."""
    credits = [_credit(name, part, one.values) for part, name in _NAMES.items() if part in one.parts]
    return {"name": one.name, **dict.fromkeys(one.parts, True), "credits": credits}


def _credit(name: str, part: str, values: Mapping[str, Any]) -> list[str]:
    author = plain(values[f"{part}_author"] or "author not named")
    address = web_address(values[f"{part}_url"] or "") or ""
    return [f"{name}: {author}, {plain(values[f'{part}_license'])}", address]

"""What the page that compares two rows item by item reads: one script a column, one digit an item and row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdmml.core.files import canonical_json
from birdmml.core.licenses import UNKNOWN_LICENSE, normalise
from birdmml.core.text import file_name, plain, web_address
from birdmml.dataset import report
from birdmml.errors import MediaError, UnknownName
from birdmml.leaderboard.site.items import Doubles, ItemOutcomes
from birdmml.leaderboard.site.model import BoardTable
from birdmml.leaderboard.site.significance import ColumnOutcomes
from birdmml.load import Built, DatasetRows
from birdmml.media import audio, image
from birdmml.results.metrics import cutoff

# Of items in a file, and of digits: ten million are as much as a browser should be asked to read.
MOST_ITEMS, MOST_DIGITS = 100_000, 10_000_000
# Two digits to base 36.
MOST_NAMES = 36 * 36
_DIGITS = np.array(list("0123456789a"))


def browsable(table: BoardTable, tasks: Sequence[ColumnOutcomes]) -> list[ColumnOutcomes]:
    """The columns in which an item is right or wrong, and two rows at least can be compared."""
    return [
        t for t in tasks if len(t.rows) > 1 and len(t.items.ids) <= MOST_ITEMS and _rank(table.columns[t.column].metric)
    ]


def name(table: BoardTable, task: ColumnOutcomes) -> str:
    """The script's name, without its ending."""
    return f"{table.id}-{task.column + 1}"


def rule(table: BoardTable, tasks: Sequence[ColumnOutcomes]) -> str:
    """When an item counts as right, in words."""
    metrics = dict.fromkeys(table.columns[t.column].metric for t in tasks)
    rules = [
        "the right answer comes first" if (k := _rank(m)) == 1 else f"it is among the first {k} ({plain(m)})"
        for m in metrics
    ]
    return "; or ".join(rules)


def script(table: BoardTable, task: ColumnOutcomes) -> str:
    """The data of one column as a call, for a page opened as a file may read no other kind of file.

    Each row is its words, its page, a digit an item (how often it was right, in tenths), and where answers are classes
    two more an item: what it was taken for, by the place in `classes`, to base 36.
    """
    units, metric = task.items.units, table.columns[task.column].metric
    # The place of each different item; several draws of one stand together.
    first = range(len(task.items.ids)) if units is None else np.unique(units, return_index=True)[1].tolist()
    rows = max(2, MOST_DIGITS // (3 * len(first)))  # The best ones.
    chosen = list(zip(task.rows, task.values, strict=True))[:rows]
    classes = sorted({n for _, items in chosen if items.confusion for n in items.confusion.names})
    place = {name: i for i, name in enumerate(classes)} if len(classes) <= MOST_NAMES else {}
    entries: list[list[str]] = []
    for row, items in chosen:
        words, member = table.rows[row].name, table.rows[row].member
        if member is not None:
            words = plain(f"{words}, {member.result.preset}: {member.title}")
        answers = ""  # Stays so where they are no classes, or several draws took an item for several.
        if place and items.named is not None and items.confusion is not None and items.units is None:
            codes = [np.base_repr(place[name], 36).lower().rjust(2, "0") for name in items.confusion.names]
            answers = "".join(codes[items.named[i]] for i in first)
        tenths = "".join(_DIGITS[np.floor(10 * _shares(items, metric) + 0.5).astype(np.int64)])
        entries.append([words, "" if member is None else member.page, tenths, answers])
    value: dict[str, Any] = {"ids": [plain(task.items.ids[i]) for i in first], "entries": entries}
    if task.items.targets is not None:
        value["targets"] = [plain(task.items.targets[i]) for i in first]
    if place:
        value["classes"] = [plain(name) for name in classes]
    return f'"use strict";birdmmlItems({canonical_json(name(table, task))},{canonical_json(value)});\n'


def _rank(metric: str) -> int:
    """The k of a metric that says right or wrong, else 0."""
    try:
        return cutoff(metric)
    except UnknownName:
        return 0


def _shares(items: ItemOutcomes, metric: str) -> Doubles:
    """How often each different item was right, over seeds and draws."""
    values = items.values[metric]
    if items.units is None:
        return values
    return np.asarray(np.bincount(items.units, values) / np.bincount(items.units))


# Photos, spectrograms and sounds of the items of a built dataset, each where its own licence lets it be shown.
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
        credits = [[plain(s.id), _about_item(s)] for s in self.shown]
        yield (f"items/{SCRIPT}.js", f'"use strict";birdmmlMedia({canonical_json(credits)});\n'.encode())
        for one in self.shown:
            (cells,) = self.rows.cells([one.row])
            for suffix, content in _content(one, cells, self.rate_hz):
                yield f"items/media/{one.name}{suffix}", content


def of(data: Path, tables: Sequence[tuple[BoardTable, Sequence[ColumnOutcomes]]]) -> tuple[SiteMedia, list[str]]:
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
    notes = [f"no {part} of {n:,} items: their licence does not allow it" for part, n in sorted(closed.items())]
    if not mine:
        notes.append(f"no table sets two results on the test split of {data} side by side: no media are shown")
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
            yield ".png", report.spectrogram_png(samples, rate_hz, one.values["audio_valid_seconds"])
            yield ".flac", clip
    except MediaError as e:
        raise MediaError(e.reason, f"{plain(one.id)}: {e.detail}; run `birdmml validate` on the dataset") from e


def _about_item(one: ShownItem) -> dict[str, Any]:
    """What the page says of an item: whose photo and sound it shows, under which licence."""
    credits = [_credit(name, part, one.values) for part, name in _NAMES.items() if part in one.parts]
    return {"name": one.name, **dict.fromkeys(one.parts, True), "credits": credits}


def _credit(name: str, part: str, values: Mapping[str, Any]) -> list[str]:
    author = plain(values[f"{part}_author"] or "author not named")
    address = web_address(values[f"{part}_url"] or "") or ""
    return [f"{name}: {author}, {plain(values[f'{part}_license'])}", address]

"""report/index.html of a built dataset: what is in it, seen and heard. No script, and no request to anywhere."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from birdmml.core import files
from birdmml.core.pool import Pool
from birdmml.core.species_list import dataset_taxonomy
from birdmml.core.text import RELATIONS, csv_cell, printable, templates, web_address
from birdmml.dataset.catalog import Catalog
from birdmml.errors import DatasetError, MediaError
from birdmml.media import audio, image
from birdmml.media.audio import Sound
from birdmml.schema import SPLITS

WIDTH, HEIGHT = 400, 128
WINDOW = 2 * 2 * HEIGHT
RANGE_DB = 65.0

# Colours between these, dark to bright; 63 steps keep the PNG small and are more than the eye separates here.
_ANCHORS = ((9, 17, 33), (22, 52, 84), (19, 103, 110), (70, 155, 96), (206, 192, 79), (255, 247, 214))
_STEPS = 63


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: values from `low` up to `high`, of which there are `count`."""

    low: float
    high: float
    count: int


def spectrogram_png(samples: Sound, rate_hz: int, valid_seconds: float) -> bytes:
    """A PNG of WIDTH x HEIGHT px: time to the right, 0 Hz at the bottom, half the rate at the top.

    `samples` is float32 [T]. Power in dB under the clip's own maximum, the lowest colour at -65 dB. What
    lies behind `valid_seconds` is padding and transparent.
    """
    padded = np.pad(samples, (WINDOW // 2, WINDOW // 2))
    starts = np.linspace(0, max(0, len(samples) - 1), WIDTH).astype(np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[starts]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)[:, 1:]) ** 2
    # The strongest of the frequencies that a row of pixels stands for: a mean would hide thin whistles.
    bands = power.reshape(WIDTH, HEIGHT, -1).max(axis=2)
    relative = np.maximum(bands / max(float(bands.max()), 1e-12), 10 ** (-RANGE_DB / 10))
    share = (10 * np.log10(relative) / RANGE_DB + 1).T[::-1]  # From 0 to 1, the highest band first.
    level = np.rint(share * (_STEPS - 1)).astype(np.uint8)
    padding_from = math.ceil(WIDTH * valid_seconds * rate_hz / max(1, len(samples)))
    level[:, padding_from:] = _STEPS
    picture = Image.fromarray(level, mode="P")
    picture.putpalette(_palette())
    out = io.BytesIO()
    picture.save(out, "PNG", transparency=_STEPS)
    return out.getvalue()


@cache
def _palette() -> bytes:
    """RGB triples of the colours, and one more for the transparent padding."""
    at = np.linspace(0, len(_ANCHORS) - 1, _STEPS)
    channels = [np.interp(at, range(len(_ANCHORS)), [a[c] for a in _ANCHORS]) for c in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes() + bytes((128, 128, 128))


def histogram(values: NDArray[np.float64], integers: bool = False, bars: int = 24) -> list[Bar]:
    """Up to `bars` bars of equal width over the finite values; one bar if all are equal, none for no values.

    With `integers`, values are whole numbers and a bar holds `low`, ..., `high` - 1.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [Bar(low, low + integers, len(values))]
    if integers:
        width = math.ceil((high - low + 1) / bars)
        edges = np.arange(low, high + width + 1, width)
    else:
        edges = np.linspace(low, high, bars + 1)
    counts, edges = np.histogram(values, edges)
    return [
        Bar(float(a), float(min(b, high + integers)), int(n))
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


_WORDS = (
    "id caption caption_origin image_id audio_id image_license image_author image_url audio_license audio_author "
    "audio_url caption_license caption_author caption_url"
)
_NUMBERS = "label image_width image_height audio_start_s audio_valid_seconds audio_rms_dbfs audio_clipped_share"
COLUMNS = [*_WORDS.split(), *_NUMBERS.split()]

# Rows read at a time: their texts, not their media, are in memory.
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Example:
    """One row chosen for the gallery, and where its media lie."""

    shard: str
    index: int
    split: str
    values: Mapping[str, Any] = field(compare=False)


@dataclass
class DatasetSurvey:
    """All rows as numbers, and the examples of each label, in the order of their shards.

    `numbers` holds one float64 [N] for seconds of sound, level, photo side and words of the caption.
    """

    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    rows_by_label: dict[int, Counter[str]] = field(default_factory=dict)
    examples: dict[int, list[Example]] = field(default_factory=dict)
    clipped_rows: int = 0


def survey(root: Path, manifest: Mapping[str, Any], per_species: int) -> DatasetSurvey:
    """Read the columns that are not media, once. Raises DatasetError if a shard cannot be read."""
    out = DatasetSurvey()
    chunks: dict[str, list[NDArray[np.float64]]] = {"seconds": [], "level": [], "side": [], "words": []}
    pools: dict[int, _Pool] = {}
    for split in SPLITS:
        for shard in manifest["splits"].get(split, {}).get("shards", ()):
            index = itertools.count()
            with _open(root / shard["path"]) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=COLUMNS):
                    measured = {
                        "seconds": batch["audio_valid_seconds"].to_numpy(),
                        "level": batch["audio_rms_dbfs"].to_numpy(),
                        "side": np.maximum(batch["image_width"].to_numpy(), batch["image_height"].to_numpy()),
                        "words": np.array([len((text or "").split()) for text in batch["caption"].to_pylist()]),
                    }
                    for name, column in measured.items():
                        chunks[name].append(column.astype(np.float64))
                    out.clipped_rows += int(np.count_nonzero(batch["audio_clipped_share"].to_numpy() > 0))
                    for values in batch.to_pylist():
                        label = values["label"]
                        out.rows_by_label.setdefault(label, Counter())[split] += 1
                        pool = pools.setdefault(label, _Pool(per_species))
                        pool.offer(Example(shard["path"], next(index), split, values))
    out.numbers = {k: np.concatenate(v) if v else np.empty(0) for k, v in chunks.items()}
    out.examples = {label: pools[label].chosen() for label in sorted(pools)}
    return out


def media(root: Path, examples: list[Example]) -> Iterator[tuple[Example, bytes, bytes]]:
    """Each example with its photo's and its clip's bytes; at most one row group is in memory."""
    wanted: dict[str, list[Example]] = {}
    for example in examples:
        wanted.setdefault(example.shard, []).append(example)
    for shard, mine in wanted.items():
        with _open(root / shard) as file:
            first = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                here = [e for e in mine if first <= e.index < first + rows]
                if here:
                    table = file.read_row_group(group, columns=["image.bytes", "audio.bytes"])
                    for e in here:
                        image, audio = (table[c][e.index - first].as_py()["bytes"] for c in ("image", "audio"))
                        yield e, image, audio
                first += rows


class _Pool:
    """The first rows of a species that show a photo and a clip of their own; failing that, one of the two."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fresh: list[Example] = []
        self.spare: list[Example] = []
        self.seen: set[str] = set()
        self.seen_fresh: set[str] = set()

    def offer(self, example: Example) -> None:
        if len(self.fresh) == self.size:
            return
        ids = {f"image {example.values['image_id']}", f"audio {example.values['audio_id']}"}
        if not ids & self.seen_fresh:
            self.fresh.append(example)
            self.seen_fresh |= ids
        elif len(self.spare) < self.size and not ids <= self.seen:
            self.spare.append(example)
        self.seen |= ids

    def chosen(self) -> list[Example]:
        return (self.fresh + self.spare)[: self.size]


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as e:
        raise DatasetError(f"{path} cannot be read ({e}): build the dataset again") from e


TEMPLATES = Path(__file__).with_name("templates")
# The page must open in a browser: what is left out stands in CSV beside it.
PER_SPECIES, MAX_SPECIES, MAX_LISTED, MAX_ABSENT = 3, 150, 200, 50
PHOTO_SIDE = 480
_AT_ONCE = 16
Progress = Callable[[int, int], None]
MUST_NOT_LEAK = tuple(key for key, _ in RELATIONS[:5])


@dataclass(frozen=True)
class Chart:
    """A histogram with its words: `unit` follows each value, `digits` of which are shown."""

    title: str
    unit: str
    digits: int
    bars: list[Bar]
    median: float


def write_report(
    root: Path,
    manifest: Mapping[str, Any],
    validation: Mapping[str, Any],
    progress: Progress | None = None,
    pool: Pool | None = None,
) -> None:
    """Write `root`/report/index.html and report/media/ from the shards of `root`; same dataset, same bytes.

    Shows PER_SPECIES rows of each of the first MAX_SPECIES species and MAX_LISTED rejects. `progress` is
    told (rows drawn, rows to draw). Raises DatasetError if a shard or a medium in it cannot be read.
    """
    species = dataset_taxonomy(root, manifest)
    sampled = survey(root, manifest, PER_SPECIES)
    labels = sorted(sampled.examples)[:MAX_SPECIES]
    names = {
        e: f"{species.by_label(label).slug}-{n}" for label in labels for n, e in enumerate(sampled.examples[label], 1)
    }
    rate_hz = int(manifest["settings"]["rate_hz"])
    _write_media(root, names, rate_hz, pool or Pool(1), progress)
    most_first = sorted(sampled.rows_by_label.items(), key=lambda item: (-item[1].total(), item[0]))
    css, policy = page_style(TEMPLATES / "report.css", sources="img-src 'self'; media-src 'self'; ")
    page = _template().render(
        manifest=manifest,
        validation=validation,
        css=css,
        csp=policy,
        splits=[(s, manifest["splits"][s]) for s in SPLITS if s in manifest["splits"]],
        gallery=[
            {
                "species": species.by_label(label),
                "rows": sampled.rows_by_label[label].total(),
                "splits": [(s, n) for s in SPLITS if (n := sampled.rows_by_label[label][s])],
                "cards": [(names[e], e.split, e.values) for e in sampled.examples[label]],
            }
            for label in labels
        ],
        species_total=len(sampled.examples),
        charts=_charts(sampled),
        rows_chart=[
            {"name": species.by_label(label).called, "rows": rows.total(), "splits": [(s, rows[s]) for s in SPLITS]}
            for label, rows in most_first
        ],
        clipped_rows=sampled.clipped_rows,
        shard_bytes=sum(s["bytes"] for split in manifest["splits"].values() for s in split["shards"]),
        max_listed=MAX_LISTED,
        max_absent=MAX_ABSENT,
        unverified=sum(manifest["source"].get("facts", {}).get("unverified", {}).values()),
        partly=any(s["recovered"] or s["lost"] for s in validation.get("by_species", ())),
        leaks=validation["leakage"]["splits"],
        captions=validation["leakage"]["captions"],
        relations=RELATIONS,
        must_not_leak=MUST_NOT_LEAK,
        per_species=PER_SPECIES,
    )
    files.write_text(root / "report" / "index.html", page)


def _write_media(root: Path, names: Mapping[Example, str], rate_hz: int, pool: Pool, progress: Progress | None) -> None:
    folder = root / "report" / "media"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Neighbours lie in one row group, which is read once for each task.
    named = sorted(names.items(), key=lambda entry: (entry[0].shard, entry[0].index))
    tasks = [_MediaTask(root, dict(named[i : i + _AT_ONCE]), rate_hz) for i in range(0, len(named), _AT_ONCE)]
    drawn = 0

    def done(index: int, count: int) -> None:
        nonlocal drawn
        drawn += count
        if progress is not None:
            progress(drawn, len(named))

    pool.feed(_draw, tasks, done)


@dataclass(frozen=True)
class _MediaTask:
    root: Path
    names: Mapping[Example, str]
    rate_hz: int


def _draw(task: _MediaTask) -> int:
    """Write photo, sound and spectrogram of some rows; how many."""
    for example, photo, clip in media(task.root, list(task.names)):
        try:
            small = image.ready_image(photo, PHOTO_SIDE).data
            samples = audio.decode_clip(clip, task.rate_hz)
        except MediaError as e:
            raise DatasetError(
                f"row {example.values['id']!r} in {task.root / example.shard}: {e}; build the dataset again"
            ) from e
        spectrogram = spectrogram_png(samples, task.rate_hz, example.values["audio_valid_seconds"])
        for suffix, data in ((".jpg", small), (".flac", clip), (".png", spectrogram)):
            # No sync for each: the build renames its whole folder when all is done.
            (task.root / "report" / "media" / (task.names[example] + suffix)).write_bytes(data)
    return len(task.names)


def _charts(sampled: DatasetSurvey) -> list[Chart]:
    wanted = (
        ("seconds", "Sound in a clip", "s", 1),
        ("level", "Level of a clip", "dBFS", 1),
        ("side", "Longer side of a photo", "px", 0),
        ("words", "Length of a caption", "words", 0),
    )
    return [
        Chart(title, unit, digits, bars, float(np.median(sampled.numbers[key])))
        for key, title, unit, digits in wanted
        if (bars := histogram(sampled.numbers[key], integers=not digits))
    ]


@cache
def page_style(*sheets: Path, sources: str = "") -> tuple[Markup, str]:
    """The CSS of some of our own files, and a policy under which a page has this one style and `sources`, no more.

    Nothing else can load or run, whatever a stranger's text contains: the style is named by its hash.
    """
    css = Markup("".join(sheet.read_text(encoding="utf-8") for sheet in sheets))  # noqa: S704  # our own files
    style = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return css, f"default-src 'none'; {sources}style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"


@cache
def _template() -> jinja2.Template:
    environment = templates(printable, TEMPLATES)
    environment.filters["fixed"] = lambda x, digits: f"{x:,.{digits}f}".replace("-", "−")
    environment.filters["human_bytes"] = files.human_bytes
    environment.filters["web_address"] = web_address
    environment.filters["by_count"] = lambda counts: sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))
    return environment.get_template("report.html.j2")


def write_listings(folder: Path, catalog: Catalog) -> None:
    """Write rejects.csv and absent.csv into `folder`; one line each, nothing left out."""
    for name, absent in (("rejects.csv", False), ("absent.csv", True)):
        with files.atomic_write(folder / name) as f:
            text = io.TextIOWrapper(f, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(("path", "species", "reason", "detail"))
            for reject in catalog.rejects(absent):
                writer.writerow(csv_cell(v) for v in (reject.path, reject.species, reject.reason, reject.detail))
            text.detach()

"""report/index.html of a built dataset: what is in it, seen and heard. No script, and no request to anywhere."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from birdmml import files
from birdmml.build import report_draw, report_read
from birdmml.build.pool import Pool
from birdmml.build.report_text import RELATIONS, TEMPLATES, templates, web_address
from birdmml.errors import DatasetError, MediaError
from birdmml.media import audio, image
from birdmml.schema import SPLITS
from birdmml.species_list import dataset_taxonomy
from birdmml.taxonomy import Species, Taxonomy
from birdmml.text import printable

PER_SPECIES = 3
MAX_SPECIES = 150
MAX_LISTED = 200
MAX_ABSENT = 50
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
    bars: list[report_draw.Bar]
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
    sampled = report_read.survey(root, manifest, PER_SPECIES)
    labels = sorted(sampled.examples)[:MAX_SPECIES]
    shown = [example for label in labels for example in sampled.examples[label]]
    names = {
        e: f"{species.by_label(label).slug}-{n}"
        for label in labels
        for n, e in enumerate(sampled.examples[label], 1)
    }
    rate_hz = int(manifest["settings"]["rate_hz"])
    _write_media(root, [(names[e], e) for e in shown], rate_hz, pool or Pool(1), progress)
    page = _template().render(
        manifest=manifest,
        validation=validation,
        css=_css(),
        csp=_policy(),
        splits=[(s, manifest["splits"][s]) for s in SPLITS if s in manifest["splits"]],
        gallery=[_section(species.by_label(label), sampled, names) for label in labels],
        species_total=len(sampled.examples),
        charts=_charts(sampled),
        rows_chart=_rows_chart(sampled, species),
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


def _write_media(
    root: Path,
    named: list[tuple[str, report_read.Example]],
    rate_hz: int,
    pool: Pool,
    progress: Progress | None,
) -> None:
    folder = root / "report" / "media"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Neighbours lie in one row group, which is read once for each task.
    named = sorted(named, key=lambda entry: (entry[1].shard, entry[1].index))
    tasks = [
        _MediaTask(root, tuple(named[i : i + _AT_ONCE]), rate_hz) for i in range(0, len(named), _AT_ONCE)
    ]
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
    named: tuple[tuple[str, report_read.Example], ...]
    rate_hz: int


def _draw(task: _MediaTask) -> int:
    """Write photo, sound and spectrogram of some rows; how many."""
    names = {example: name for name, example in task.named}
    for example, photo, clip in report_read.media(task.root, [e for _, e in task.named]):
        try:
            small = image.ready_image(photo, PHOTO_SIDE).data
            samples = audio.decode_clip(clip, task.rate_hz)
        except MediaError as e:
            raise DatasetError(
                f"row {example.values['id']!r} in {task.root / example.shard}: {e}; build the dataset again"
            ) from e
        spectrogram = report_draw.spectrogram_png(
            samples, task.rate_hz, example.values["audio_valid_seconds"]
        )
        for suffix, data in ((".jpg", small), (".flac", clip), (".png", spectrogram)):
            # No sync for each: the build renames its whole folder when all is done.
            (task.root / "report" / "media" / (names[example] + suffix)).write_bytes(data)
    return len(names)


def _section(
    species: Species, sampled: report_read.Survey, names: Mapping[report_read.Example, str]
) -> dict[str, Any]:
    label = species.label
    rows = sampled.rows_by_label[label]
    return {
        "species": species,
        "rows": sum(rows.values()),
        "splits": [(s, rows[s]) for s in SPLITS if rows[s]],
        "cards": [(names[e], e.split, e.values) for e in sampled.examples[label]],
    }


def _charts(sampled: report_read.Survey) -> list[Chart]:
    wanted = (
        ("seconds", "Sound in a clip", "s", 1),
        ("level", "Level of a clip", "dBFS", 1),
        ("side", "Longer side of a photo", "px", 0),
        ("words", "Length of a caption", "words", 0),
    )
    return [
        Chart(title, unit, digits, bars, float(np.median(sampled.numbers[key])))
        for key, title, unit, digits in wanted
        if (bars := report_draw.histogram(sampled.numbers[key], whole=not digits))
    ]


def _rows_chart(sampled: report_read.Survey, species: Taxonomy) -> list[dict[str, Any]]:
    """Rows of each species by split, most first."""
    order = sorted(sampled.rows_by_label.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return [
        {
            "name": species.by_label(label).called,
            "rows": sum(rows.values()),
            "splits": [(s, rows[s]) for s in SPLITS],
        }
        for label, rows in order
    ]


@cache
def _css() -> Markup:
    return Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704  # our own file


@cache
def _policy() -> str:
    """The page may show its own photos and play its own sounds, in its one style; nothing else can load or run."""
    style = base64.b64encode(hashlib.sha256(_css().encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src 'self'; media-src 'self'; style-src 'sha256-{style}'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _template() -> jinja2.Template:
    environment = templates(printable)
    environment.filters["fixed"] = lambda x, digits: f"{x:,.{digits}f}".replace("-", "−")
    environment.filters["human_bytes"] = files.human_bytes
    environment.filters["web_address"] = web_address
    environment.filters["by_count"] = lambda counts: sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))
    return environment.get_template("report.html.j2")

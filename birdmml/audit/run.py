"""One audit from start to finish: the only place where its checks meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmml import __version__
from birdmml.audit import findings, leak, probing, summary, told
from birdmml.audit.media import DIMENSIONS, Measured, measure
from birdmml.audit.model import FORMAT, PAPER, RED, Audit, Finding, Skipped
from birdmml.audit.rows import Rows, read
from birdmml.audit.shards import NO_SPLIT, Unreadable, find
from birdmml.build.near import RADIUS
from birdmml.build.pool import Pool
from birdmml.errors import UsageError
from birdmml.taxonomy import shipped

Progress = Callable[[str, int, int], None]

SAMPLE = 6000


@dataclass(frozen=True)
class Settings:
    """What decides an audit. `sample`: rows for the probes; `near_radius`: bits, negative for no near duplicates."""

    sample: int = SAMPLE
    seed: int = 0
    evalsets: tuple[Path, ...] = ()
    near_radius: int = RADIUS


def audit(
    root: Path, settings: Settings | None = None, workers: int = 1, progress: Progress | None = None
) -> Audit:
    """Audit the Parquet shards below `root`; nothing there is changed. Same dataset, settings, seed: the same value.

    Raises DatasetError if no shard can be read, EvalsetError if an evaluation set cannot.
    """
    settings = settings or Settings()
    if settings.sample < 1 or settings.seed < 0:
        raise UsageError(
            f"a sample of {settings.sample} rows with seed {settings.seed}: give 1 or more, and 0 or more"
        )
    tell = progress or (lambda stage, done, total: None)
    shards, bad = find(root)
    said = told.read(root, shards, bad, lambda done, total: tell("manifest", done, total))
    rows = read(shards, lambda done, total: tell("columns", done, total))
    at = summary.sample(rows.label, settings.sample, settings.seed)
    with Pool(workers) as pool:
        media = measure(rows, at.tolist(), pool, lambda done, total: tell("media", done, total))
        probed = probing.run(
            rows, media, at, settings.seed, pool, lambda done, total: tell("probes", done, total)
        )
    return _whole(root, settings, rows, media, bad, said, probed)


def _whole(
    root: Path,
    settings: Settings,
    rows: Rows,
    media: Mapping[str, Measured],
    bad: Sequence[Unreadable],
    said: told.Told,
    probed: Mapping[str, probing.Probed],
) -> Audit:
    licensed = summary.license_columns(rows)
    different = summary.keys(rows, media)
    split_leaks, leaking = leak.of_splits(rows, leak.keys(rows, media, settings.near_radius))
    overlaps, overlapping = (
        leak.of_evalsets(rows, media["image"], settings.evalsets, settings.near_radius)
        if "image" in media
        else ((), [])
    )
    caption_leaks, naming = leak.of_captions(rows, said.species or shipped())
    probes = tuple(probing.line(name, p, said.ceilings.get(name)) for name, p in probed.items())
    found = [
        *findings.at_chance(probes),
        *said.findings,
        *findings.unreadable(bad, rows),
        *findings.labels(rows),
        *findings.texts(rows),
        *findings.splits(rows),
        *_media_findings(rows, media, said),
        # Drawings in one pose look alike: in the demo that is no copy, and the table of leaks says how many.
        *(f for f in leaking if not (said.demo and f.slug == "split_leak_near_duplicate")),
        *overlapping,
        *naming,
        *summary.license_findings(rows, licensed),
    ]
    found.sort(key=lambda f: f.severity != RED)
    return Audit(
        format=FORMAT,
        birdmml=__version__,
        name=said.name or root.resolve().name,
        demo=said.demo,
        digest=said.digest,
        manifest=said.state,
        seed=settings.seed,
        sample=settings.sample,
        near_radius=settings.near_radius,
        shards=len(rows.shards),
        bytes=sum(s.path.stat().st_size for s in rows.shards),
        columns={part: column for s in reversed(rows.shards) for part, column in s.columns.items()},
        verdict=_verdict(found),
        findings=tuple(found),
        skipped=tuple(_skipped(rows, media, said, settings)),
        count=summary.count(rows, different, np.arange(len(rows))),
        paper=PAPER,
        splits=summary.by_split(rows, different),
        species=summary.by_species(
            rows, media, different, licensed, {k: (p.at, p.outcome) for k, p in probed.items()}
        ),
        licenses=summary.by_license(licensed),
        caption_leaks=caption_leaks,
        split_leaks=split_leaks,
        overlaps=overlaps,
        media=summary.media_table(media),
        probes=probes,
    )


def _verdict(found: Sequence[Finding]) -> str:
    red = sum(f.severity == RED for f in found)
    amber = len(found) - red
    words = [f"{red} serious"] if red else []
    words += [f"{amber} worth knowing"] if amber else []
    return ", ".join(words) or "nothing found"


def _media_findings(rows: Rows, media: Mapping[str, Measured], said: told.Told) -> list[Finding]:
    found: list[Finding] = []
    for kind, measured in media.items():
        found += findings.states(rows, kind, measured)
        found += findings.hashes(rows, kind, measured)
        found += findings.images(rows, measured) if kind == "image" else findings.sounds(rows, measured, said)
        found += findings.reuse(rows, kind, measured)
    return found


def _skipped(rows: Rows, media: Mapping[str, Measured], said: told.Told, settings: Settings) -> list[Skipped]:
    """What could not be checked, and why: an audit that is silent about it would say too much."""
    out = []
    for kind in DIMENSIONS:
        if kind not in media:
            out.append(Skipped(kind, f"no column of {kind} bytes (struct<bytes, path> or binary)"))
        elif not rows.has(f"{kind}_sha256"):
            out.append(Skipped(f"{kind} hashes", f"no column {kind}_sha256 to compare the bytes with"))
    if not rows.has("caption"):
        out.append(Skipped("text", "no column of captions"))
    elif not (rows.codes("caption") >= 0).any():
        out.append(Skipped("text", "the column of captions is empty"))
    if not rows.has("label") and not rows.has("species"):
        out.append(Skipped("probes and species", "no column of labels or species"))
    held = {s.split for s in rows.shards if sum(s.group_rows)} - {NO_SPLIT}
    if len(held) < 2:
        out.append(
            Skipped("leakage across splits", f"only one split ({', '.join(held) or 'files name none'})")
        )
    for part, what in (("recording_id", "recordings"), ("observation_id", "observations")):
        if not rows.has(part):
            out.append(Skipped(f"groups of {what}", f"no column {part}"))
    if not any(rows.has(f"{p}_license") for p in summary.PARTS):
        out.append(Skipped("licences", "no column of licences"))
    if said.demo:
        out.append(
            Skipped(
                "look-alikes as a fault", "drawings in one pose look alike; the table of leaks counts them"
            )
        )
    if said.state == told.NONE:
        out.append(
            Skipped("manifest", "no manifest.json: the bytes cannot be compared with those of a build")
        )
    if settings.evalsets and "image" not in media:
        out.append(Skipped("overlap with evaluation sets", "no photos to compare"))
    if not settings.evalsets:
        out.append(Skipped("overlap with evaluation sets", "none given (--evalset FOLDER)"))
    return out

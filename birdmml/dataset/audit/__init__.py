"""Any folder of Parquet shards, audited: one page and one JSON that a reviewer would ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmml import __version__
from birdmml.core.pool import Pool, Progress
from birdmml.core.species import shipped
from birdmml.dataset.audit import findings, leak, page, probe, read
from birdmml.dataset.audit.media import DIMENSIONS, MediaFeatures, measure
from birdmml.dataset.audit.model import FORMAT, PAPER, RED, Audit, Finding, Skipped
from birdmml.dataset.audit.read import NO_SPLIT, AuditRows, Unreadable, find, read_rows
from birdmml.errors import UsageError
from birdmml.media.near import RADIUS

SAMPLE = 6000


@dataclass(frozen=True)
class AuditSettings:
    """What decides an audit. `sample`: rows for the probes; `near_radius`: bits, negative for no near duplicates."""

    sample: int = SAMPLE
    seed: int = 0
    evalsets: tuple[Path, ...] = ()
    near_radius: int = RADIUS


def audit(
    root: Path, settings: AuditSettings | None = None, workers: int = 1, progress: Progress | None = None
) -> Audit:
    """Audit the Parquet shards below `root`; nothing there is changed. Same dataset, settings, seed: the same value.

    Raises DatasetError if no shard can be read, EvalsetError if an evaluation set cannot.
    """
    settings = settings or AuditSettings()
    if settings.sample < 1 or settings.seed < 0:
        raise UsageError(f"a sample of {settings.sample} rows with seed {settings.seed}: give 1 or more, and 0 or more")
    tell = progress or (lambda stage, done, total: None)
    shards, bad = find(root)
    said = read.read_manifest(root, shards, bad, lambda done, total: tell("manifest", done, total))
    rows = read_rows(shards, lambda done, total: tell("columns", done, total))
    at = page.sample(rows.label, settings.sample, settings.seed)
    with Pool(workers) as pool:
        media = measure(rows, at.tolist(), pool, lambda done, total: tell("media", done, total))
        probed = probe.run(rows, media, at, settings.seed, pool, lambda done, total: tell("probes", done, total))
    return _whole(root, settings, rows, media, bad, said, probed)


def _whole(
    root: Path,
    settings: AuditSettings,
    rows: AuditRows,
    media: Mapping[str, MediaFeatures],
    bad: Sequence[Unreadable],
    said: read.ManifestState,
    probed: Mapping[str, probe.Probed],
) -> Audit:
    licensed = page.license_columns(rows)
    different = page.keys(rows, media)
    split_leaks, leaking = leak.of_splits(rows, leak.keys(rows, media, settings.near_radius))
    overlaps, overlapping = (
        leak.of_evalsets(rows, media["image"], settings.evalsets, settings.near_radius)
        if "image" in media
        else ((), [])
    )
    caption_leaks, naming = leak.of_captions(rows, said.species or shipped())
    probes = tuple(probe.line(name, p, said.ceilings.get(name)) for name, p in probed.items())
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
        *page.license_findings(rows, licensed),
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
        count=page.count(rows, different, np.arange(len(rows))),
        paper=PAPER,
        splits=page.by_split(rows, different),
        species=page.by_species(rows, media, different, licensed, {k: (p.at, p.outcome) for k, p in probed.items()}),
        licenses=page.by_license(licensed),
        caption_leaks=caption_leaks,
        split_leaks=split_leaks,
        overlaps=overlaps,
        media=page.media_table(media),
        probes=probes,
    )


def _verdict(found: Sequence[Finding]) -> str:
    red = sum(f.severity == RED for f in found)
    amber = len(found) - red
    words = [f"{red} serious"] if red else []
    words += [f"{amber} worth knowing"] if amber else []
    return ", ".join(words) or "nothing found"


def _media_findings(rows: AuditRows, media: Mapping[str, MediaFeatures], said: read.ManifestState) -> list[Finding]:
    found: list[Finding] = []
    for kind, measured in media.items():
        found += findings.states(rows, kind, measured)
        found += findings.hashes(rows, kind, measured)
        found += findings.images(rows, measured) if kind == "image" else findings.sounds(rows, measured, said)
        found += findings.reuse(rows, kind, measured)
    return found


def _skipped(
    rows: AuditRows, media: Mapping[str, MediaFeatures], said: read.ManifestState, settings: AuditSettings
) -> list[Skipped]:
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
        out.append(Skipped("leakage across splits", f"only one split ({', '.join(held) or 'files name none'})"))
    for part, what in (("recording_id", "recordings"), ("observation_id", "observations")):
        if not rows.has(part):
            out.append(Skipped(f"groups of {what}", f"no column {part}"))
    if not any(rows.has(f"{p}_license") for p in page.PARTS):
        out.append(Skipped("licences", "no column of licences"))
    if said.demo:
        out.append(Skipped("look-alikes as a fault", "drawings in one pose look alike; the table of leaks counts them"))
    if said.state == read.NONE:
        out.append(Skipped("manifest", "no manifest.json: the bytes cannot be compared with those of a build"))
    if settings.evalsets and "image" not in media:
        out.append(Skipped("overlap with evaluation sets", "no photos to compare"))
    if not settings.evalsets:
        out.append(Skipped("overlap with evaluation sets", "none given (--evalset FOLDER)"))
    return out

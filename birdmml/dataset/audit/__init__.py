"""Any folder of Parquet shards, audited: one page and one JSON that a reviewer would ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from birdmml import __version__
from birdmml.core.pool import Pool, Progress
from birdmml.core.species import shipped
from birdmml.dataset.audit import findings, leak, page, probe, read
from birdmml.dataset.audit.media import DIMENSIONS, MediaFeatures, measure
from birdmml.dataset.audit.model import FORMAT, PAPER, RED, Audit, Skipped
from birdmml.dataset.audit.read import NO_SPLIT, AuditRows, find, read_rows
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
    report = progress or (lambda stage, done, total: None)
    shards, bad = find(root)
    manifest = read.read_manifest(root, shards, bad, partial(report, "manifest"))
    rows = read_rows(shards, partial(report, "columns"))
    at = page.sample(rows.label, settings.sample, settings.seed)
    with Pool(workers) as pool:
        media = measure(rows, at.tolist(), pool, partial(report, "media"))
        probed = probe.run(rows, media, at, settings.seed, pool, partial(report, "probes"))
    licensed = page.license_columns(rows)
    different = page.keys(rows, media)
    split_leaks, leaking = leak.of_splits(rows, leak.keys(rows, media, settings.near_radius))
    overlaps, overlapping = (
        leak.of_evalsets(rows, media["image"], settings.evalsets, settings.near_radius)
        if "image" in media
        else ((), [])
    )
    caption_leaks, naming = leak.of_captions(rows, manifest.species or shipped())
    probes = tuple(probe.line(*p, manifest.ceilings.get(name)) for name, p in probed.items())
    all_findings = [
        *findings.at_chance(probes),
        *manifest.findings,
        *findings.unreadable(bad, rows),
        *findings.labels(rows),
        *findings.splits(rows),
        *(f for kind, measured in media.items() for f in findings.media(rows, kind, measured, manifest)),
        # Drawings in one pose look alike: in the demo that is no copy, and the table of leaks says how many.
        *(f for f in leaking if not (manifest.demo and f.slug == "split_leak_near_duplicate")),
        *overlapping,
        *naming,
        *page.license_findings(rows, licensed),
    ]
    # Stable: within red and amber they stay in the order above.
    all_findings.sort(key=lambda f: f.severity != RED)
    red = sum(f.severity == RED for f in all_findings)
    counts = ((red, "serious"), (len(all_findings) - red, "worth knowing"))
    return Audit(
        format=FORMAT,
        birdmml=__version__,
        name=manifest.name or root.resolve().name,
        demo=manifest.demo,
        digest=manifest.digest,
        manifest=manifest.state,
        seed=settings.seed,
        sample=settings.sample,
        near_radius=settings.near_radius,
        shards=len(rows.shards),
        bytes=sum(s.path.stat().st_size for s in rows.shards),
        # Reversed: of shards that differ, the first has the word.
        columns={part: column for s in reversed(rows.shards) for part, column in s.columns.items()},
        verdict=", ".join(f"{n} {words}" for n, words in counts if n) or "nothing found",
        findings=tuple(all_findings),
        skipped=tuple(_skipped(rows, media, manifest, settings)),
        count=page.count(rows, different, np.arange(len(rows))),
        paper=PAPER,
        splits=page.by_split(rows, different),
        species=page.by_species(rows, media, different, licensed, probed),
        licenses=page.by_license(licensed),
        caption_leaks=caption_leaks,
        split_leaks=split_leaks,
        overlaps=overlaps,
        media=page.media_table(media),
        probes=probes,
    )


def _skipped(
    rows: AuditRows, media: Mapping[str, MediaFeatures], manifest: read.ManifestState, settings: AuditSettings
) -> Iterator[Skipped]:
    """What could not be checked, and why: an audit that is silent about it would say too much."""
    for kind in DIMENSIONS:
        if kind not in media:
            yield Skipped(kind, f"no column of {kind} bytes (struct<bytes, path> or binary)")
        elif not rows.has(f"{kind}_sha256"):
            yield Skipped(f"{kind} hashes", f"no column {kind}_sha256 to compare the bytes with")
    if not rows.has("caption"):
        yield Skipped("text", "no column of captions")
    elif not (rows.codes("caption") >= 0).any():
        yield Skipped("text", "the column of captions is empty")
    if not rows.has("label") and not rows.has("species"):
        yield Skipped("probes and species", "no column of labels or species")
    held = {s.split for s in rows.shards if sum(s.group_rows)} - {NO_SPLIT}
    if len(held) < 2:
        yield Skipped("leakage across splits", f"only one split ({', '.join(held) or 'files name none'})")
    for part, what in (("recording_id", "recordings"), ("observation_id", "observations")):
        if not rows.has(part):
            yield Skipped(f"groups of {what}", f"no column {part}")
    if not any(rows.has(f"{p}_license") for p in page.PARTS):
        yield Skipped("licences", "no column of licences")
    if manifest.demo:
        yield Skipped("look-alikes as a fault", "drawings in one pose look alike; the table of leaks counts them")
    if manifest.state == read.NONE:
        yield Skipped("manifest", "no manifest.json: the bytes cannot be compared with those of a build")
    if settings.evalsets and "image" not in media:
        yield Skipped("overlap with evaluation sets", "no photos to compare")
    if not settings.evalsets:
        yield Skipped("overlap with evaluation sets", "none given (--evalset FOLDER)")

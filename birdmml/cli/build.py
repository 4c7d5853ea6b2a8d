"""`birdmml build`: assemble and validate a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli._build_options import (
    CaptionerOptions,
    Division,
    PlaceOptions,
    SourceOptions,
    captioner_of,
    source_settings,
    split_of,
)
from birdmml.cli._options import command, flag, option
from birdmml.cli._show import built_lines, interruptible, print_either, progress_bar, reject_share

if TYPE_CHECKING:
    from birdmml.dataset.build import FinishedBuild
    from birdmml.dataset.divide import PartMade
    from birdmml.dataset.recipe import BuildSettings


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The options of `birdmml build`, in the order of its help."""

    out: Path = option(Path("data"), "The dataset's folder; replaced only by a complete build.")
    source: str = option("demo", "Where the media come from; see `birdmml list`.")
    place: PlaceOptions
    captioner: str = option("template", "For photos without a caption: template, or hf (models write it).")
    captions: CaptionerOptions
    wanted: SourceOptions
    seed: int = option(0, "Same seed, settings and input: the same bytes.", min=0)
    split: str = option(
        "grouped", "grouped (nothing related on two sides), released (the source's row order), or shares."
    )
    shares: str | None = option(None, "Shares of train/validation/test (80/10/10).")
    by_author: bool = flag("--by-author", "Keep a photographer's and a recordist's works on one side, too.")
    near_duplicates: int | None = option(
        None, "Photos this close (bits of 64) stay on one side: 6; -1: off (demo).", min=-1, max=10
    )
    evalset: list[str] = option([], "Folder of an evaluation set: photos like its own go to test. May be repeated.")
    passes: int | None = option(None, "Rows as passes over the photos; 0: use every clip (inat-xc 1).", min=0)
    limit: int | None = option(None, "At most N photos and N recordings a species.", min=1)
    max_image_side: int = option(1024, "Larger photos are scaled down to this, px.", min=16)
    max_pixels: int = option(100_000_000, "Photos with more pixels are rejected.", min=1)
    max_seconds: float = option(3600.0, "Longer recordings are rejected, s.", min=0.1)
    max_rejects: str = option("1%", "Largest accepted share of rejects: 0.01 or 1%.")
    workers: int = option(2, "Processes to use; the bytes do not depend on it.", min=1)
    resume: bool = flag("--resume", "Go on from unfinished work, or say that there is none.")
    retry_failed: bool = flag("--retry-failed", "Try again what could not be downloaded or was missing.")
    division: Division
    dry_run: bool = option(False, "Say what would be built, and write nothing.")
    as_json: bool = flag("--json", "Print the manifest as JSON.")


@command
def build(options: BuildOptions) -> None:
    """Build and validate a dataset (default: an offline demo).

    The demo is drawn and sung by this program; it needs no network and is never taken for Bird-MML.

    \b
    birdmml build --out ./data
    birdmml build --source folder --from ~/birds --out ./birds-data
    """
    from birdmml import load
    from birdmml.core import discover
    from birdmml.dataset.divide import PartMade
    from birdmml.dataset.intake import refuse_undividable

    options.division.check(options.resume)
    module = discover.load("source", options.source)
    settings = _settings(options, module)
    max_rejects = reject_share(options.max_rejects)
    if options.dry_run:
        _print_plan(settings, options.out)
        return
    if options.division.divided:
        refuse_undividable(module, settings)
    if hasattr(module, "plan") and not options.as_json:
        typer.echo("\n".join(module.plan(settings.source_settings, options.out)), err=True)
    result = _run(settings, options, max_rejects)
    if isinstance(result, PartMade):
        lines, value = _part_lines(options.out, result), _part_json(result)
    else:
        load.remember_build(result.root)
        lines, value = built_lines(options.out, result), dict(result.manifest)
    print_either(options.as_json, value, lines)


def _settings(options: BuildOptions, module: Any) -> BuildSettings:
    from birdmml.core import discover
    from birdmml.dataset.recipe import BuildSettings, Limits, Rules

    own = source_settings(module, options.source, options.place, options.wanted, options.seed)
    captioner, captions = captioner_of(options.captioner, options.captions)
    mode, fractions = split_of(options.split, options.shares)
    radius = options.near_duplicates
    if radius is None:
        radius = getattr(module, "NEAR_RADIUS", Rules.near_radius)
    return BuildSettings(
        discover.canonical("source", options.source),
        own,
        options.seed,
        Rules(mode, fractions, options.by_author, radius),
        getattr(module, "PASSES", 0) if options.passes is None else options.passes,
        options.limit,
        Limits(
            clip_s=own.clip_seconds,
            max_image_side=options.max_image_side,
            max_pixels=options.max_pixels,
            max_seconds=options.max_seconds,
        ),
        tuple(options.evalset),
        captioner,
        captions,
    )


def _run(settings: BuildSettings, options: BuildOptions, max_rejects: float) -> FinishedBuild | PartMade:
    """Build, make a part, or finish."""
    from birdmml.dataset.build import build as build_build
    from birdmml.dataset.build import finish
    from birdmml.dataset.divide import build_part
    from birdmml.dataset.on_ray import Cluster, build_on_ray

    out, division, workers, again = options.out, options.division, options.workers, options.retry_failed
    with interruptible(out), progress_bar(quiet=options.as_json) as progress:
        if division.index is not None:
            return build_part(settings, out, division.part(), workers, progress, again)
        if division.runner == "ray":
            cluster = Cluster(division.address, workers)
            return build_on_ray(settings, out, cluster, division.count, division.at_once, max_rejects, progress, again)
        if division.finish:
            return finish(settings, out, workers, max_rejects, progress, division.count)
        return build_build(settings, out, workers, max_rejects, progress, options.resume, again)


def _part_lines(out: Path, built: PartMade) -> list[str]:
    """What a part ends with."""
    part = built.part
    lines = [
        f"part {part.index} of {part.count} of {out} is complete: {built.records:,} records, {built.media:,} media, "
        f"{built.rejects:,} rejects"
    ]
    if built.resumed:
        lines.append(f"  resumed     {built.resumed:,} records of an earlier run of this part were taken over")
    return [*lines, "  when all parts are: the same command with --finish in place of --shard-index"]


def _part_json(built: PartMade) -> dict[str, Any]:
    value = asdict(built)
    return {**value, "part": built.part.index, "count": built.part.count, "root": str(built.root)}


def _print_plan(settings: BuildSettings, out: Path) -> None:
    from collections import Counter

    from birdmml.core import discover
    from birdmml.dataset.intake import ListingSession
    from birdmml.schema import Photo, Reject

    source = discover.load("source", settings.source)
    typer.echo(f"would build {out} from the {settings.source} source (nothing is written):")
    if hasattr(source, "plan"):
        lines = [
            *source.plan(settings.source_settings, out),
            *_captions_planned(settings.captioner, settings.captions, None),
        ]
        typer.echo("\n".join(f"  {line}" for line in lines))
        return
    photos: Counter[str] = Counter()
    recordings: Counter[str] = Counter()
    wordless: Counter[str] = Counter()
    rejects: list[Reject] = []
    for delivery in ListingSession(source, settings.source_settings, settings.limit):
        if isinstance(delivery.record, Reject):
            rejects.append(delivery.record)
        else:
            is_photo = isinstance(delivery.record, Photo)
            (photos if is_photo else recordings)[delivery.record.species] += 1
            wordless[delivery.record.species] += is_photo and delivery.record.caption is None
    typer.echo(
        f"  {photos.total():,} photos and {recordings.total():,} recordings; "
        f"{len(photos.keys() & recordings.keys())} species have both; {len(rejects)} entries are refused already"
    )
    paired = sum(n for species, n in wordless.items() if recordings[species])
    for line in _captions_planned(settings.captioner, settings.captions, paired):
        typer.echo(f"  {line}")
    for reject in rejects[:10]:
        typer.echo(f"    {reject.path}: {reject.reason}: {reject.detail}")


def _captions_planned(name: str, settings: Any, photos: int | None) -> list[str]:
    """What a dry run says of captions; `photos` come without one (None: known only when the source is read)."""
    from birdmml.core import discover

    module = discover.load("captioner", name)
    more = module.plan(settings) if hasattr(module, "plan") else []
    return [
        "captions: all photos come with one"
        if photos == 0
        else f"captions: {name}, for {'' if photos is None else f'up to {photos:,} '}photos that come without one",
        *more,
    ]

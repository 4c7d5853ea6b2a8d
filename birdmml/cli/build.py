"""`birdmml build`: assemble and validate a dataset."""

from __future__ import annotations

from collections import Counter
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
from birdmml.cli._options import flag, option
from birdmml.cli._show import built_lines, interruptible, print_either, progress_bar, reject_share
from birdmml.core import discover
from birdmml.schema import Photo, Reject

if TYPE_CHECKING:
    from birdmml.dataset.build import FinishedBuild
    from birdmml.dataset.divide import PartMade
    from birdmml.dataset.recipe import BuildSettings


@dataclass(frozen=True, kw_only=True)
class BuildCommand:
    """Build and validate a dataset (default: an offline demo).

    The demo is drawn and sung by this program; it needs no network and is never taken for Bird-MML.

    \b
    birdmml build --out ./data
    birdmml build --source folder --from ~/birds --out ./birds-data
    """

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

    def _run(self) -> None:
        from birdmml import load
        from birdmml.dataset.divide import PartMade
        from birdmml.dataset.intake import refuse_undividable

        self.division.check(self.resume)
        module = discover.load("source", self.source)
        settings = self._settings(module)
        max_rejects = reject_share(self.max_rejects)
        if self.dry_run:
            _print_plan(settings, self.out)
            return
        if self.division.divided:  # A source that must see all its records at once cannot give a part of them.
            refuse_undividable(module, settings)
        if hasattr(module, "plan") and not self.as_json:
            typer.echo("\n".join(module.plan(settings.source_settings, self.out)), err=True)
        result = self._build(settings, max_rejects)
        if not isinstance(result, PartMade):
            load.remember_build(result.root)  # What `info` and load_dataset take when no folder is named.
            print_either(self.as_json, dict(result.manifest), built_lines(self.out, result))
            return
        part, counted = result.part, f"{result.records:,} records, {result.media:,} media, {result.rejects:,} rejects"
        lines = [f"part {part.index} of {part.count} of {self.out} is complete: {counted}"]
        if result.resumed:
            lines.append(f"  resumed     {result.resumed:,} records of an earlier run of this part were taken over")
        lines.append("  when all parts are: the same command with --finish in place of --shard-index")
        value = {**asdict(result), "part": part.index, "count": part.count, "root": str(result.root)}
        print_either(self.as_json, value, lines)

    def _settings(self, module: Any) -> BuildSettings:
        from birdmml.dataset.recipe import BuildSettings, Limits, Rules

        own = source_settings(module, self.source, self.place, self.wanted, self.seed)
        captioner, captions = captioner_of(self.captioner, self.captions)
        mode, fractions = split_of(self.split, self.shares)
        radius, passes = self.near_duplicates, self.passes
        # A source may know better than the defaults: photos of the demo are alike by design.
        radius = getattr(module, "NEAR_RADIUS", Rules.near_radius) if radius is None else radius
        passes = getattr(module, "PASSES", 0) if passes is None else passes
        rules = Rules(mode, fractions, self.by_author, radius)
        limits = Limits(own.clip_seconds, Limits.rate_hz, self.max_image_side, self.max_pixels, self.max_seconds)
        name, evalsets = discover.canonical("source", self.source), tuple(self.evalset)
        return BuildSettings(name, own, self.seed, rules, passes, self.limit, limits, evalsets, captioner, captions)

    def _build(self, settings: BuildSettings, max_rejects: float) -> FinishedBuild | PartMade:
        """Build, make a part, or finish."""
        from birdmml.dataset.build import build, finish
        from birdmml.dataset.divide import build_part
        from birdmml.dataset.on_ray import Cluster, build_on_ray

        out, at, workers, again = self.out, self.division, self.workers, self.retry_failed
        with interruptible(out), progress_bar(quiet=self.as_json) as progress:
            if at.index is not None:
                return build_part(settings, out, at.part(), workers, progress, again)
            if at.runner == "ray":
                cluster = Cluster(at.address, workers)
                return build_on_ray(settings, out, cluster, at.count, at.at_once, max_rejects, progress, again)
            if at.finish:
                return finish(settings, out, workers, max_rejects, progress, at.count)
            return build(settings, out, workers, max_rejects, progress, self.resume, again)


def _print_plan(settings: BuildSettings, out: Path) -> None:
    from birdmml.dataset.intake import ListingSession

    source = discover.load("source", settings.source)
    typer.echo(f"would build {out} from the {settings.source} source (nothing is written):")
    if hasattr(source, "plan"):
        captions = _captions_planned(settings.captioner, settings.captions, None)
        typer.echo("\n".join(f"  {line}" for line in [*source.plan(settings.source_settings, out), *captions]))
        return
    photos, recordings, wordless = Counter[str](), Counter[str](), Counter[str]()
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
    module = discover.load("captioner", name)
    most = "" if photos is None else f"up to {photos:,} "
    words = "all photos come with one" if photos == 0 else f"{name}, for {most}photos that come without one"
    return [f"captions: {words}", *(module.plan(settings) if hasattr(module, "plan") else [])]

"""`birdmml build`: assemble and validate a dataset."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from birdmml.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from birdmml.build.run import BuildSettings


def build(
    out: Annotated[
        Path, typer.Option(help="The dataset's folder; replaced only by a complete build.")
    ] = Path("data"),
    source: Annotated[str, typer.Option(help="Where the media come from; see `birdmml list`.")] = "demo",
    root: Annotated[
        str | None, typer.Option("--from", help="folder: your folder, or a CSV/JSONL manifest.")
    ] = None,
    species: Annotated[int | None, typer.Option(help="demo: how many species (24).")] = None,
    per_species: Annotated[int | None, typer.Option(help="demo: triplets a species (42).")] = None,
    image_size: Annotated[int | None, typer.Option(help="demo: side of a photo in px (96).")] = None,
    synergy: Annotated[
        float | None, typer.Option(help="demo: 0 redundant, 0.5 shared looks and songs, 1 XOR-like (0.5).")
    ] = None,
    clip_seconds: Annotated[
        float | None, typer.Option(help="Length of a clip in s (demo 3, folder 10).")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="folder: the manifest's encoding (utf-8).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, settings and input: the same bytes.")] = 0,
    split: Annotated[str, typer.Option(help="Shares of train/validation/test.")] = "80/10/10",
    passes: Annotated[
        int, typer.Option(min=0, help="Rows as passes over the photos; 0: use every clip.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most N photos and N recordings a species.")
    ] = None,
    max_image_side: Annotated[
        int, typer.Option(min=16, help="Larger photos are scaled down to this, px.")
    ] = 1024,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Photos with more pixels are rejected.")
    ] = 100_000_000,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longer recordings are rejected, s.")] = 3600.0,
    max_rejects: Annotated[str, typer.Option(help="Largest accepted share of rejects: 0.01 or 1%.")] = "1%",
    workers: Annotated[int, typer.Option(min=1, help="Processes to use; the bytes do not depend on it.")] = 2,
    dry_run: Annotated[bool, typer.Option(help="Say what would be built, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Build and validate a dataset (default: an offline demo).

    The demo is drawn and sung by this program; it needs no network and is never taken for Bird-MML.

    \b
    birdmml build --out ./data
    birdmml build --source folder --from ~/birds --out ./birds-data
    """
    from birdmml import discover, state
    from birdmml.build.ingest import Limits
    from birdmml.build.run import BuildSettings
    from birdmml.build.run import build as run
    from birdmml.cli._show import dataset_lines, progress_bar

    module = discover.load("source", source)
    given = {
        "root": root, "species": species, "per_species": per_species, "image_size": image_size,
        "synergy": synergy, "clip_seconds": clip_seconds, "encoding": encoding, "seed": seed,
    }  # fmt: skip
    own = _source_settings(module, source, given)
    limits = Limits(
        clip_s=own.clip_seconds, max_image_side=max_image_side, max_pixels=max_pixels, max_seconds=max_seconds
    )
    settings = BuildSettings(
        discover.canonical("source", source), own, seed, _fractions(split), passes, limit, limits
    )
    share = _share(max_rejects)
    if dry_run:
        _print_plan(settings, out)
        return
    # A polite kill is treated like Ctrl-C: workers end, finished work is kept.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        with progress_bar(quiet=as_json) as progress:
            built = run(settings, out, workers, share, progress)
    except KeyboardInterrupt as e:
        raise Interrupted(
            f"interrupted: {out} is as it was; the same command goes on from {out}.partial, or delete that folder"
        ) from e
    state.remember_build(built.root)
    if as_json:
        typer.echo(json.dumps(built.manifest, indent=2, ensure_ascii=False))
        return
    lines = dataset_lines(out, built.manifest, built.validation)
    if built.resumed_chunks:
        lines.append(f"  resumed     {built.resumed_chunks} chunks of an interrupted build were taken over")
    lines += [
        f"  look at it  {out / 'report' / 'index.html'}",
        '  load it     import birdmml, datasets; datasets.load_dataset("birdmml")',
    ]
    typer.echo("\n".join(lines))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(build)


def _source_settings(module: Any, source: str, given: dict[str, Any]) -> Any:
    """The source's Settings from the options given; an option of another source is an error, not ignored."""
    from dataclasses import fields

    known = {f.name for f in fields(module.Settings)}
    options = {"root": "from"}
    chosen = {k: v for k, v in given.items() if v is not None and (k in known or k != "seed")}
    if strange := sorted(set(chosen) - known):
        names = ", ".join("--" + options.get(n, n).replace("_", "-") for n in strange)
        raise UsageError(
            f"{names} is not an option of the {source} source: leave it out, or see `birdmml list`"
        )
    if chosen.get("clip_seconds") is not None and not 0.1 <= chosen["clip_seconds"] <= 600:
        raise UsageError(f"--clip-seconds {chosen['clip_seconds']:g} is out of range: 0.1 to 600 s")
    return module.Settings(**chosen)


def _fractions(text: str) -> tuple[float, float, float]:
    try:
        parts = [float(p) for p in text.replace(",", "/").split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or parts[0] <= 0 or min(parts) < 0 or not sum(parts) < float("inf"):
        raise UsageError(f"--split {text!r} is not three shares such as 80/10/10 with something to train on")
    train, validation, test = (p / sum(parts) for p in parts)
    return train, validation, test


def _share(text: str) -> float:
    try:
        value = float(text.rstrip("% ")) / (100 if "%" in text else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--max-rejects {text!r} is not a share: give 0.01 or 1%")
    return value


def _print_plan(settings: BuildSettings, out: Path) -> None:
    from birdmml import discover
    from birdmml.build.run import offered
    from birdmml.schema import Photo

    found, rejects = offered(discover.load("source", settings.source), settings)
    photos = [r for r in found if isinstance(r, Photo)]
    both = {p.species for p in photos} & {r.species for r in found if not isinstance(r, Photo)}
    typer.echo(f"would build {out} from the {settings.source} source (nothing is written):")
    typer.echo(
        f"  {len(photos):,} photos and {len(found) - len(photos):,} recordings; {len(both)} species have both; "
        f"{len(rejects)} entries are refused already"
    )
    for reject in rejects[:10]:
        typer.echo(f"    {reject.path}: {reject.reason}: {reject.detail}")


def _raise_interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt

"""`birdmml build`: assemble and validate a dataset."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from birdmml.cli import _raw
from birdmml.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from birdmml.build.part_run import PartMade
    from birdmml.build.recipe import BuildSettings
    from birdmml.build.run import Built
    from birdmml.cli._divided import Division


def build(
    out: Annotated[
        Path, typer.Option(help="The dataset's folder; replaced only by a complete build.")
    ] = Path("data"),
    source: Annotated[str, typer.Option(help="Where the media come from; see `birdmml list`.")] = "demo",
    root: Annotated[
        str | None,
        typer.Option(
            "--from", help="folder: your folder, or a CSV/JSONL manifest; release: what you have of it."
        ),
    ] = None,
    record: Annotated[str | None, typer.Option(help="release: Zenodo record (18920487).")] = None,
    zenodo: Annotated[str | None, typer.Option(help="release: address of the repository.")] = None,
    caption: Annotated[
        str | None, typer.Option(help="release: column of captions (combined_caption).")
    ] = None,
    captioner: Annotated[
        str, typer.Option(help="For photos without a caption: template, or hf (models write it).")
    ] = "template",
    caption_image_model: Annotated[
        str | None,
        typer.Option(help="hf: image captioner, name or folder (Salesforce/blip-image-captioning-base)."),
    ] = None,
    caption_text_model: Annotated[
        str | None, typer.Option(help="hf: causal language model, name or folder (google/gemma-2-2b-it).")
    ] = None,
    caption_batch: Annotated[int | None, typer.Option(min=1, help="hf: captions at once (16).")] = None,
    caption_article_tokens: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="hf: of an article at most so many tokens (512).")
    ] = None,
    caption_license: Annotated[
        str | None, typer.Option(help="hf: your licence for captions that no article went into (unknown).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="hf: auto, cpu, cuda or mps (auto).")] = None,
    species: Annotated[int | None, typer.Option(help="demo: how many species (24).")] = None,
    species_list: Annotated[
        Path | None,
        typer.Option(
            help="folder, inat-xc: your species instead of the 150; see `birdmml species --species-list`."
        ),
    ] = None,
    per_species: Annotated[
        int | None, typer.Option(min=1, help="Rows a species: demo (42), inat-xc (1000).")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="demo: side of a photo in px (96).")] = None,
    synergy: Annotated[
        float | None, typer.Option(help="demo: 0 redundant, 0.5 shared looks and songs, 1 XOR-like (0.5).")
    ] = None,
    clip_seconds: Annotated[
        float | None, typer.Option(help="Length of a clip in s (demo 3, folder 10).")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="folder, release: the table's encoding (utf-8).")
    ] = None,
    inat: _raw.Inat = None,
    contact: _raw.Contact = None,
    licenses: _raw.Licenses = None,
    photo_size: _raw.PhotoSize = None,
    min_side: _raw.MinSide = None,
    memory: _raw.Memory = None,
    allow_private: _raw.AllowPrivate = False,
    photos: _raw.Photos = None,
    xeno_canto: _raw.XenoCanto = None,
    wikipedia: _raw.Wikipedia = None,
    photos_per_second: _raw.PhotosPerSecond = None,
    recordings_per_second: _raw.RecordingsPerSecond = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, settings and input: the same bytes.")] = 0,
    split: Annotated[
        str,
        typer.Option(
            help="grouped (nothing related on two sides), released (the source's row order), or shares."
        ),
    ] = "grouped",
    shares: Annotated[str | None, typer.Option(help="Shares of train/validation/test (80/10/10).")] = None,
    by_author: Annotated[
        bool,
        typer.Option("--by-author", help="Keep a photographer's and a recordist's works on one side, too."),
    ] = False,
    near_duplicates: Annotated[
        int | None,
        typer.Option(
            min=-1, max=10, help="Photos this close (bits of 64) stay on one side: 6; -1: off (demo)."
        ),
    ] = None,
    evalset: Annotated[
        list[str] | None,
        typer.Option(help="Folder of an evaluation set: photos like its own go to test. May be repeated."),
    ] = None,
    passes: Annotated[
        int | None, typer.Option(min=0, help="Rows as passes over the photos; 0: use every clip (inat-xc 1).")
    ] = None,
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
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from unfinished work, or say that there is none.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what could not be downloaded or was missing.")
    ] = False,
    runner: Annotated[str, typer.Option(help="local, or ray: parts as tasks of a Ray cluster.")] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="ray: address of the cluster (else one is started here).")
    ] = None,
    num_shards: Annotated[
        int | None, typer.Option(min=1, help="Into how many parts to divide the work, by species.")
    ] = None,
    shard_index: Annotated[
        int | None, typer.Option(min=0, help="Make this part alone (0 is the first), for --finish.")
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, help="How many parts run at a time: they share a service's rate (all)."),
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Put all parts together.")] = False,
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
    from birdmml.build.intake import refuse_undividable
    from birdmml.build.part_run import PartMade
    from birdmml.build.recipe import BuildSettings, Limits, Rules
    from birdmml.cli._captions import captioner_of
    from birdmml.cli._divided import Division, part_json, part_lines
    from birdmml.cli._show import built_lines, reject_share

    division = Division(runner, ray_address, num_shards, shard_index, at_once, finish)
    division.check(resume)
    module = discover.load("source", source)
    given = {
        "root": root, "species": species, "per_species": per_species, "image_size": image_size,
        "synergy": synergy, "clip_seconds": clip_seconds, "encoding": encoding, "seed": seed,
        "record": record, "zenodo": zenodo, "caption": caption, "species_list": species_list,
        "inat": inat, "contact": _raw.contact_of(contact, source), "licenses": licenses, "photo_size": photo_size,
        "min_side": min_side, "memory_mb": memory, "allow_private": allow_private or None, "photos": photos,
        "xeno_canto": xeno_canto, "wikipedia": wikipedia, "photos_per_second": photos_per_second,
        "recordings_per_second": recordings_per_second,
    }  # fmt: skip
    own = _source_settings(module, source, given)
    limits = Limits(
        clip_s=own.clip_seconds, max_image_side=max_image_side, max_pixels=max_pixels, max_seconds=max_seconds
    )
    told = {
        "image_model": caption_image_model, "text_model": caption_text_model, "batch": caption_batch,
        "article_tokens": caption_article_tokens, "license": caption_license, "device": device,
    }  # fmt: skip
    writer, captions = captioner_of(captioner, told)
    mode, fractions = _split(split, shares)
    if near_duplicates is None:
        near_duplicates = getattr(module, "NEAR_RADIUS", Rules.near_radius)
    settings = BuildSettings(
        discover.canonical("source", source),
        own,
        seed,
        Rules(mode, fractions, by_author, near_duplicates),
        getattr(module, "PASSES", 0) if passes is None else passes,
        limit,
        limits,
        tuple(evalset or ()),
        writer,
        captions,
    )
    share = reject_share(max_rejects)
    if dry_run:
        _print_plan(settings, out)
        return
    if division.divided:
        refuse_undividable(module, settings)
    if hasattr(module, "plan") and not as_json:
        typer.echo("\n".join(module.plan(own, out)), err=True)
    made = _run(settings, out, workers, share, division, resume, retry_failed, quiet=as_json)
    if isinstance(made, PartMade):
        lines, value = part_lines(out, made), part_json(made)
    else:
        state.remember_build(made.root)
        lines, value = built_lines(out, made), dict(made.manifest)
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))


def _run(
    settings: BuildSettings, out: Path, workers: int, share: float, division: Division, resume: bool,
    retry_failed: bool, quiet: bool,
) -> Built | PartMade:  # fmt: skip
    """Build, make a part, or finish; a polite kill is treated like Ctrl-C: workers end, finished work is kept."""
    from birdmml.build.part_run import build_part
    from birdmml.build.run import build, finish
    from birdmml.cli._show import progress_bar

    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        with progress_bar(quiet=quiet) as progress:
            if division.index is not None:
                return build_part(settings, out, division.part(), workers, progress, retry_failed)
            if division.runner == "ray":
                from birdmml.build.on_ray import Cluster, build_on_ray

                cluster = Cluster(division.address, workers)
                return build_on_ray(
                    settings, out, cluster, division.count, division.at_once, share, progress, retry_failed
                )
            if division.finish:
                return finish(settings, out, workers, share, progress, division.count)
            return build(settings, out, workers, share, progress, resume, retry_failed)
    except KeyboardInterrupt as e:
        raise Interrupted(
            f"interrupted: {out} is as it was; the same command goes on from {out}.partial, or delete that folder"
        ) from e


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(build)


def _source_settings(module: Any, source: str, given: dict[str, Any]) -> Any:
    """The source's Settings from the options given; an option of another source is an error, not ignored."""
    from dataclasses import fields

    known = {f.name for f in fields(module.Settings)}
    options = {"root": "from", "memory_mb": "memory"}
    chosen = {k: v for k, v in given.items() if v is not None and (k in known or k != "seed")}
    if strange := sorted(set(chosen) - known):
        names = ", ".join("--" + options.get(n, n).replace("_", "-") for n in strange)
        raise UsageError(
            f"{names} is not an option of the {source} source: leave it out, or see `birdmml list`"
        )
    if chosen.get("clip_seconds") is not None and not 0.1 <= chosen["clip_seconds"] <= 600:
        raise UsageError(f"--clip-seconds {chosen['clip_seconds']:g} is out of range: 0.1 to 600 s")
    if "species_list" in chosen:
        from birdmml.species_list import given as given_list

        chosen["species_list"] = given_list(chosen["species_list"])
    return module.Settings(**chosen)


def _split(text: str, shares: str | None) -> tuple[str, tuple[float, float, float]]:
    """Mode and shares; `--split 80/10/10` is short for grouped with these shares."""
    from birdmml.build.split import MODES

    if text in MODES:
        return text, _fractions(shares or "80/10/10", "--shares")
    if not any(c.isdigit() for c in text):
        raise UsageError(f"--split {text!r} is neither {' nor '.join(MODES)}, nor shares such as 80/10/10")
    if shares is not None:
        raise UsageError("--split with shares and --shares say the same: give one of them")
    return "grouped", _fractions(text, "--split")


def _fractions(text: str, option: str) -> tuple[float, float, float]:
    try:
        parts = [float(p) for p in text.replace(",", "/").split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or parts[0] <= 0 or min(parts) < 0 or not sum(parts) < float("inf"):
        raise UsageError(f"{option} {text!r} is not three shares such as 80/10/10 with something to train on")
    train, validation, test = (p / sum(parts) for p in parts)
    return train, validation, test


def _print_plan(settings: BuildSettings, out: Path) -> None:
    from collections import Counter

    from birdmml import discover
    from birdmml.build.deliver import Listing
    from birdmml.cli._captions import planned
    from birdmml.schema import Photo, Reject

    source = discover.load("source", settings.source)
    typer.echo(f"would build {out} from the {settings.source} source (nothing is written):")
    if hasattr(source, "plan"):
        lines = [
            *source.plan(settings.source_settings, out),
            *planned(settings.captioner, settings.captions, None),
        ]
        typer.echo("\n".join(f"  {line}" for line in lines))
        return
    photos: Counter[str] = Counter()
    recordings: Counter[str] = Counter()
    wordless: Counter[str] = Counter()
    rejects: list[Reject] = []
    for delivery in Listing(source, settings.source_settings, settings.limit):
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
    for line in planned(settings.captioner, settings.captions, paired):
        typer.echo(f"  {line}")
    for reject in rejects[:10]:
        typer.echo(f"    {reject.path}: {reject.reason}: {reject.detail}")


def _raise_interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt

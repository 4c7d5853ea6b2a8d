"""`birdmml prepare`: the user's copy of an evaluation set, converted once."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from birdmml.cli._evalset import counts, differs, rows
from birdmml.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from birdmml.prepare.run import Options


def prepare(
    name: Annotated[str, typer.Argument(help="Which set; see `birdmml list`.", show_default=False)],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", help="The archive as downloaded, the unpacked folder, or a folder with archives."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The prepared set's folder (evalsets/NAME); replaced only when complete."),
    ] = None,
    frame_px: Annotated[
        int | None, typer.Option(min=0, help="videos: short side of stored frames, px (256; 0 keeps it).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most N rows a split, for a try; marked in the manifest.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Sets of arrays: KEY=VALUE. May be repeated.")
    ] = None,
    max_rejects: Annotated[
        str,
        typer.Option(help="Exit 1 if more of the rows than this cannot be used: a share or a percentage."),
    ] = "1%",
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Insist on going on from an interrupted run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look through the source and report; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Convert your own copy of an evaluation set, once, into parquet that `birdmml bench` reads.

    Counts are compared with the published ones. What cannot be used is listed with its reason in DIR/report, never
    replaced. An interrupted run goes on when the same command is given again.

    \b
    birdmml prepare ssw60 --from ssw60.tar.gz
    birdmml prepare vb100 --from ~/vb100 --out ./evalsets/vb100
    """
    from birdmml import discover
    from birdmml.cli._show import progress_bar, reject_share

    key = discover.canonical("evaluation set", name)
    module = discover.load("evaluation set", key)
    if not hasattr(module, "KIND"):
        raise UsageError(f"{key} needs no preparation: birdmml makes it itself; see `birdmml list`")
    where = _source(module, key, source)
    share = reject_share(max_rejects)
    target = out or Path("evalsets") / key
    # A polite kill is treated like Ctrl-C: workers end, finished work is kept.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        with progress_bar(quiet=as_json) as progress:
            if module.KIND == "arrays":
                _refuse(frame_px=frame_px, resume=resume, dry_run=dry_run)
                _arrays(module, where, target, _pairs(settings, limit), progress, as_json)
                return
            options = _options(frame_px, limit, settings)
            if dry_run:
                lines, done, accepted = _plan(module, key, where, options, share, progress)
            else:
                lines, done, accepted = _run(
                    module, key, where, target, options, workers, share, resume, progress
                )
    except KeyboardInterrupt as e:
        raise Interrupted(
            f"interrupted: {target} is as it was; the same command goes on from {target}.partial, or delete that folder"
        ) from e
    typer.echo(json.dumps(done, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
    if not accepted:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(prepare)


def _source(module: ModuleType, key: str, source: Path | None) -> Path:
    """The path to read; what to download where there is none."""
    if source is not None and source.expanduser().exists():
        return source.expanduser()
    told: Any = getattr(module, "DOWNLOAD", None)
    words = told.words() if hasattr(told, "words") else f"get it from {module.CARD.url}"
    what = f"{source} is not there" if source is not None else f"{key} is not named by --from"
    file = getattr(told, "argument", "PATH")
    raise UsageError(f"{what}: {words}, then run `birdmml prepare {key} --from {file}`")


def _options(frame_px: int | None, limit: int | None, settings: list[str] | None) -> Options:
    from birdmml.prepare.run import FRAME_PX, Options

    if settings:
        raise UsageError(f"--set {settings[0]}: only sets of arrays have settings of their own; leave it out")
    return Options(FRAME_PX if frame_px is None else frame_px, limit)


def _run(
    module: ModuleType, key: str, source: Path, out: Path, options: Options, workers: int, share: float,
    resume: bool, progress: Any,
) -> tuple[list[str], Mapping[str, Any], bool]:  # fmt: skip
    from birdmml.prepare.run import prepare as run

    done = run(module, source, out, options, workers, share, resume, progress)
    lines = list(_lines(out, done.manifest, done.report))
    if done.resumed:
        lines.append(f"  resumed     {done.resumed:,} files of an unfinished run were taken over")
    lines.append(f"  look at it  {out / 'report' / 'index.html'}")
    return lines, done.manifest, bool(done.report["accepted"])


def _plan(
    module: ModuleType, key: str, source: Path, options: Options, share: float, progress: Any
) -> tuple[list[str], Mapping[str, Any], bool]:
    """What the source holds, before anything is decoded."""
    from collections import Counter

    from birdmml.prepare import account
    from birdmml.prepare.run import look

    seen = look(module, source, options, progress)
    splits = {name: dict(Counter(e.split for e in listed)) for name, listed in seen.entries.items()}
    found = {"classes": len(seen.annotations.classes), **splits}
    rejects, unused = seen.annotations.rejects, account.strays(seen.listing, seen.annotations)
    considered = len(rejects) + sum(map(len, seen.entries.values()))
    done = {
        "name": key, "demo": seen.listing.fake, "published": module.PUBLISHED, "found": found,
        "differences": [*account.differences(module.PUBLISHED, found), *seen.annotations.notes],
        "notes": seen.listing.notes, "considered": considered, "rejected": len(rejects),
        "rejects_by_reason": account.by_reason(rejects), "strays_by_reason": account.by_reason(unused),
    }  # fmt: skip
    lines = [f"would prepare {key} (nothing is written, nothing was decoded):"]
    lines += list(counts(found)) + list(_told(done))
    return lines, done, len(rejects) <= share * considered


def _lines(out: Path, manifest: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    rows = sum(p["rows"] for c in manifest["collections"].values() for p in c["splits"].values())
    size = sum(
        s["bytes"]
        for c in manifest["collections"].values()
        for p in c["splits"].values()
        for s in p["shards"]
    )
    if manifest["demo"]:
        yield "MADE FROM A FAKE: noise, not birds; its figures say nothing."
    yield f"{out}: {manifest['name']}, {rows:,} rows; {size / 2**20:,.1f} MiB"
    yield from counts(report["found"])
    for name, silent in report["without_audio"].items():
        if silent["count"]:
            yield f"  no sound    {silent['count']:,} of the {name} have no audio track: missing, not silence"
    yield from _told(report)
    if not report["accepted"]:
        share = f"{100 * report['reject_share']:.2f} %"
        yield f"  NOT WHOLE   {share} of the rows are missing, over --max-rejects {report['max_rejects']:g}: exit 1"


def _told(report: Mapping[str, Any]) -> Iterator[str]:
    """Differences, rejects and unused files in a few lines."""
    yield from differs([*report["notes"], *report["differences"]])
    yield from (f"  rejected    {n:,} rows: {reason}" for reason, n in report["rejects_by_reason"].items())
    yield from (f"  unused      {n:,} files: {reason}" for reason, n in report["strays_by_reason"].items())


def _refuse(**given: object) -> None:
    if strange := [k for k, v in given.items() if v not in (None, False)]:
        names = ", ".join("--" + k.replace("_", "-") for k in strange)
        raise UsageError(f"{names} is not for sets of arrays: leave it out")


def _pairs(settings: list[str] | None, limit: int | None) -> dict[str, str]:
    pairs = {} if limit is None else {"limit": str(limit)}
    for text in settings or ():
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise UsageError(f"--set {text!r} is not KEY=VALUE")
        pairs[key.strip()] = value.strip()
    return pairs


def _arrays(
    module: ModuleType, source: Path, out: Path, options: Mapping[str, str], progress: Any, as_json: bool
) -> None:
    import importlib

    run = importlib.import_module("birdmml.prepare.arrays").prepare
    manifest = run(module, source, out, options, progress).manifest
    if as_json:
        typer.echo(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{out}: {manifest['name']}")
    typer.echo("\n".join(counts({"classes": len(manifest["classes"]), **rows(manifest)})))
    typer.echo("\n".join(differs(manifest["differences"])) or "  as published")


def _raise_interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt

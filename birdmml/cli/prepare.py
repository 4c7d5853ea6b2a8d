"""`birdmml prepare`: the user's copy of an evaluation set, converted once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from birdmml.cli._options import argument, command, flag, option
from birdmml.cli._show import (
    differs,
    evalset_counts,
    evalset_head,
    evalset_rows,
    interruptible,
    print_either,
    progress_bar,
    reject_share,
)
from birdmml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from birdmml.evalsets.prepare import MediaOptions


class PrepareOutcome(NamedTuple):
    """What is printed, for people and for programs, and whether few enough rows are missing."""

    lines: list[str]
    about: Mapping[str, Any]
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """The options of `birdmml prepare`, in the order of its help."""

    name: str = argument(..., "Which set; see `birdmml list`.", show_default=False)
    source: Path | None = option(
        None, "The archive as downloaded, the unpacked folder, or a folder with archives.", "--from"
    )
    out: Path | None = option(None, "The prepared set's folder (evalsets/NAME); replaced only when complete.")
    frame_px: int | None = option(None, "videos: short side of stored frames, px (256; 0 keeps it).", min=0)
    limit: int | None = option(None, "At most N rows a split, for a try; marked in the manifest.", min=1)
    settings: list[str] = option([], "Sets of arrays: KEY=VALUE. May be repeated.", "--set")
    max_rejects: str = option("1%", "Exit 1 if more of the rows than this cannot be used: a share or a percentage.")
    workers: int = option(2, "Processes to use.", min=1)
    resume: bool = flag("--resume", "Insist on going on from an interrupted run.")
    dry_run: bool = flag("--dry-run", "Look through the source and report; write nothing.")
    as_json: bool = flag("--json", "Print the manifest as JSON.")


@command
def prepare(options: PrepareOptions) -> None:
    """Convert your own copy of an evaluation set, once, into parquet that `birdmml bench` reads.

    Counts are compared with the published ones. What cannot be used is listed with its reason in DIR/report, never
    replaced. An interrupted run goes on when the same command is given again.

    \b
    birdmml prepare ssw60 --from ssw60.tar.gz
    birdmml prepare vb100 --from ~/vb100 --out ./evalsets/vb100
    """
    from birdmml.core import discover

    key = discover.canonical("evaluation set", options.name)
    module = discover.load("evaluation set", key)
    if not hasattr(module, "KIND"):
        raise UsageError(f"{key} needs no preparation: birdmml makes it itself; see `birdmml list`")
    source = _source(module, key, options.source)
    share = reject_share(options.max_rejects)
    out = options.out or Path("evalsets") / key
    with interruptible(out), progress_bar(quiet=options.as_json) as progress:
        if module.KIND == "arrays":
            _refuse(frame_px=options.frame_px, resume=options.resume, dry_run=options.dry_run)
            pairs = _pairs(options.settings, options.limit)
            outcome = _arrays(module, source, out, pairs, progress)
        elif options.dry_run:
            outcome = _plan(module, key, source, _media(options), share, progress)
        else:
            outcome = _run(module, key, source, out, options, share, progress)
    print_either(options.as_json, outcome.about, outcome.lines)
    if not outcome.accepted:
        raise typer.Exit(1)


def _source(module: ModuleType, key: str, source: Path | None) -> Path:
    """The path to read; what to download where there is none."""
    if source is not None and source.expanduser().exists():
        return source.expanduser()
    download: Any = getattr(module, "DOWNLOAD", None)
    words = download.words() if hasattr(download, "words") else f"get it from {module.CARD.url}"
    what = f"{source} is not there" if source is not None else f"{key} is not named by --from"
    file = getattr(download, "argument", "PATH")
    raise UsageError(f"{what}: {words}, then run `birdmml prepare {key} --from {file}`")


def _media(options: PrepareOptions) -> MediaOptions:
    from birdmml.evalsets.prepare import FRAME_PX, MediaOptions

    if options.settings:
        raise UsageError(f"--set {options.settings[0]}: only sets of arrays have settings of their own; leave it out")
    return MediaOptions(FRAME_PX if options.frame_px is None else options.frame_px, options.limit)


def _run(
    module: ModuleType, key: str, source: Path, out: Path, options: PrepareOptions, share: float, progress: Any
) -> PrepareOutcome:
    from birdmml.evalsets.prepare import prepare as run

    done = run(module, source, out, _media(options), options.workers, share, options.resume, progress)
    lines = list(_lines(out, done.manifest, done.report))
    if done.resumed:
        lines.append(f"  resumed     {done.resumed:,} files of an unfinished run were taken over")
    lines.append(f"  look at it  {out / 'report' / 'index.html'}")
    return PrepareOutcome(lines, done.manifest, bool(done.report["accepted"]))


def _plan(
    module: ModuleType, key: str, source: Path, options: MediaOptions, share: float, progress: Any
) -> PrepareOutcome:
    """What the source holds, before anything is decoded."""
    from collections import Counter

    from birdmml.evalsets import account
    from birdmml.evalsets.prepare import look

    seen = look(module, source, options, progress)
    splits = {name: dict(Counter(e.split for e in listed)) for name, listed in seen.entries.items()}
    numbers = {"classes": len(seen.annotations.classes), **splits}
    rejects, unused = seen.annotations.rejects, account.strays(seen.listing, seen.annotations)
    considered = len(rejects) + sum(map(len, seen.entries.values()))
    about = {
        "name": key, "demo": seen.listing.fake, "published": module.PUBLISHED, "found": numbers,
        "differences": [*account.differences(module.PUBLISHED, numbers), *seen.annotations.notes],
        "notes": seen.listing.notes, "considered": considered, "rejected": len(rejects),
        "rejects_by_reason": account.by_reason(rejects), "strays_by_reason": account.by_reason(unused),
    }  # fmt: skip
    lines = [f"would prepare {key} (nothing is written, nothing was decoded):"]
    lines += [*evalset_counts(numbers), *_account(about)]
    return PrepareOutcome(lines, about, len(rejects) <= share * considered)


def _lines(out: Path, manifest: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    yield from evalset_head(out, manifest)
    yield from evalset_counts(report["found"])
    for name, silent in report["without_audio"].items():
        if silent["count"]:
            yield f"  no sound    {silent['count']:,} of the {name} have no audio track: missing, not silence"
    yield from _account(report)
    if not report["accepted"]:
        share = f"{100 * report['reject_share']:.2f} %"
        yield f"  NOT WHOLE   {share} of the rows are missing, over --max-rejects {report['max_rejects']:g}: exit 1"


def _account(report: Mapping[str, Any]) -> Iterator[str]:
    """Differences, rejects and unused files in a few lines."""
    yield from differs([*report["notes"], *report["differences"]])
    yield from (f"  rejected    {n:,} rows: {reason}" for reason, n in report["rejects_by_reason"].items())
    yield from (f"  unused      {n:,} files: {reason}" for reason, n in report["strays_by_reason"].items())


def _refuse(**values: object) -> None:
    if strange := [k for k, v in values.items() if v not in (None, False)]:
        names = ", ".join("--" + k.replace("_", "-") for k in strange)
        raise UsageError(f"{names} is not for sets of arrays: leave it out")


def _pairs(settings: list[str], limit: int | None) -> dict[str, str]:
    pairs = {} if limit is None else {"limit": str(limit)}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise UsageError(f"--set {text!r} is not KEY=VALUE")
        pairs[key.strip()] = value.strip()
    return pairs


def _arrays(module: ModuleType, source: Path, out: Path, pairs: Mapping[str, str], progress: Any) -> PrepareOutcome:
    import importlib

    run = importlib.import_module("birdmml.evalsets.prepare").prepare_arrays
    manifest = run(module, source, out, pairs, progress).manifest
    lines = [f"{out}: {manifest['name']}"]
    lines += evalset_counts({"classes": len(manifest["classes"]), **evalset_rows(manifest)})
    return PrepareOutcome([*lines, *(list(differs(manifest["differences"])) or ["  as published"])], manifest, True)

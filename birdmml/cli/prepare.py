"""`birdmml prepare`: the user's copy of an evaluation set, converted once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli._options import argument, flag, option
from birdmml.cli._show import (
    evalset_counts,
    evalset_head,
    evalset_rows,
    few,
    interruptible,
    print_either,
    progress_bar,
    reject_share,
)
from birdmml.core import discover
from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.evalsets.prepare import MediaOptions

# What is printed, for people and for programs, and whether few enough rows are missing.
PrepareOutcome = tuple[list[str], Mapping[str, Any], bool]


@dataclass(frozen=True, kw_only=True)
class PrepareCommand:
    """Convert your own copy of an evaluation set, once, into parquet that `birdmml bench` reads.

    Counts are compared with the published ones. What cannot be used is listed with its reason in DIR/report, never
    replaced. An interrupted run goes on when the same command is given again.

    \b
    birdmml prepare ssw60 --from ssw60.tar.gz
    birdmml prepare vb100 --from ~/vb100 --out ./evalsets/vb100
    """

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

    def _run(self) -> None:
        key = discover.canonical("evaluation set", self.name)
        module = discover.load("evaluation set", key)
        if not hasattr(module, "KIND"):
            raise UsageError(f"{key} needs no preparation: birdmml makes it itself; see `birdmml list`")
        source = _source(module, key, self.source)
        share = reject_share(self.max_rejects)  # Before hours of decoding, not after.
        out = self.out or Path("evalsets") / key
        with interruptible(out), progress_bar(quiet=self.as_json) as progress:
            if module.KIND == "arrays":
                outcome = _arrays(module, source, out, self._pairs(), progress)
            elif self.dry_run:
                outcome = _plan(module, key, source, self._media(), share, progress)
            else:
                outcome = self._prepare(module, source, out, share, progress)
        lines, about, accepted = outcome
        print_either(self.as_json, about, lines)
        if not accepted:
            raise typer.Exit(1)

    def _pairs(self) -> dict[str, str]:
        """The settings of a set of arrays; raises UsageError for options that such sets do not have."""
        others = {"frame-px": bool(self.frame_px), "resume": self.resume, "dry-run": self.dry_run}
        if strange := ", ".join(f"--{name}" for name, there in others.items() if there):
            raise UsageError(f"{strange} is not for sets of arrays: leave it out")
        pairs = {} if self.limit is None else {"limit": str(self.limit)}
        for text in self.settings:
            key, sign, value = text.partition("=")
            if not sign or not key.strip():
                raise UsageError(f"--set {text!r} is not KEY=VALUE")
            pairs[key.strip()] = value.strip()
        return pairs

    def _media(self) -> MediaOptions:
        from birdmml.evalsets.prepare import FRAME_PX, MediaOptions

        if self.settings:
            raise UsageError(f"--set {self.settings[0]}: only sets of arrays have settings of their own; leave it out")
        return MediaOptions(FRAME_PX if self.frame_px is None else self.frame_px, self.limit)

    def _prepare(self, module: ModuleType, source: Path, out: Path, share: float, progress: Any) -> PrepareOutcome:
        from birdmml.evalsets.prepare import prepare

        done = prepare(module, source, out, self._media(), self.workers, share, self.resume, progress)
        lines = list(_lines(out, done.manifest, done.report))
        if done.resumed:
            lines.append(f"  resumed     {done.resumed:,} files of an unfinished run were taken over")
        lines.append(f"  look at it  {out / 'report' / 'index.html'}")
        return lines, done.manifest, bool(done.report["accepted"])


def _source(module: ModuleType, key: str, source: Path | None) -> Path:
    """The path to read; what to download where there is none."""
    if source is not None and source.expanduser().exists():
        return source.expanduser()
    download: Any = getattr(module, "DOWNLOAD", None)
    words = download.words() if hasattr(download, "words") else f"get it from {module.CARD.url}"
    what = f"{source} is not there" if source is not None else f"{key} is not named by --from"
    file = getattr(download, "argument", "PATH")
    raise UsageError(f"{what}: {words}, then run `birdmml prepare {key} --from {file}`")


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
    return lines, about, len(rejects) <= share * considered


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
    yield from few("  differs     ", [*report["notes"], *report["differences"]])
    yield from (f"  rejected    {n:,} rows: {reason}" for reason, n in report["rejects_by_reason"].items())
    yield from (f"  unused      {n:,} files: {reason}" for reason, n in report["strays_by_reason"].items())


def _arrays(module: ModuleType, source: Path, out: Path, pairs: Mapping[str, str], progress: Any) -> PrepareOutcome:
    from birdmml.evalsets.prepare import prepare_arrays

    manifest = prepare_arrays(module, source, out, pairs, progress).manifest
    lines = [f"{out}: {manifest['name']}", *evalset_counts(evalset_rows(manifest))]
    lines += list(few("  differs     ", manifest["differences"])) or ["  as published"]
    return lines, manifest, True

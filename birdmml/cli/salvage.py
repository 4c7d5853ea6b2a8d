"""`birdmml salvage`: what can be had from a split tar.gz with holes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmml.cli._show import few, print_either, progress_bar

if TYPE_CHECKING:
    from birdmml.fetch.salvage.account import Hole, SalvageReport


def salvage(
    parts: Annotated[
        list[Path], typer.Argument(help="The parts of one split .tar.gz that are there.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the members.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report; write nothing.")] = False,
    max_members: Annotated[int, typer.Option(min=1, help="Stop at more members than this.")] = 2_000_000,
    max_member_bytes: Annotated[int, typer.Option(min=1, help="Refuse larger members.")] = 1 << 30,
) -> None:
    """Read a split tar.gz past missing, truncated or broken parts.

    Writes the members of which every byte is certain, and DIR/salvage.json with an account of the rest. Run it
    again when a part has turned up: only what is not there yet is written. Exit 1 if anything is lost or in doubt.
    """
    from birdmml.fetch.salvage import salvage as read
    from birdmml.fetch.salvage.members import MemberLimits

    with progress_bar(quiet=as_json) as progress:
        report = read(parts, out, MemberLimits(max_members, max_member_bytes), dry_run, progress)
    print_either(as_json, {**asdict(report), "whole": report.whole}, _lines(out, report, dry_run))
    if not report.whole:
        raise typer.Exit(1)


def _lines(out: Path, report: SalvageReport, dry: bool) -> list[str]:
    n = report.counts
    lines = [
        f"{out}: {n['complete']:,} members complete, {n['recovered']:,} recovered behind a hole, "
        f"{n['lost']:,} known and lost, {n['refused']:,} refused",
        "  written     nothing (--dry-run)"
        if dry
        else f"  written     {n['written']:,}; {n['already there']:,} were there",
    ]
    lines += [f"  hole        {_hole(hole)}" for hole in report.holes]
    lines += few("  lost        ", [f"{name}: {why}" for name, why in report.lost.items()])
    # Of refused members the report holds the first alone: a hostile archive may have any number.
    lines += few("  refused     ", [f"{r['member']}: {r['reason']}" for r in report.refused], n["refused"])
    if report.checksum == "differs":
        lines.append("  checksum    differs: some bytes are wrong, and no one can tell which; get the parts again")
    if not report.reached_end:
        lines.append("  end         not reached: the last part is missing, cut short or broken")
    if not dry:
        lines.append(f"  report      {out / 'salvage.json'}")
    return lines


def _hole(hole: Hole) -> str:
    where = f"{', '.join(hole.parts)} {hole.kind}" + (f" at byte {hole.at['byte']:,}" if hole.at else "")
    if hole.resumed is None:
        return f"{where}; nothing to go on from behind it"
    again = hole.resumed
    return (
        f"{where}; read on from {again['part']} byte {again['byte']:,} bit {again['bit']}, "
        f"{hole.uncertain_bytes:,} uncertain bytes"
    )

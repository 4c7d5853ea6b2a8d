"""Everything that can be had from a split .tar.gz with parts missing, cut short or broken.

What is written is certain as far as it can be: bytes that depend on a hole are known (see `inflate`), a member counts
only with a sound header before it and the right thing behind it, and not when bits that make no sense follow closely.
What cannot be known: gzip has one checksum, at its very end. Flipped bits that still decode to the same number of
bytes (a literal for another, a distance) show only when the stream is whole, and then not where; with a hole they
never do. Compare the parts with published checksums where there are any. An archive within the archive that begins
behind a hole looks like members of it. Members far smaller than deflate's window of 32 KiB copy from one another, so
doubt behind a hole can last for many; they are counted as lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from birdmml.core.files import write_json
from birdmml.core.pool import Progress, silent
from birdmml.errors import SourceError
from birdmml.fetch.salvage.account import Account, SalvageReport
from birdmml.fetch.salvage.account import Hole as Hole
from birdmml.fetch.salvage.account import report as account_report
from birdmml.fetch.salvage.members import REPORT, MemberFolder, MemberLimits
from birdmml.fetch.salvage.parts import ArchiveParts, Files
from birdmml.fetch.salvage.walk import Walk


def salvage(
    parts: Sequence[Path], out: Path, limits: MemberLimits | None = None, dry: bool = False, progress: Progress = silent
) -> SalvageReport:
    """Read what can be read of the archive that `parts` were cut from, and write its whole members below `out`.

    A second run with more parts writes only what is not there. `dry` reads and reports, and writes nothing.
    Raises UsageError and SourceError when the parts make no archive, cannot be read, or `out` cannot be written.
    """
    files = Files(parts)
    account = Account()
    folder = MemberFolder(out, limits or MemberLimits(), account, dry)
    try:
        if not dry:
            out.mkdir(parents=True, exist_ok=True)
        walk = Walk(ArchiveParts(files), folder, lambda done: progress("salvage", done, files.total))
        for _ in walk.steps():
            pass
        report = account_report([account], bool(walk.plain))
        report.members = {name: asdict(saved) for name, saved in folder.saved.items()}
        names = ("complete", "recovered", "refused", "written", "already there")
        report.counts = {name: account.counts[name] for name in names} | {"lost": len(report.lost)}
        if not dry:
            write_json(out / REPORT, {**asdict(report), "whole": report.whole})
        return report
    except OSError as e:
        raise SourceError(f"{out} cannot be written ({e}): mend that and run again, it goes on") from e
    finally:
        if not dry and out.is_dir():
            folder.close()

"""What several commands share: a progress bar, a share as it is typed, a dataset in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.build.run import Built

DEMO_BANNER = (
    "DEMO DATA, procedurally generated: this is not Bird-MML, and its figures say nothing about real birds."
)


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) that draws one bar a stage on a terminal, and nothing elsewhere."""
    from tqdm import tqdm

    current: tuple[str, Any] = ("", None)

    def show(stage: str, done: int, total: int) -> None:
        nonlocal current
        if stage != current[0]:
            if current[1] is not None:
                current[1].close()
            bar = tqdm(total=total, desc=stage, leave=False, disable=True if quiet else None, initial=done)
            current = (stage, bar)
        current[1].total = total
        current[1].update(done - current[1].n)

    try:
        yield show
    finally:
        if current[1] is not None:
            current[1].close()


def reject_share(text: str) -> float:
    """--max-rejects as a share: "0.01" and "1%" are the same; raises UsageError."""
    try:
        value = float(text.rstrip("% ")) / (100 if "%" in text else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--max-rejects {text!r} is not a share: give 0.01 or 1%")
    return value


def built_lines(out: Path, built: Built) -> list[str]:
    """What a build ends with."""
    lines = dataset_lines(out, built.manifest, built.validation)
    if built.resumed:
        lines.append(f"  resumed     {built.resumed:,} records of an unfinished build were taken over")
    if built.unfinished:
        lines += [
            f"  unfinished  {built.unfinished}",
            f"              finished work is kept in {built.kept} for `birdmml build --resume`; delete it when done",
        ]
    return [
        *lines,
        f"  look at it  {out / 'report' / 'index.html'}",
        '  load it     import birdmml, datasets; datasets.load_dataset("birdmml")',
    ]


def dataset_lines(root: Path, manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> list[str]:
    """A built dataset in a few lines."""
    counts = manifest["counts"]
    sides = ", ".join(f"{name} {value['rows']:,}" for name, value in manifest["splits"].items())
    size = sum(s["bytes"] for v in manifest["splits"].values() for s in v["shards"])
    lines = [DEMO_BANNER] if manifest["demo"] else []
    lines += [
        f"{root}: {counts['rows']:,} image-audio-text triplets of {counts['species']} species ({sides})",
        f"  made of     {counts['photos']:,} photos, {counts['clips']:,} clips of {counts['recordings']:,} "
        f"recordings; {size / 2**20:,.1f} MiB",
        f"  checked     {validation['media_checked']:,} media, {validation['rejected']} rejected"
        f" ({100 * validation['reject_share']:.1f} %, --max-rejects {validation['max_rejects']:g})",
    ]
    table = manifest.get("taxonomy", {})
    if table.get("file"):
        lines.append(
            f"  species     {table['species']:,} listed in {table['file']}; {table['completed']:,} completed from the "
            "shipped table"
        )
        lines += [f"              {note}" for note in table["notes"][:10]]
    lines += [f"              {n} x {reason}" for reason, n in validation["rejects_by_reason"].items()]
    if gone := sum(validation.get("absent_by_reason", {}).values()):
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in validation["absent_by_reason"].items())
        lines.append(f"  not there   {gone:,}: {reasons}; each in report/absent.csv")
    if unsure := sum(manifest["source"]["facts"].get("unverified", {}).values()):
        lines.append(
            f"  unverified  {unsure:,} files that no checksum covers: put the record's JSON beside the archives as "
            "record.json"
        )
    if "with_article" in (written := validation.get("captioner", {})):
        alone = written["without_article"]
        done = written["with_article"] + alone
        poor = ", ".join(f"{n:,} {reason}" for reason, n in written["to_template"].items())
        lines.append(
            f"  captions    {done:,} of {written['photos']:,} photos' written by models, {alone:,} without an "
            f"article{f'; a template for the others: {poor}' if poor else ''}"
        )
    if validation.get("recovered_rows"):
        lines.append(f"  recovered   {validation['recovered_rows']:,} rows from behind a hole in the archive")
    lines += _unused(validation)
    lines += _leaks(manifest, validation)
    if manifest["demo"]:
        known = manifest["source"]["facts"]["ceilings"]
        lines.append(
            "  best possible accuracy, by design: "
            + ", ".join(f"{k} {100 * v:.1f} %" for k, v in known.items())
        )
    return lines


def _leaks(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> list[str]:
    """How much lies on two sides, as built and row by row; names in captions."""
    told = validation.get("leakage") or {}
    lines = []
    if splits := told.get("splits"):
        shares = [
            f"{word} {100 * here['test_share']:.0f} % (row by row {100 * there['test_share']:.0f} %)"
            for key, word in (("recording", "recording"), ("near_duplicate", "look-alike photo"))
            if (here := splits["as_built"].get(key)) and (there := splits["row_wise"].get(key))
            if here["test_share"] is not None and there["test_share"] is not None
        ]
        if shares:
            lines.append(
                f"  split       {splits['built']}; test rows with a relative in training: {', '.join(shares)}"
            )
    if captions := told.get("captions"):
        named = [f"{column} {100 * value['any']:.1f} %" for column, value in captions.items()]
        lines.append(f"  names       captions that name their species: {', '.join(named)}")
    return lines


def _unused(validation: Mapping[str, Any]) -> list[str]:
    lines = []
    unpaired = validation["unpaired"]
    if unpaired:
        photos, clips = sum(u["photos"] for u in unpaired), sum(u["clips"] for u in unpaired)
        names = sorted({u["species"] for u in unpaired})
        lines.append(
            f"  unpaired    {photos} photos and {clips} clips of {len(names)} species have no partner: "
            f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        )
    tails = validation["dropped_tails"]
    if tails["clips"]:
        lines.append(
            f"  tails       {tails['clips']} ends of recordings ({tails['seconds']:.1f} s) are too short for a clip"
        )
    if validation["duplicates"]:
        lines.append(
            f"  duplicates  {len(validation['duplicates'])} media are there more than once (one split each)"
        )
    unknown = {k: n for k, n in validation["unknown_licenses"].items() if n}
    if unknown:
        lines.append("  licences    unknown for " + ", ".join(f"{n:,} {k}s" for k, n in unknown.items()))
    return lines

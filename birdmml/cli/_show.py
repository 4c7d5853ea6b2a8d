"""What several commands share: checks of options, a progress bar, and datasets, sets and parcels in a few lines."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from birdmml.core import discover
from birdmml.core.files import human_bytes
from birdmml.errors import DatasetError, HubError, Interrupted, ResultError, UnknownName, UsageError

if TYPE_CHECKING:
    from birdmml.dataset.build import FinishedBuild
    from birdmml.hub import Parcel, UploadFile
    from birdmml.leaderboard.submission.expected import Expected

P = TypeVar("P", bound="Parcel")
# Whatever shows demo data says so first: a figure or a picture of it must not be taken for one of birds.
DEMO_BANNER = "DEMO DATA, procedurally generated: this is not Bird-MML, and its figures say nothing about real birds."

LISTED = 10


def print_json(value: Any) -> None:
    """For programs; letters of any script stay as they are."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_either(as_json: bool, value: Any, lines: Iterable[str]) -> None:
    """What a command ends with: `value` for programs, or `lines` for people."""
    if as_json:
        print_json(value)
    else:
        typer.echo("\n".join(lines))


@contextmanager
def interruptible(out: Path) -> Iterator[None]:
    """A polite kill is treated like Ctrl-C: workers end, finished work is kept. Raises Interrupted for both."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as e:
        raise Interrupted(
            f"interrupted: {out} is as it was; the same command goes on from {out}.partial, or delete that folder"
        ) from e
    finally:
        # None stands for a handler that Python did not set and cannot put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def needs_data(data: Path) -> None:
    """Raise DatasetError where there is no such folder, with the command that makes one."""
    if not data.is_dir():
        shown = data if data.is_absolute() else f"./{data}"
        raise DatasetError(f"no dataset at {data}: run `birdmml build --out {shown}`")


def writable(out: Path) -> None:
    """Make a folder and raise UsageError where nothing can be written into it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".birdmml-probe"
        probe.touch()  # os.access says nothing of read-only mounts and full disks.
        probe.unlink()
    except OSError as e:
        raise UsageError(f"--out {out} cannot be written ({e.strerror or e}): choose another folder") from e


@contextmanager
def writing(out: Path, kept: str = "") -> Iterator[None]:
    """One line for Ctrl-C, where `kept` says what is left, and for a disk that does not take the result."""
    try:
        yield
    except KeyboardInterrupt as e:
        kept = kept or f"no result was written to {out}; run the same command again"
        raise Interrupted(f"interrupted: {kept}") from e
    except OSError as e:
        raise ResultError(
            f"{out}: the result cannot be written ({e.strerror or e}): free space, or choose another --out"
        ) from e


def expected(data: Path | None, evalsets: Path | None) -> Expected | None:
    """What the verifier's own copy holds; None without one. Raises UsageError for sets without the dataset."""
    from birdmml.leaderboard.submission.expected import of_data

    if evalsets is not None and data is None:
        raise UsageError("--evalsets goes with --data: give your copy of the dataset, too")
    return None if data is None else of_data(data, evalsets)


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) that draws one bar a stage on a terminal, and nothing elsewhere."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def close() -> None:
        for bar in bars.values():
            bar.close()
        bars.clear()

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            close()
            # None: a bar on a terminal alone.
            bars[stage] = tqdm(total=total, desc=stage, leave=False, disable=True if quiet else None, initial=done)
        bars[stage].total = total
        bars[stage].update(done - bars[stage].n)

    try:
        yield show
    finally:
        close()


def reject_share(text: str) -> float:
    """--max-rejects as a share: "0.01" and "1%" are the same; raises UsageError."""
    try:
        value = float(text.rstrip("% ")) / (100 if "%" in text else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--max-rejects {text!r} is not a share: give 0.01 or 1%")
    return value


def built_lines(out: Path, built: FinishedBuild) -> list[str]:
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
    if "with_article" in (written := validation.get("captioner", {})):  # Only models count these.
        alone = written["without_article"]
        done = written["with_article"] + alone
        poor = ", ".join(f"{n:,} {reason}" for reason, n in written["to_template"].items())
        lines.append(
            f"  captions    {done:,} of {written['photos']:,} photos' written by models, {alone:,} without an "
            f"article{f'; a template for the others: {poor}' if poor else ''}"
        )
    if validation.get("recovered_rows"):
        lines.append(f"  recovered   {validation['recovered_rows']:,} rows from behind a hole in the archive")
    lines += [*_unused(validation), *_leaks(manifest, validation)]
    if manifest["demo"]:
        ceilings = manifest["source"]["facts"]["ceilings"]
        lines.append(
            "  best possible accuracy, by design: " + ", ".join(f"{k} {100 * v:.1f} %" for k, v in ceilings.items())
        )
    return lines


def _leaks(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> list[str]:
    """How much lies on two sides, as built and row by row; names in captions."""
    leakage = validation.get("leakage") or {}
    lines = []
    if splits := leakage.get("splits"):
        shares = [
            f"{word} {100 * here['test_share']:.0f} % (row by row {100 * there['test_share']:.0f} %)"
            for key, word in (("recording", "recording"), ("near_duplicate", "look-alike photo"))
            if (here := splits["as_built"].get(key)) and (there := splits["row_wise"].get(key))
            if here["test_share"] is not None and there["test_share"] is not None
        ]
        if shares:
            lines.append(f"  split       {splits['built']}; test rows with a relative in training: {', '.join(shares)}")
    if captions := leakage.get("captions"):
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
        lines.append(f"  duplicates  {len(validation['duplicates'])} media are there more than once (one split each)")
    unknown = {k: n for k, n in validation["unknown_licenses"].items() if n}
    if unknown:
        lines.append("  licences    unknown for " + ", ".join(f"{n:,} {k}s" for k, n in unknown.items()))
    return lines


def evalset_lines(root: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """A prepared set in a few lines: what it is, its licence, counts beside the published ones, its digest."""
    yield from evalset_head(root, manifest)
    try:
        card = discover.load("evaluation set", str(manifest["name"])).CARD
    except UnknownName:
        yield f"  licence     {manifest.get('license', 'unknown')}; this birdmml does not know the set"
    else:
        yield f"  what        {card.summary}"
        yield f"  licence     {manifest.get('license', card.license)}; {card.url}"
    yield from evalset_counts(evalset_rows(manifest))
    yield from few("  differs     ", manifest["differences"])
    yield from _left_out(root, manifest)
    yield f"  digest      {manifest['digest']}"


def evalset_head(root: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What a prepared set is called and how large it is."""
    parts = [p for c in manifest["collections"].values() for p in c["splits"].values()]
    size = sum(s["bytes"] for p in parts for s in p["shards"])
    if manifest["demo"]:
        yield "MADE FROM A FAKE: noise, not birds; its figures say nothing."
    yield f"{root}: {manifest['name']}, {sum(p['rows'] for p in parts):,} rows; {size / 2**20:,.1f} MiB"


def evalset_counts(counts: Mapping[str, Any]) -> Iterator[str]:
    """The classes, and a line a collection."""
    yield f"  classes     {counts['classes']:,}"
    for name, splits in counts.items():
        if name != "classes":
            yield f"  {name:<11} " + ", ".join(f"{split} {n:,}" for split, n in splits.items())


def evalset_rows(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """{"classes": how many, collection: {split: its rows}}."""
    rows = {k: {s: part["rows"] for s, part in c["splits"].items()} for k, c in manifest["collections"].items()}
    return {"classes": len(manifest["classes"]), **rows}


def few(label: str, items: Sequence[str], total: int | None = None) -> Iterator[str]:
    """The first items, a line each, and how many more there are; `total` where `items` are not all of them."""
    yield from (label + item for item in items[:LISTED])
    if more := (len(items) if total is None else total) - len(items[:LISTED]):
        yield f"{label}... and {more:,} more"


def _left_out(root: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What was rejected or changed: sets of arrays say it in the manifest, those of media in their report."""
    reasons = manifest.get("left_out")
    if reasons is None:
        path = root / "report" / "report.json"
        try:
            reasons = json.loads(path.read_bytes())["rejects_by_reason"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            yield f"  rejected    not known: {path} cannot be read ({type(e).__name__})"
            return
    yield from (f"  rejected    {n:,} rows: {reason}" for reason, n in reasons.items())
    yield from (f"  changed     {n:,} rows: {reason}" for reason, n in manifest.get("changed", {}).items())
    if manifest["differences"] == [] and not reasons:
        yield "  as published"


def send(
    stage: Callable[[Path], Sequence[P]], out: Path | None, look_at: str, push: bool, private: bool, quiet: bool
) -> tuple[Sequence[P], list[str]]:
    """Stage parcels in `out`, or in a folder that is deleted at the end, list them, and upload them with `push`.

    Returns the parcels and the addresses they went to, none without `push`. Raises HubError.
    """
    from birdmml.hub import push as upload

    with tempfile.TemporaryDirectory(prefix="birdmml-push-") as temporary:
        folder = out or Path(temporary)
        try:
            parcels = stage(folder)
        except OSError as e:
            words = f"{folder} cannot be written ({e.strerror or e}): free space, or choose another --out"
            raise HubError(words) from e
        if not quiet:
            for parcel in parcels:
                notes = [f"note      {note}" for note in parcel.notes]
                typer.echo("\n".join([*parcel_files(parcel, lambda f: f.sha256), *notes]))
            typer.echo(f"look at   {look_at}")
        return parcels, upload(*parcels, private=private) if push else []


def uploaded(urls: Sequence[str]) -> list[str]:
    """What an upload, or a dry run, ends with."""
    return [f"uploaded  {url}" for url in urls] or ["nothing was uploaded: add --push"]


def parcel_files(parcel: Parcel, beside: Callable[[UploadFile], str]) -> list[str]:
    """A parcel and every file of it with its size, and what is to stand beside it."""
    lines = [DEMO_BANNER] if parcel.demo else []
    kind = "" if parcel.kind == "model" else f"{parcel.kind} "
    size = human_bytes(sum(f.size for f in parcel.files))
    lines.append(f"{kind}{parcel.repo}: {len(parcel.files)} files, {size}")
    width = max(len(f.path) for f in parcel.files)
    return lines + [f"  {f.path.ljust(width)}  {human_bytes(f.size):>10}  {beside(f)}" for f in parcel.files]


def parcel_json(parcel: Parcel, url: str | None) -> dict[str, Any]:
    """A parcel for programs; `url` is None where nothing was uploaded."""
    return {
        "repo": parcel.repo,
        "kind": parcel.kind,
        "uploaded": url is not None,
        "url": url,
        "demo": parcel.demo,
        "files": [vars(f) for f in parcel.files],
        "notes": list(parcel.notes),
    }

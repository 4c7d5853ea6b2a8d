"""The folder that goes to the hub: exactly the files of a model, its card and its results; nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pyarrow.parquet as pq

from birdmml.core.files import write_json, write_text
from birdmml.core.licenses import UNKNOWN_LICENSE
from birdmml.dataset import format
from birdmml.errors import CheckpointError, DatasetError, ResultError, UsageError
from birdmml.hub import CARD, Parcel, check_repo, clear, listed, model_card
from birdmml.hub.model_card import ModelAbout, ResultFolder, VerifiedResult, scored
from birdmml.leaderboard.submission.checking import is_date
from birdmml.leaderboard.submission.model import at
from birdmml.leaderboard.verify import find
from birdmml.models.checkpoint import META, TOKENIZER, WEIGHTS, Checkpoint, load
from birdmml.models.state import resolve
from birdmml.results.outcomes import COLUMNS
from birdmml.results.result import FILE
from birdmml.schema import Figure

# `.eval_results/`: a model's figures as the Hub's benchmark datasets collect them.
# The format is https://huggingface.co/docs/hub/eval-results: `dataset.id` is a dataset that the Hub lists as a
# benchmark, and `dataset.task_id` a task of its eval.yaml.
EVAL_RESULTS_FILE = ".eval_results/birdmml.yaml"


def render(repo: str, benchmark: str, shelves: Sequence[ResultFolder]) -> str:
    """One entry a figure, of this very model; JSON, which YAML readers read.

    Raises ResultError for figures of the demo or of --limit, which nobody can compare, for two figures of one task,
    and where there is none.
    """
    entries: dict[str, dict[str, Any]] = {}
    for shelf in shelves:
        result = shelf.scored.result
        if result.demo or result.settings.get("limit"):
            why = "of the demo" if result.demo else "limited to some rows"
            raise ResultError(f"{shelf.scored.folder} is {why}, which no benchmark takes: leave out --benchmark")
        for entry in _entries(repo, benchmark, shelf):
            task = entry["dataset"]["task_id"]
            if task in entries:
                raise ResultError(f"two results give {task}: give --benchmark with one of them")
            entries[task] = entry
    if not entries:
        raise ResultError("--benchmark has nothing to tell: add --results")
    return json.dumps(list(entries.values()), indent=2, allow_nan=False) + "\n"


def task_id(figure: Figure) -> str:
    """ "zero-shot.test-split.a-v.accuracy": what the benchmark's eval.yaml must call the task."""
    parts = (figure.suite, figure.evalset, figure.task, figure.metric)
    return ".".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)


def _entries(repo: str, benchmark: str, shelf: ResultFolder) -> Iterator[dict[str, Any]]:
    result, place = shelf.scored.result, shelf.scored.at
    date = str(at(result.provenance, "created_utc", other=""))[:10]
    source = {"url": f"https://huggingface.co/{repo}/tree/main/{shelf.folder}", "name": "Outcomes, item by item"}
    for f in result.figures:
        seed, n = result.seeds[place], len(result.seeds)
        mean = f"mean of {n} seeds {f.value:.6g}, " if n > 1 else ""
        yield {
            "dataset": {"id": benchmark, "task_id": task_id(f)},
            "value": f.per_seed[place],
            **({"date": date} if is_date(date) else {}),
            "source": source,
            "notes": f"seed {seed}, n {f.n}, chance {f.chance:.6g}, {mean}95 % {f.low:.6g} to {f.high:.6g}",
        }


RESULTS = "results"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ITEMS = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.+-]*/){0,4}[A-Za-z0-9][A-Za-z0-9_.+-]*\.parquet")
# The start of a path that means something on one machine only, and tells its owner's name.
_LOCAL = re.compile(r"/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|file:")


@dataclass(frozen=True)
class ModelParcel(Parcel):
    """A staged model with the results that its card tells."""

    results: tuple[VerifiedResult, ...] = ()


def check_names(repo: str, license_id: str, dataset: str, benchmark: str = "") -> None:
    """Raise UsageError for a repository, licence or dataset name that the Hub would not take."""
    for option, name in (("--repo", repo), ("--dataset", dataset), ("--benchmark", benchmark)):
        if name or option == "--repo":
            check_repo(option, name)
    if not _LICENSE.fullmatch(license_id):
        raise UsageError(f"--license {license_id!r} is no id of the Hub: give for example cc-by-nc-4.0")


def stage(
    checkpoint: Path,
    results: Sequence[Path],
    about: ModelAbout,
    folder: Path,
    method: str | None = None,
    data: Path | None = None,
) -> ModelParcel:
    """Check a model and its results and put what would be uploaded into `folder`.

    `folder` may hold nothing but such files. `data` is the built dataset of the training, for its licences;
    `method` the user's own method file. Raises CheckpointError, ResultError, DatasetError or UsageError.
    """
    source = resolve(checkpoint)
    names = (WEIGHTS, META, TOKENIZER)
    for name in names:
        _inside(source, name, CheckpointError)
    ready = load(source, method)
    weights = str(_object(source / META)["weights_sha256"])
    if data is not None:
        manifest = format.read(data)
        if manifest.get("digest") != ready.dataset.get("digest"):
            raise DatasetError(
                f"{data} has digest {str(manifest.get('digest'))[:12]}, the model was trained on"
                f" {str(ready.dataset.get('digest'))[:12]}: give --data the dataset of its training"
            )
        about = replace(about, licenses=dict(manifest["licenses"]))
    shelves = _shelves([scored(f, ready, weights) for f in find(results)] if results else [])
    texts = {CARD: model_card.render(ready, weights, shelves, about)}
    if about.benchmark:
        texts[EVAL_RESULTS_FILE] = render(about.repo, about.benchmark, shelves)
    copies = {**{name: source / name for name in names}, **dict(_result_files(shelves))}
    clear(folder, {*texts, *copies}, "model")
    for path, origin in copies.items():
        _copy(origin, folder / path)
    for path, text in texts.items():
        write_text(folder / path, text)
    files = listed(folder, {*texts, *copies})
    if weights not in {f.sha256 for f in files}:
        raise CheckpointError(f"{source} was changed while it was read: run the same command again")
    verified = tuple(s.scored for s in shelves)
    notes = tuple(_notes(ready, verified, about))
    demo = model_card.is_demo(ready) or any(s.result.demo for s in verified)
    return ModelParcel(about.repo, "model", folder, files, demo, notes, results=verified)


def _shelves(verified: Sequence[VerifiedResult]) -> list[ResultFolder]:
    """A folder below results/ for each result: its own name where that is plain and not taken."""
    shelves: list[ResultFolder] = []
    taken: set[str] = set()
    for number, item in enumerate(verified, start=1):
        name = item.folder.resolve().name
        if not _FOLDER.fullmatch(name) or name.casefold() in taken:
            name = f"result-{number}"
        taken.add(name.casefold())
        shelves.append(ResultFolder(f"{RESULTS}/{name}", item))
    return shelves


def _result_files(shelves: Sequence[ResultFolder]) -> Iterator[tuple[str, Path]]:
    """(path in the repository, file here) of each result.json and of the items that its figures name."""
    for shelf in shelves:
        source = shelf.scored.folder
        for name in dict.fromkeys([FILE, *(f.predictions for f in shelf.scored.result.figures)]):
            _inside(source, name, ResultError)
            if name != FILE and not _ITEMS.fullmatch(name):
                raise ResultError(f"{source}: predictions file {name!r} has an odd name: score again")
            if name != FILE and (more := set(pq.read_schema(source / name).names) - COLUMNS):
                raise ResultError(f"{source / name} has columns of its own ({min(more)}): score again")
            yield f"{shelf.folder}/{name}", source / name


def _inside(folder: Path, name: str, error: type[CheckpointError | ResultError]) -> None:
    """Raise where a link leads out of its folder: what it leads to was not meant to be published."""
    path = folder / name
    if path.exists() and not path.resolve().is_relative_to(folder.resolve()):
        raise error(f"{path} is a link out of its folder: put a copy of the file in its place")


def _copy(source: Path, target: Path) -> None:
    """Copy a file; JSON without the folders of this machine that its settings may name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".json" and source.name != TOKENIZER:
        values = _object(source)
        clean = without_folders(values)
        if clean != values:
            write_json(target, clean)
            return
    shutil.copyfile(source, target)


def without_folders(value: Any) -> Any:
    """JSON values with each local path cut to its last name, also in texts that hold JSON themselves."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("{"):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return value
        clean = without_folders(inner)
        return value if clean == inner else json.dumps(clean, sort_keys=True)
    if _LOCAL.match(value):
        return PureWindowsPath(PurePosixPath(value).name).name
    return value


def _object(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes()))


def _notes(ready: Checkpoint, verified: Sequence[VerifiedResult], about: ModelAbout) -> Iterator[str]:
    """What a publisher should know before they push."""
    if about.benchmark:
        yield f"{EVAL_RESULTS_FILE} counts once {about.benchmark} is a benchmark of the Hub with these tasks"
    if not verified:
        yield "the card has no results: add --results with a folder that `birdmml bench --checkpoint` wrote"
    for item in verified:
        if item.unknown:
            yield f"{item.folder}: cannot be compared with the checkpoint: {', '.join(item.unknown)}"
        if at(item.result.provenance, "code", "dirty"):
            yield f"{item.folder}: was scored with uncommitted changes to birdmml"
    if about.licenses is None:
        yield "the licences of the training data are not on the card: add --data with the dataset of the training"
    if about.license == UNKNOWN_LICENSE:
        yield "the weights have no licence: add --license with one of the Hub's ids"
    if ready.network.method_file is not None:
        yield "the method's own file is not uploaded: publish it yourself, nobody can load the model without it"

"""Dataset x suites x method x seeds -> a Result with its files: the one place where the stages meet."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from birdmml import checkpoint as checkpoints
from birdmml import discover, embedded, materials, models, provenance, results, settings
from birdmml.checkpoint import Checkpoint
from birdmml.embed import Embedder
from birdmml.embedded import Shelf
from birdmml.errors import UsageError
from birdmml.figures import figures_of
from birdmml.files import human_bytes
from birdmml.load import Built
from birdmml.materials import Provider
from birdmml.models import Recipe
from birdmml.nn.feed import steps_per_epoch
from birdmml.nn.network import Network
from birdmml.nn.presets import preset
from birdmml.nn.read import captions
from birdmml.nn.scores import JOINT
from birdmml.nn.text import train_tokenizer
from birdmml.picture import draw_all
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result
from birdmml.suites._material import Material, Outcome, Request
from birdmml.train import cpu_threads, pick_device
from birdmml.training.plan import check_columns, configured

MAX_SEEDS = 100
SUITES = ("retrieval", "zero-shot")


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run, checked; made by `plan`. `options` has each suite's, by name."""

    recipe: Recipe
    suites: tuple[str, ...]
    options: Mapping[str, Any]
    seeds: tuple[int, ...]
    device: str = "auto"
    checkpoint: Checkpoint | None = None
    providers: tuple[Provider, ...] = field(default=())

    @property
    def built(self) -> Built:
        """The dataset."""
        return self.recipe.built

    @property
    def method(self) -> str:
        """The method's name, or the path of the user's own."""
        return self.recipe.method

    def values(self) -> dict[str, Any]:
        """The settings that a result records, as JSON values."""
        r = self.recipe
        return {
            "preset": settings.to_dict(r.preset),
            "method": settings.to_dict(r.config),
            **({} if r.method_file is None else {"method_file": dict(r.method_file)}),
            "weights": r.preset.encoders.weights,
            "suites": {name: settings.to_dict(self.options[name]) for name in self.suites},
            "evalsets": {p.subject.name: p.digest for p in self.providers},
            "limit": r.limit,
            "trained_here": self.checkpoint is None,
        }

    @property
    def name(self) -> str:
        """The result's folder: readable, and different for different settings or data."""
        # "preset" decides the values; the digest keeps runs with other values apart.
        key = settings.digest(
            [self.values(), discover.label(self.method), list(self.seeds), self.built.digest]
        )[:8]
        return "-".join([*models.name_parts(self.recipe), key])


def plan(
    data: Path,
    method: str,
    suites: Sequence[str] = SUITES,
    preset_name: str = "tiny",
    overrides: Sequence[str] = (),
    seeds: int = 1,
    first_seed: int = 0,
    device: str = "auto",
    limit: int | None = None,
    checkpoint: Path | None = None,
) -> Plan:
    """Check the options of a run before anything is read or trained.

    `overrides` are "training.epochs=3", "method.temperature=0.1", "zero-shot.split=all". Raises UsageError,
    UnknownName, DatasetError or CheckpointError, each with the next step.
    """
    name = discover.canonical("method", method)
    chosen = tuple(dict.fromkeys(discover.canonical("suite", s) for s in suites if s.strip()))
    if not chosen:
        raise UsageError(f"no suite given: choose from {', '.join(discover.names('suite'))}")
    if not 1 <= seeds <= MAX_SEEDS or first_seed < 0:
        raise UsageError(f"--seeds {seeds} --seed {first_seed}: give 1 to {MAX_SEEDS} seeds, from 0 up")
    if limit is not None and limit < 4:
        raise UsageError(f"--limit {limit}: four rows at least are needed to train and score")
    pick_device(device)
    sizes = preset(preset_name)
    built = Built.open(data)
    check_columns(built)
    options, rest = suite_options(overrides)
    numbers = tuple(range(first_seed, first_seed + seeds))
    loaded = None if checkpoint is None else _loaded(checkpoint, name, rest, seeds)
    if loaded is not None:
        config, sizes, numbers = loaded.config, loaded.preset, (loaded.seed,)
    else:
        config, sizes = configured(discover.load("method", name), sizes, rest)
    own = _own_file(discover.load("method", name))
    recipe = Recipe(built, name, config, preset_name.strip().casefold(), sizes, limit, own)
    labels = tuple(suite.replace("_", "-") for suite in chosen)
    return Plan(recipe, labels, options, numbers, device, loaded, materials.providers(built))


def suite_options(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Each suite's Options by name, with "zero-shot.split=all" applied; and the overrides that are no suite's."""
    rest: list[str] = []
    mine: dict[str, list[str]] = {name: [] for name in discover.names("suite")}
    for word in overrides:
        head, dot, tail = word.partition(".")
        key = head.strip().casefold().replace("-", "_")
        if dot and key in mine:
            mine[key].append(tail)
        else:
            rest.append(word)
    options = {
        name.replace("_", "-"): settings.override(
            discover.load("suite", name).Options(), words, f"{name.replace('_', '-')}."
        )
        for name, words in mine.items()
    }
    return options, rest


def run(plan: Plan, out: Path, quiet: bool = False, shelf: Shelf | None = None) -> tuple[Result, Path]:
    """Train what is not there yet (unless a checkpoint was given), embed, score, and write all below `out`/<name>.

    result.json comes last: a folder without one is an unfinished run. Models are kept in `out`/models.
    """
    started = time.perf_counter()
    folder = out / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / results.FILE).unlink(missing_ok=True)
    shelf = Shelf(embedded.default_folder()) if shelf is None else shelf
    device = pick_device(plan.device)
    source = provenance.collect(device.type, _accelerator_name(device))
    seconds = {"train": 0.0, "embed_and_score": 0.0}
    per_seed: list[dict[tuple[str, str], tuple[Outcome, ...]]] = []
    scored_models: list[dict[str, Any]] = []
    for seed in plan.seeds:
        at = time.perf_counter()
        ready, known = plan.checkpoint, True
        if ready is None:
            ready, known = models.obtain(plan.recipe, seed, out, source, plan.device, quiet)
        seconds["train"] += 0.0 if known else time.perf_counter() - at
        at = time.perf_counter()
        with cpu_threads(plan.recipe.preset.training.cpu_threads):
            per_seed.append(_scored(plan, ready, device, shelf, quiet))
        seconds["embed_and_score"] += time.perf_counter() - at
        scored_models.append(_about_model(ready, seed))
    shutil.rmtree(folder / "predictions", ignore_errors=True)
    figures = _figures(plan, per_seed, folder)
    if not figures:
        raise UsageError(
            f"{plan.method} defines no pair that {', '.join(plan.suites)} asks for: choose another --suite"
        )
    seconds["total"] = time.perf_counter() - started
    result = Result(
        schema_version=RESULT_SCHEMA_VERSION,
        demo=plan.built.demo,
        method=discover.label(plan.method),
        preset=plan.recipe.preset_name,
        seeds=plan.seeds,
        settings=plan.values(),
        dataset=materials.about(plan.built) | {"trained_on": _trained_on(plan)},
        provenance=source,
        figures=figures,
        seconds={k: round(v, 2) for k, v in seconds.items()},
        models=tuple(scored_models),
    )
    draw_all(result, folder / "figures")
    results.write_result(folder, result)
    return result, folder


def describe(plan: Plan) -> dict[str, Any]:
    """What `run` would do, in numbers; reads captions, trains nothing."""
    recipe = plan.recipe
    sizes, training = recipe.preset, recipe.preset.training
    rows = materials.rows_of(plan.built, "train", recipe.limit)
    tokens = train_tokenizer(captions(rows), sizes.encoders.text.vocabulary).get_vocab_size()
    with torch.device("meta"):
        network = Network(sizes, discover.load("method", plan.method), recipe.config, tokens)
    cache = len(rows) * network.preprocessor.bytes_per_row()
    steps = steps_per_epoch(len(rows), training.batch_size)
    return {
        "method": plan.method,
        "preset": recipe.preset_name,
        "weights": f"{sizes.encoders.weights}: random, nothing is downloaded",
        "data": f"{plan.built.root}{' (demo)' if plan.built.demo else ''}",
        "train rows": len(rows),
        "test rows": len(materials.rows_of(plan.built, "test", recipe.limit)),
        "parameters": ", ".join(f"{k} {n:,}" for k, n in network.parameters_by_part().items()),
        "image": f"{sizes.front_end.image_size} px",
        "audio": f"{sizes.front_end.bands} bands x {sizes.front_end.frames} frames",
        "batch": training.batch_size,
        "epochs": training.epochs,
        "steps": f"{steps * training.epochs:,} a seed ({steps} an epoch)",
        "seeds": ", ".join(map(str, plan.seeds)),
        "device": str(pick_device(plan.device)),
        "features": f"{human_bytes(cache)}, "
        + ("kept in memory" if cache <= training.cache_gib * 2**30 else "decoded for every batch"),
        "suites": ", ".join(plan.suites),
        "evaluation sets": ", ".join(p.subject.name for p in plan.providers),
        "result": plan.name,
    }


def _own_file(module: ModuleType) -> Mapping[str, str] | None:
    """Name and digest of the user's own method; where it lies is nobody else's business."""
    origin = discover.origin(module)
    return None if origin is None else origin | {"path": discover.label(origin["path"])}


def _loaded(folder: Path, method: str, overrides: Sequence[str], seeds: int) -> Checkpoint:
    if overrides or seeds != 1:
        raise UsageError(
            "--checkpoint is one trained model: leave out --seeds, --set, --epochs, --batch-size"
        )
    return checkpoints.load(folder, method)


def _scored(
    plan: Plan, ready: Checkpoint, device: torch.device, shelf: Shelf, quiet: bool
) -> dict[tuple[str, str], tuple[Outcome, ...]]:
    """(suite, label of the items) -> its tasks, for one model; each request is embedded once."""
    embedder = Embedder(ready, device)
    scorer = materials.scorer(embedder)
    held: dict[Request, Material] = {}
    found: dict[tuple[str, str], tuple[Outcome, ...]] = {}
    for name in plan.suites:
        suite, options = discover.load("suite", name), plan.options[name]
        for provider in plan.providers:
            asked = suite.requests(provider.subject, options)
            for request in asked:
                if request not in held:
                    held[request] = materials.material(
                        provider, request, embedder, shelf, plan.recipe.limit, quiet
                    )
            if asked:
                tasks = suite.score([held[request] for request in asked], scorer, options)
                found[name, held[asked[0]].evalset] = tuple(tasks)
            # Clean embeddings serve the next suite; the many corrupted or swapped ones would fill the memory.
            held = {r: material for r, material in held.items() if not (r.corruption or r.pairing)}
    return found


def _figures(
    plan: Plan, per_seed: Sequence[Mapping[tuple[str, str], tuple[Outcome, ...]]], folder: Path
) -> tuple[Figure, ...]:
    figures: list[Figure] = []
    for (suite, evalset), tasks in per_seed[0].items():
        for i, task in enumerate(tasks):
            runs = [seed[suite, evalset][i] for seed in per_seed]
            figures += figures_of(
                suite,
                evalset,
                runs,
                plan.seeds,
                plan.built.demo,
                folder,
                _ceiling(plan.built, suite, task.query),
                _extension(plan.method, suite, task.query),
            )
    return tuple(figures)


def _about_model(ready: Checkpoint, seed: int) -> dict[str, Any]:
    return {"seed": seed, "weights_sha256": ready.weights_sha256}


def _ceiling(built: Built, suite: str, query: str) -> float | None:
    """The demo's known best accuracy; nothing is known of retrieval."""
    known = built.manifest.get("source", {}).get("facts", {}).get("ceilings", {})
    return float(known[query]) if suite == "zero-shot" and query in known else None


def _extension(method: str, suite: str, query: str) -> str:
    """What the method says of its 2->1 scores; nothing where the suite asks a classifier of its own instead."""
    if JOINT not in query or getattr(discover.load("suite", suite), "OWN_CLASSIFIER", False):
        return ""
    return str(getattr(discover.load("method", method), "EXTENSIONS", ""))


def _trained_on(plan: Plan) -> str:
    made_from = plan.checkpoint.dataset if plan.checkpoint is not None else materials.about(plan.built)
    return str(made_from.get("digest", ""))


def _accelerator_name(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None

"""Dataset x suites x method x seeds -> a Result with its files: the one place where the stages meet."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from birdmml import checkpoint as checkpoints
from birdmml import discover, materials, provenance, results, settings
from birdmml.checkpoint import Checkpoint
from birdmml.embed import Embedder
from birdmml.errors import UsageError
from birdmml.files import human_bytes
from birdmml.load import Built
from birdmml.metrics import summarise
from birdmml.nn.feed import steps_per_epoch
from birdmml.nn.network import Network
from birdmml.nn.presets import Preset, preset
from birdmml.nn.scores import JOINT
from birdmml.nn.text import train_tokenizer
from birdmml.picture import draw
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result
from birdmml.suites._material import Material, Request, Scored
from birdmml.train import cpu_threads, pick_device, train

MAX_SEEDS = 100


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run, checked; made by `plan`."""

    built: Built
    method: str
    suites: tuple[str, ...]
    preset_name: str
    preset: Preset
    config: Any
    seeds: tuple[int, ...]
    device: str = "auto"
    limit: int | None = None
    checkpoint: Checkpoint | None = None
    evalsets: tuple[str, ...] = field(default=())
    method_file: Mapping[str, str] | None = None

    def values(self) -> dict[str, Any]:
        """The settings that a result records, as JSON values."""
        return {
            "preset": settings.to_dict(self.preset),
            "method": settings.to_dict(self.config),
            **({} if self.method_file is None else {"method_file": dict(self.method_file)}),
            "weights": self.preset.encoders.weights,
            "suites": list(self.suites),
            "limit": self.limit,
            "trained_here": self.checkpoint is None,
        }

    @property
    def name(self) -> str:
        """The result's folder: readable, and different for different settings or data."""
        # "preset" decides the values; the digest keeps runs with other values apart.
        key = settings.digest(
            [self.values(), discover.label(self.method), list(self.seeds), self.built.digest]
        )[:8]
        marks = ["demo"] if self.built.demo else []
        marks += ["limited"] if self.limit else []
        marks += ["reference"] if getattr(self.config, "variant", "") == "reference" else []
        method = Path(self.method).stem if discover.is_file("method", self.method) else self.method
        return "-".join([method.replace("_", "-"), self.preset_name, *marks, key])


def plan(
    data: Path,
    method: str,
    suites: Sequence[str] = ("retrieval", "zero-shot"),
    preset_name: str = "tiny",
    overrides: Sequence[str] = (),
    seeds: int = 1,
    first_seed: int = 0,
    device: str = "auto",
    limit: int | None = None,
    checkpoint: Path | None = None,
) -> Plan:
    """Check the options of a run before anything is read or trained.

    `overrides` are "training.epochs=3", "method.temperature=0.1". Raises UsageError, UnknownName,
    DatasetError or CheckpointError, each with the next step.
    """
    name = discover.canonical("method", method)
    chosen = tuple(discover.canonical("suite", s) for s in suites if s.strip())
    if not chosen:
        raise UsageError(f"no suite given: choose from {', '.join(discover.names('suite'))}")
    if not 1 <= seeds <= MAX_SEEDS or first_seed < 0:
        raise UsageError(f"--seeds {seeds} --seed {first_seed}: give 1 to {MAX_SEEDS} seeds, from 0 up")
    if limit is not None and limit < 4:
        raise UsageError(f"--limit {limit}: four rows at least are needed to train and score")
    pick_device(device)
    sizes = preset(preset_name)
    built = Built.open(data)
    loaded = None if checkpoint is None else _loaded(checkpoint, name, overrides, seeds)
    numbers: tuple[int, ...]
    if loaded is not None:
        config, sizes, numbers = loaded.config, loaded.preset, (loaded.seed,)
    else:
        config, sizes = _configured(discover.load("method", name), sizes, overrides)
        numbers = tuple(range(first_seed, first_seed + seeds))
    there = tuple(e for e in discover.names("evaluation set") if (built.root / "evalsets" / e).is_dir())
    return Plan(
        built, name, tuple(dict.fromkeys(chosen)), preset_name.strip().casefold(), sizes, config, numbers,
        device, limit, loaded, there, _own_file(discover.load("method", name)),
    )  # fmt: skip


def run(plan: Plan, out: Path, quiet: bool = False) -> tuple[Result, Path]:
    """Train (unless a checkpoint was given), embed, score, and write everything below `out`/<name>.

    result.json comes last: a folder without one is an unfinished run.
    """
    started = time.perf_counter()
    folder = out / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / results.FILE).unlink(missing_ok=True)
    device = pick_device(plan.device)
    source = provenance.collect(device.type, _accelerator_name(device))
    seconds = {"train": 0.0, "embed_and_score": 0.0}
    per_seed: list[dict[tuple[str, str], tuple[Scored, ...]]] = []
    for seed in plan.seeds:
        at = time.perf_counter()
        ready = plan.checkpoint or _trained(
            plan, seed, folder / "checkpoints" / f"seed-{seed}", source, quiet
        )
        seconds["train"] += time.perf_counter() - at
        at = time.perf_counter()
        with cpu_threads(plan.preset.training.cpu_threads):
            per_seed.append(_scored(plan, ready, device, quiet))
        seconds["embed_and_score"] += time.perf_counter() - at
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
        preset=plan.preset_name,
        seeds=plan.seeds,
        settings=plan.values(),
        dataset=_about(plan.built) | {"trained_on": _trained_on(plan)},
        provenance=source,
        figures=figures,
        seconds={k: round(v, 2) for k, v in seconds.items()},
    )
    draw(result, folder / "figures" / "overview.png")
    results.write_result(folder, result)
    return result, folder


def describe(plan: Plan) -> dict[str, Any]:
    """What `run` would do, in numbers; reads captions, trains nothing."""
    sizes, training = plan.preset, plan.preset.training
    rows = materials.rows_of(plan.built, "train", plan.limit)
    tokens = train_tokenizer(rows.column("caption"), sizes.encoders.text.vocabulary).get_vocab_size()
    with torch.device("meta"):
        network = Network(sizes, discover.load("method", plan.method), plan.config, tokens)
    cache = len(rows) * network.preprocessor.bytes_per_row()
    steps = steps_per_epoch(len(rows), training.batch_size)
    return {
        "method": plan.method,
        "preset": plan.preset_name,
        "weights": f"{sizes.encoders.weights}: random, nothing is downloaded",
        "data": f"{plan.built.root}{' (demo)' if plan.built.demo else ''}",
        "train rows": len(rows),
        "test rows": len(materials.rows_of(plan.built, "test", plan.limit)),
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
        "suites": ", ".join(s.replace("_", "-") for s in plan.suites),
        "evaluation sets": ", ".join(("test split", *plan.evalsets)),
        "result": plan.name,
    }


def _own_file(module: ModuleType) -> Mapping[str, str] | None:
    """Name and digest of the user's own method; where it lies is nobody else's business."""
    origin = discover.origin(module)
    return None if origin is None else origin | {"path": discover.label(origin["path"])}


def _configured(module: ModuleType, sizes: Preset, overrides: Sequence[str]) -> tuple[Any, Preset]:
    mine = [o.removeprefix("method.") for o in overrides if o.startswith("method.")]
    sizes = settings.override(sizes, [o for o in overrides if not o.startswith("method.")])
    config = module.Config()
    if any(f.name == "dim" for f in dataclasses.fields(config)):
        config = dataclasses.replace(config, dim=sizes.dim)
    return settings.override(config, mine, "method."), sizes


def _loaded(folder: Path, method: str, overrides: Sequence[str], seeds: int) -> Checkpoint:
    if overrides or seeds != 1:
        raise UsageError(
            "--checkpoint is one trained model: leave out --seeds, --set, --epochs, --batch-size"
        )
    return checkpoints.load(folder, method)


def _trained(plan: Plan, seed: int, folder: Path, source: Mapping[str, Any], quiet: bool) -> Checkpoint:
    rows = materials.rows_of(plan.built, "train", plan.limit)
    done = train(rows, plan.method, plan.config, plan.preset, seed, plan.device, quiet)
    used, planned = done.network.method_file, plan.method_file
    if planned is not None and (used is None or used["sha256"] != planned["sha256"]):
        raise UsageError(f"{plan.method} was changed while it was used: run the same command again")
    training = {
        "seconds": round(done.seconds, 2),
        "rows_per_second": round(done.rows_per_second, 1),
        "history": [{k: round(v, 6) for k, v in epoch.items()} for epoch in done.history],
    }
    ready = Checkpoint(
        plan.method,
        plan.config,
        plan.preset,
        seed,
        done.network,
        done.tokenizer,
        _about(plan.built) | {"limit": plan.limit},
        training,
        source,
    )
    checkpoints.save(folder, ready)
    return ready


def _scored(
    plan: Plan, ready: Checkpoint, device: torch.device, quiet: bool
) -> dict[tuple[str, str], tuple[Scored, ...]]:
    """(suite, evaluation set) -> its tasks, for one model; each request is embedded once."""
    embedder = Embedder(ready, device)
    scorer = materials.scorer(embedder)
    embedded: dict[Request, Material] = {}
    found: dict[tuple[str, str], tuple[Scored, ...]] = {}
    for name in plan.suites:
        suite = discover.load("suite", name)
        for request in suite.requests(plan.evalsets):
            if request not in embedded:
                embedded[request] = materials.material(plan.built, request, embedder, plan.limit, quiet)
            material = embedded[request]
            found[name.replace("_", "-"), material.evalset] = suite.score(material, scorer)
    return found


def _figures(
    plan: Plan, per_seed: Sequence[Mapping[tuple[str, str], tuple[Scored, ...]]], folder: Path
) -> tuple[Figure, ...]:
    figures: list[Figure] = []
    for (suite, evalset), tasks in per_seed[0].items():
        for i, task in enumerate(tasks):
            runs = [seed[suite, evalset][i] for seed in per_seed]
            name = f"predictions/{suite}.{evalset}.{task.task.replace('->', '-to-')}.parquet"
            outcomes = _predictions(plan, runs)
            results.write_predictions(folder / name, outcomes)
            figures += _task_figures(plan, suite, evalset, task, outcomes, name)
    return tuple(figures)


def _task_figures(
    plan: Plan, suite: str, evalset: str, task: Scored, outcomes: results.Predictions, file: str
) -> list[Figure]:
    extensions = getattr(discover.load("method", plan.method), "EXTENSIONS", "")
    notes = [extensions] if JOINT in task.query else []
    notes += [f"{task.left_out} items lack a modality"] if task.left_out else []
    figures = []
    for metric in discover.load("suite", suite).METRICS:
        s = summarise(metric, outcomes.greater, outcomes.ties, outcomes.candidates)
        figures.append(
            Figure(
                suite=suite,
                evalset=evalset,
                task=task.task,
                metric=metric,
                **vars(s),
                ceiling=_ceiling(plan.built, suite, task.query),
                note="; ".join(filter(None, notes)),
                predictions=file,
            )
        )
    return figures


def _predictions(plan: Plan, runs: Sequence[Scored]) -> results.Predictions:
    return results.Predictions(
        plan.seeds,
        runs[0].candidates,
        runs[0].ids,
        runs[0].targets,
        tuple(r.predictions for r in runs),
        np.stack([r.greater for r in runs]),
        np.stack([r.ties for r in runs]),
        plan.built.demo,
    )


def _ceiling(built: Built, suite: str, query: str) -> float | None:
    """The demo's known best accuracy; nothing is known of retrieval."""
    known = built.manifest.get("source", {}).get("facts", {}).get("ceilings", {})
    return float(known[query]) if suite == "zero-shot" and query in known else None


def _about(built: Built) -> dict[str, Any]:
    return {
        "name": built.manifest.get("name", ""),
        "digest": built.digest,
        "demo": built.demo,
        "rows": {name: value["rows"] for name, value in built.manifest["splits"].items()},
    }


def _trained_on(plan: Plan) -> str:
    made_from = plan.checkpoint.dataset if plan.checkpoint is not None else _about(plan.built)
    return str(made_from.get("digest", ""))


def _accelerator_name(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None

"""Dataset x suites x method x seeds -> a Result with its files: the one place where the stages meet."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch

from birdmml import discover, embedded, materials, models, passes, provenance
from birdmml.array_data import ArrayData
from birdmml.checkpoint import Checkpoint
from birdmml.embed import Embedder
from birdmml.embedded import Shelf
from birdmml.files import human_bytes
from birdmml.nn.feed import steps_per_epoch
from birdmml.nn.network import Network
from birdmml.nn.read import about, captions, rows_of
from birdmml.nn.scores import JOINT
from birdmml.nn.text import train_tokenizer
from birdmml.passes import Found
from birdmml.plans import SUITES, Plan, plan
from birdmml.record import opened, record
from birdmml.schema import RESULT_SCHEMA_VERSION, Result
from birdmml.train import cpu_threads
from birdmml.training.machine import pick_device

__all__ = ["SUITES", "Plan", "describe", "plan", "run"]


def run(plan: Plan, out: Path, quiet: bool = False, shelf: Shelf | None = None) -> tuple[Result, Path]:
    """Train what is not there yet (unless a checkpoint was given), embed, score, and write all below `out`/<name>.

    result.json comes last: a folder without one is an unfinished run. Models are kept in `out`/models.
    """
    started = time.perf_counter()
    folder = opened(out / plan.name)
    shelf = Shelf(embedded.default_folder()) if shelf is None else shelf
    device = pick_device(plan.device)
    source = provenance.collect(device.type, _accelerator_name(device))
    seconds = {"train": 0.0, "embed_and_score": 0.0}
    per_seed: list[Found] = []
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
        scored_models.append(_told(ready, seed))
    seconds["total"] = time.perf_counter() - started
    head = Result(
        schema_version=RESULT_SCHEMA_VERSION,
        demo=plan.demo,
        method=discover.label(plan.method),
        preset=plan.recipe.preset_name,
        seeds=plan.seeds,
        settings=plan.values(),
        dataset=about(plan.built) | {"trained_on": _trained_on(plan)},
        provenance=source,
        figures=(),
        seconds={k: round(v, 2) for k, v in seconds.items()},
        models=tuple(scored_models),
    )

    def remarks(suite: str, evalset: str, query: str) -> tuple[float | None, str]:
        return materials.ceiling(plan.built, suite, evalset, query), _extension(plan.method, suite, query)

    return record(folder, head, per_seed, remarks), folder


def describe(plan: Plan) -> dict[str, Any]:
    """What `run` would do, in numbers; reads captions, trains nothing."""
    recipe = plan.recipe
    sizes, training = recipe.preset, recipe.preset.training
    rows = rows_of(plan.built, "train", recipe.limit)
    tokens = train_tokenizer(captions(rows), sizes.encoders.text.vocabulary).get_vocab_size()
    with torch.device("meta"):
        network = Network(sizes, discover.load("method", plan.method), recipe.config, tokens)
    cache = len(rows) * network.preprocessor.bytes_per_row()
    steps = steps_per_epoch(len(rows), training.batch_size)
    facts = {
        "method": plan.method,
        "preset": recipe.preset_name,
        "weights": f"{sizes.encoders.weights}: random, nothing is downloaded",
        "data": f"{plan.built.root}{' (demo)' if plan.built.demo else ''}",
        "train rows": len(rows),
        "test rows": len(rows_of(plan.built, "test", recipe.limit)),
        "parameters": ", ".join(f"{k} {n:,}" for k, n in network.parameters_by_part().items()),
        **_inputs(plan),
        "batch": training.batch_size,
        "epochs": training.epochs,
        "steps": f"{steps * training.epochs:,} a seed ({steps} an epoch)",
        "seeds": ", ".join(map(str, plan.seeds)),
        "device": str(pick_device(plan.device)),
        "features": f"{human_bytes(cache)}, "
        + ("kept in memory" if cache <= training.cache_gib * 2**30 else "decoded for every batch"),
        "suites": ", ".join(one.name for one in plan.passes),
        "evaluation sets": ", ".join(dict.fromkeys(p.subject.name for p in plan.providers)),
        "result": plan.name,
    }
    if plan.protocol is not None:
        facts["protocol"] = f"{plan.protocol['name']} {plan.protocol['digest'][:8]}"
        facts["departures"] = "; ".join(plan.protocol["departures"]) or "none"
    return facts


def _inputs(plan: Plan) -> dict[str, str]:
    """What reaches the encoders; of a set of arrays the settings that follow from it."""
    if isinstance(plan.built, ArrayData):
        return {"sizes from the data": ", ".join(f"{k}={v}" for k, v in plan.built.sizes().items())}
    front = plan.recipe.preset.front_end
    return {"image": f"{front.image_size} px", "audio": f"{front.bands} bands x {front.frames} frames"}


def _scored(plan: Plan, ready: Checkpoint, device: torch.device, shelf: Shelf, quiet: bool) -> Found:
    """(suite, label of the items) -> its tasks, for one model; each request is embedded once."""
    embedder, limit = Embedder(ready, device), plan.recipe.limit
    return passes.score(
        plan.passes,
        plan.providers,
        lambda provider, request: materials.material(provider, request, embedder, shelf, limit, quiet),
        materials.scorer(embedder),
    )


def _told(ready: Checkpoint, seed: int) -> dict[str, Any]:
    """What a result says of a model: its weights, and where it is known, the loss of each epoch of its training."""
    told = ready.training.get("history")
    epochs = told if isinstance(told, list) else []  # The file may be a stranger's.
    history = [epoch.get("loss") if isinstance(epoch, dict) else None for epoch in epochs]
    known = all(isinstance(loss, int | float) and math.isfinite(loss) for loss in history)
    about: dict[str, Any] = {"seed": seed, "weights_sha256": ready.weights_sha256}
    return about | ({"loss_by_epoch": history} if history and known else {})


def _extension(method: str, suite: str, query: str) -> str:
    """What the method says of its 2->1 scores; nothing where the suite asks a classifier of its own instead."""
    if JOINT not in query or getattr(discover.load("suite", suite), "OWN_CLASSIFIER", False):
        return ""
    return str(getattr(discover.load("method", method), "EXTENSIONS", ""))


def _trained_on(plan: Plan) -> str:
    made_from = plan.checkpoint.dataset if plan.checkpoint is not None else about(plan.built)
    return str(made_from.get("digest", ""))


def _accelerator_name(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None

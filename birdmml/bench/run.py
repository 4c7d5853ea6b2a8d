"""Dataset x suites x method x seeds -> a Result with its files: the one place where the stages meet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from birdmml.bench import embed, subjects
from birdmml.bench import score as bench_score
from birdmml.bench.embed import Embedder, EmbeddingCache
from birdmml.bench.plan import BenchPlan
from birdmml.core import discover, provenance
from birdmml.core.files import human_bytes
from birdmml.errors import ResultError
from birdmml.models import recipe
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.feed import steps_per_epoch
from birdmml.models.network import Network
from birdmml.models.read import ArrayData, captions, rows_of
from birdmml.models.scores import JOINT
from birdmml.models.text import train_tokenizer
from birdmml.models.train import cpu_threads
from birdmml.results.result import FILE, Run, SeedScores, read_result
from birdmml.schema import Result


def run(plan: BenchPlan, out: Path, quiet: bool = False, cache: EmbeddingCache | None = None) -> tuple[Result, Path]:
    """Train what is not there yet (unless a checkpoint was given), embed, score, and write all below `out`/<name>.

    Models are kept in `out`/models, embeddings in `cache` (None: the user's own).
    """
    cache = EmbeddingCache(embed.default_folder()) if cache is None else cache
    device = torch.device(plan.device)
    origin = plan.recipe.data if plan.checkpoint is None else plan.checkpoint.dataset
    job = Run(
        folder=out / plan.name,
        method=plan.recipe.label,
        preset=plan.recipe.preset_name,
        settings=plan.values,
        dataset=plan.recipe.data | {"trained_on": str(origin.get("digest", ""))},
        demo=plan.demo,
        seeds=plan.seeds,
        provenance=provenance.collect(
            plan.device, torch.cuda.get_device_name(device) if plan.device == "cuda" else None
        ),
    )

    def score(seed: int) -> SeedScores:
        before = time.perf_counter()
        ready, trained_before = plan.checkpoint, True
        if ready is None:
            ready, trained_before = recipe.obtain(plan.recipe, seed, out, job.provenance, plan.device, quiet)
        train_seconds = 0.0 if trained_before else time.perf_counter() - before
        embedder = Embedder(ready, device)
        with cpu_threads(plan.recipe.preset.training.cpu_threads):
            outcomes = bench_score.score(
                plan.passes,
                plan.providers,
                lambda provider, request: subjects.material(
                    provider, request, embedder, cache, plan.recipe.limit, quiet
                ),
                subjects.scorer(embedder),
            )
        return SeedScores(outcomes, _model_record(ready, seed), train_seconds)

    def remarks(suite: str, evalset: str, query: str) -> tuple[float | None, str]:
        return subjects.ceiling(plan.built, suite, evalset, query), _extension(plan.method, suite, query)

    return job.carry_out(score, remarks), job.folder


def describe(plan: BenchPlan) -> dict[str, Any]:
    """What `run` would do, in numbers; reads captions, trains nothing."""
    recipe = plan.recipe
    sizes, training = recipe.preset, recipe.preset.training
    rows = rows_of(plan.built, "train", recipe.limit)
    tokens = train_tokenizer(captions(rows), sizes.encoders.text.vocabulary).get_vocab_size()
    with torch.device("meta"):  # Shapes alone: the weights take no memory.
        network = Network(sizes, discover.load("method", plan.method), recipe.config, tokens)
    memory = len(rows) * network.preprocessor.bytes_per_row()
    steps = steps_per_epoch(len(rows), training.batch_size)
    if isinstance(plan.built, ArrayData):
        inputs = {"sizes from the data": ", ".join(f"{k}={v}" for k, v in plan.built.sizes().items())}
    else:
        front = sizes.front_end
        inputs = {"image": f"{front.image_size} px", "audio": f"{front.bands} bands x {front.frames} frames"}
    facts = {
        "method": plan.method,
        "preset": recipe.preset_name,
        "weights": f"{sizes.encoders.weights}: random, nothing is downloaded",
        "data": f"{plan.built.root}{' (demo)' if plan.built.demo else ''}",
        "train rows": len(rows),
        "test rows": len(rows_of(plan.built, "test", recipe.limit)),
        "parameters": ", ".join(f"{k} {n:,}" for k, n in network.parameters_by_part().items()),
        **inputs,
        "batch": training.batch_size,
        "epochs": training.epochs,
        "steps": f"{steps * training.epochs:,} a seed ({steps} an epoch)",
        "seeds": ", ".join(map(str, plan.seeds)),
        "device": plan.device,
        "features": f"{human_bytes(memory)}, "
        + ("kept in memory" if memory <= training.cache_gib * 2**30 else "decoded for every batch"),
        "suites": ", ".join(one.name for one in plan.passes),
        "evaluation sets": ", ".join(dict.fromkeys(p.subject.name for p in plan.providers)),
        "result": plan.name,
    }
    if plan.protocol is not None:
        facts["protocol"] = f"{plan.protocol['name']} {plan.protocol['digest'][:8]}"
        facts["departures"] = "; ".join(plan.protocol["departures"]) or "none"
    return facts


def _model_record(ready: Checkpoint, seed: int) -> dict[str, Any]:
    """What a result says of a model: its weights, and the loss of each epoch of its training where it has one."""
    record: dict[str, Any] = {"seed": seed, "weights_sha256": ready.weights_sha256}
    epochs = ready.training.get("history")  # The file may be a stranger's.
    if not isinstance(epochs, list) or not epochs:
        return record
    losses = [epoch.get("loss") if isinstance(epoch, dict) else None for epoch in epochs]
    if all(isinstance(loss, int | float) and math.isfinite(loss) for loss in losses):
        record["loss_by_epoch"] = losses
    return record


def _extension(method: str, suite: str, query: str) -> str:
    """What the method says of its 2->1 scores; nothing where the suite asks a classifier of its own instead."""
    if JOINT not in query or getattr(discover.load("suite", suite), "OWN_CLASSIFIER", False):
        return ""
    return str(getattr(discover.load("method", method), "EXTENSIONS", ""))


@dataclass(frozen=True)
class Ended:
    """How one method ended: with a result in `folder`, made now or `earlier`, or with a `failure` in words."""

    method: str
    folder: Path
    result: Result | None = None
    earlier: bool = False
    failure: str = ""


def run_all(
    plans: Sequence[BenchPlan],
    out: Path,
    again: bool = False,
    quiet: bool = False,
    report: Callable[[Ended], object] = lambda ended: None,
    read: Callable[[Path], Result] = read_result,
) -> tuple[Ended, ...]:
    """Carry out each plan below `out`, and call `report` as each ends. `again` repeats what is there already.

    `read` gives the result of a folder, or raises ResultError where it is not to be believed: then it is made again.
    """
    endings = []
    for plan in plans:
        ended = None if again else finished(plan, out, read)
        endings.append(ended or _carried_out(plan, out, quiet))
        report(endings[-1])
    return tuple(endings)


def finished(plan: BenchPlan, out: Path, read: Callable[[Path], Result] = read_result) -> Ended | None:
    """The finished result of exactly this plan, made by exactly this code, or None."""
    folder = out / plan.name
    if not (folder / FILE).is_file():
        return None
    try:
        result = read(folder)
    except ResultError:
        return None  # Damaged or altered: made again, and replaced.
    same = result.provenance.get("code_digest") == provenance.figures_digest()
    return Ended(plan.recipe.label, folder, result, earlier=True) if same else None


def _carried_out(plan: BenchPlan, out: Path, quiet: bool) -> Ended:
    name = plan.recipe.label
    try:
        result, folder = run(plan, out, quiet)
    except Exception as e:  # noqa: BLE001  # a user's method may raise anything; the others must still run
        kind = "" if type(e).__module__ == "birdmml.errors" else f"{type(e).__name__}: "
        return Ended(name, out / plan.name, failure=" ".join(f"{kind}{e}".split()))
    return Ended(name, folder, result)

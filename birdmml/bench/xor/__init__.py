"""The XOR suite: every method on bits that only say something together, many small models trained as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from birdmml.bench.xor.fit import XorAnswers, answers, exact, fit
from birdmml.bench.xor.plan import XorDone, XorPlan, XorRun, XorSettings
from birdmml.core import discover, files, settings
from birdmml.core.pool import Pool
from birdmml.evalsets import xor
from birdmml.results import outcomes
from birdmml.results.metrics import summarise
from birdmml.results.result import FILE, Run, write_result
from birdmml.schema import Figure

METRIC = "accuracy"


def run(
    plan: XorPlan, out: Path, workers: int = 1, report: Callable[[XorDone], None] | None = None
) -> tuple[tuple[XorDone, ...], Path]:
    """Train and score everything below `out`/<name>; returns the runs in the plan's order, and the folder.

    Each run trains on one thread, `workers` of them side by side; their number changes no figure. Raises
    TrainingError where one diverges, BuildError where workers keep dying. The table and the picture come last.
    """
    from birdmml.bench.xor.report import draw, table

    started = time.perf_counter()
    folder = out / plan.name
    # Processes, not threads: torch's generator is global.
    with Pool(min(workers, len(plan.runs))) as pool:
        job = partial(one, plan.settings, folder)
        ordered = tuple(pool.run(job, plan.runs, lambda _, done: None if report is None else report(done)))
    seconds = time.perf_counter() - started
    files.write_text(folder / "xor.md", table(plan, ordered, seconds, workers))
    draw(plan, ordered, folder / "xor.png")
    return ordered, folder


def one(chosen: XorSettings, folder: Path, job: XorRun) -> XorDone:
    """Train, score and write one run; result.json comes last."""
    started, worked = time.perf_counter(), time.process_time()
    place = folder / job.folder
    (place / FILE).unlink(missing_ok=True)
    with _one_thread():
        fitted = fit(job, chosen)
        ranks = answers(fitted, chosen)
    scored = time.perf_counter()
    shares = exact(ranks, chosen)
    figures = [_figure(chosen, job, i, ranks, shares[:, i], place) for i in range(len(chosen.p))]
    now = time.perf_counter()
    seconds = {
        "train": fitted.seconds,
        "score": scored - started - fitted.seconds,
        "write": now - scored,
        "total": now - started,
        "cpu": time.process_time() - worked,
    }
    result = _run(chosen, job, place).result(figures, seconds)
    write_result(place, result)
    return XorDone(job, result, shares)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Small products: a second thread waits more than it works, and far more where cores are shared.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _figure(
    chosen: XorSettings, job: XorRun, at: int, ranks: XorAnswers, shares: NDArray[np.float64], folder: Path
) -> Figure:
    p = chosen.p[at]
    items = answered(chosen, at, ranks)
    file = f"predictions/xor.p-{p:g}.parquet"
    outcomes.write(folder / file, items)
    extension = getattr(discover.load("method", job.method), "EXTENSIONS", "")
    words = f"{100 * shares.mean():.2f} % exactly, over all ({', '.join(chosen.sources)}, i)"
    return Figure(
        suite="xor",
        evalset="xor",
        task=f"{chosen.query}->{xor.TARGET} p={p:g}",
        metric=METRIC,
        **vars(summarise(METRIC, items.greater, items.ties, items.candidates)),
        ceiling=xor.ceiling(p),
        note="; ".join(filter(None, (words, extension))),
        predictions=file,
    )


def answered(chosen: XorSettings, at: int, ranks: XorAnswers) -> outcomes.Predictions:
    """What each seed's model at the `at`-th p answers on the test set: the same items for every seed and method."""
    codes, switch = xor.cells(chosen.modalities)
    picked = xor.test_cells(chosen.p[at], chosen.modalities)
    names = np.array(xor.class_names())
    models = np.arange(len(chosen.seeds)) * len(chosen.p) + at
    values = [names[codes[name][picked]] for name in chosen.sources]
    ids = tuple(
        f"{n}:{'-'.join(row[:-1])}-{row[-1]}"
        for n, row in enumerate(zip(*values, switch[picked].astype(int).astype(str), strict=True))
    )
    return outcomes.Predictions(
        seeds=chosen.seeds,
        candidates=xor.CLASSES,
        ids=ids,
        targets=tuple(names[codes[xor.TARGET][picked]].tolist()),
        predictions=tuple(tuple(names[best].tolist()) for best in ranks.best[models][:, picked]),
        greater=ranks.greater[models][:, picked],
        ties=ranks.ties[models][:, picked],
    )


def _run(chosen: XorSettings, job: XorRun, folder: Path) -> Run:
    origin = discover.origin(discover.load("method", job.method))
    own = {} if origin is None else {"method_file": origin | {"path": discover.label(origin["path"])}}
    tests = [xor.test_cells(p, chosen.modalities).tolist() for p in chosen.p]
    return Run(
        folder=folder,
        method=discover.label(job.method),
        preset=f"{chosen.dim}-d" + (f", anchor {job.anchor}" if job.anchor else ""),
        settings={"xor": settings.to_dict(chosen), "method": settings.to_dict(job.config), **own},
        dataset={
            "name": f"xor of {chosen.modalities} x {xor.BITS} bits",
            "digest": files.digest(tests),
            "trained_on": "fresh samples",
        },
        demo=False,
        seeds=chosen.seeds,
    )

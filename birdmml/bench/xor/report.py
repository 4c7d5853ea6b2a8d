"""The table and the picture of an XOR run, beside the authors' values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from birdmml.bench.xor.fit import authors
from birdmml.bench.xor.plan import XorDone, XorPlan
from birdmml.evalsets import xor
from birdmml.results.pictures import INK, blank, legend, save, spread
from birdmml.results.tables import interval, markdown_table

COLOURS = {
    "confu": "#c0480f",
    "symile": "#1f6f8b",
    "gram": "#7a4fa3",
    "triangle": "#4b8b3b",
    "clip": INK,
    "tri_clip": "#8a8f98",
    "hub": "#c9a227",
    "siglip": "#d1749b",
}
OTHERS = ("#0b7a75", "#7d5a50", "#5c6bc0")
STYLES = {None: "-", "a": "--", "b": "-", "c": ":", "d": (0, (6, 2, 1, 2)), "all": "-."}
MARKS = {None: "o", "a": "<", "b": "o", "c": ">", "d": "^", "all": "s"}


def table(plan: XorPlan, done: Sequence[XorDone], seconds: float, workers: int) -> str:
    """Markdown: the recipe, exact accuracies, the test set's with their intervals, and the times."""
    sections = (
        _recipe(plan),
        _exact_section(plan, done),
        _test_section(plan, done),
        _time_section(done, seconds, workers),
        [f"Left out: {why}." for why in plan.left_out],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _recipe(plan: XorPlan) -> list[str]:
    s = plan.settings
    free = s.sources
    return [
        f"# XOR: {xor.TARGET} from {s.query}, {s.modalities} x {xor.BITS} bits, {s.dim}-d",
        "",
        f"{', '.join(free)}: {xor.BITS} fair bits each, i ~ Bernoulli(p) a sample, c = {' xor '.join(free)} where"
        f" i = 1, else a. Chance is 1/{xor.CLASSES} = {100 / xor.CLASSES:.1f} %. Percent, mean of"
        f" {_many(len(s.seeds), 'seed')}.",
        "",
        f"All methods: {s.steps:,} steps of {s.batch_size} fresh samples, AdamW, learning rate {s.learning_rate:g}"
        f" (to 0 over the last {100 * s.decay:g} % of the steps), weight decay {s.weight_decay:g}, a linear encoder a"
        " variable; the method's own defaults otherwise (Symile's l has its own rate).",
    ]


def _exact_section(plan: XorPlan, done: Sequence[XorDone]) -> list[str]:
    s = plan.settings
    return [
        "## Exact",
        "",
        f"Over all ({', '.join(s.sources)}, i), each with its probability: no sampling of test items; ± is the"
        " standard deviation over seeds. The last columns: the largest distance of the mean from the ceiling, and of"
        " any one model.",
        "",
        *markdown_table(
            [
                ["method", *(f"p = {p:g}" for p in s.p), "off by", "worst"],
                ["*ceiling*", *(f"{100 * xor.ceiling(p):.1f}" for p in s.p), "", ""],
                *([d.run.name, *_exact(d, s.p)] for d in done),
                *(
                    [f"*{name}, authors*", *(f"{100 * v[p]:.1f}" if p in v else "-" for p in s.p), "", ""]
                    for name, v in (authors().items() if s.modalities == 3 else ())
                ),
            ]
        ),
    ]


def _test_section(plan: XorPlan, done: Sequence[XorDone]) -> list[str]:
    return [
        "## Test set",
        "",
        f"{done[0].result.figures[0].n:,} items a p, the same for all methods and seeds, with bootstrap 95 %"
        " intervals over items; these figures follow from the predictions that were written.",
        "",
        *markdown_table(
            [
                ["method", *(f"p = {p:g}" for p in plan.settings.p)],
                *([d.run.name, *(interval(f.metric, f.value, f.low, f.high) for f in d.result.figures)] for d in done),
            ]
        ),
    ]


def _time_section(done: Sequence[XorDone], seconds: float, workers: int) -> list[str]:
    hardware = done[0].result.provenance["hardware"]
    cpu = sum(d.result.seconds["cpu"] for d in done)
    each = ", ".join(f"{d.run.name} {d.result.seconds['cpu']:.0f}" for d in done)
    return [
        "## Time",
        "",
        f"{seconds:.0f} s in all with {_many(workers, 'process')} of one thread ({hardware['cpu']},"
        f" {_many(hardware['cores'], 'core')}), {cpu:.0f} s of CPU time: {each}.",
    ]


def draw(plan: XorPlan, done: Sequence[XorDone], path: Path) -> None:
    """Write a PNG: measured accuracy over p with 95 % intervals, and the authors' figure at the same scale."""
    s = plan.settings
    canvas = blank(11, 5.4)
    published = s.modalities == 3
    axes = canvas.subplots(1, 2 if published else 1, sharey=True, squeeze=False)[0]
    spare = cycle(OTHERS)
    colours = {name: COLOURS.get(name) or next(spare) for name in dict.fromkeys(d.result.method for d in done)}
    for d in done:
        points = sorted(zip(s.p, d.result.figures, strict=True), key=lambda point: point[0])
        figures, anchor = [figure for _, figure in points], d.run.anchor
        axes[0].errorbar(
            sorted(s.p), [f.value for f in figures], yerr=spread(figures, scale=1), color=colours[d.result.method],
            ls=STYLES.get(anchor, "-"), marker=MARKS.get(anchor, "o"),
            ms=4, lw=1.4, elinewidth=0.8, capsize=1.5, label=d.run.name,
        )  # fmt: skip
    _frame(axes[0], f"measured: {s.dim}-d, {_many(len(s.seeds), 'seed')}, 95 % intervals")
    if published:
        for name, values in authors().items():
            axes[1].plot(list(values), list(values.values()), color=COLOURS[name], marker="o", ms=4, lw=1.4, label=name)
        _frame(axes[1], "the authors' (read off their figure, ±0.005)")
    axes[0].set_ylabel(f"accuracy: {xor.TARGET} from {s.query.replace('+', ', ')}", color=INK)
    legend(canvas, axes[:1], "outside lower center", 6)
    canvas.suptitle(f"XOR, {s.modalities} x {xor.BITS} bits", x=0.01, ha="left", color=INK)
    save(canvas, path, dpi=120)


def _frame(axis: Any, title: str) -> None:
    axis.plot([0, 1], [xor.ceiling(0), 1], color=INK, lw=5, alpha=0.13, label="ceiling", zorder=0)
    axis.axhline(1 / xor.CLASSES, color=INK, lw=0.8, ls=(0, (1, 3)), label="chance")
    axis.set_title(title, loc="left", fontsize=10, color=INK)
    axis.set_xlabel("p: share of samples with i = 1", color=INK)
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(0, 1.03)
    axis.spines[["top", "right"]].set_visible(False)


def _exact(done: XorDone, p: Sequence[float]) -> list[str]:
    best = np.array([xor.ceiling(share) for share in p])
    mean, spread = done.exact.mean(axis=0), done.exact.std(axis=0, ddof=1) if len(done.exact) > 1 else None
    cells = [f"{100 * m:.1f}" for m in mean]
    if spread is not None:
        cells = [f"{cell} ± {100 * sd:.1f}" for cell, sd in zip(cells, spread, strict=True)]
    return [*cells, f"{100 * np.abs(mean - best).max():.1f}", f"{100 * np.abs(done.exact - best).max():.1f}"]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}{'es' if what.endswith('s') else 's'}"

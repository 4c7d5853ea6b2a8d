"""`birdmml bench --suite xor`: its options differ from those of a dataset's suites, so it is a command of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from birdmml.cli._options import command, flag, option
from birdmml.cli._result import facts
from birdmml.cli._show import print_either, writable, writing
from birdmml.core import settings
from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.bench.xor.plan import XorDone, XorPlan

NAME = "xor"
MAX_WORKERS = 64  # Each is a process with a torch of its own.


class OrXor(TyperCommand):
    """A command that hands over to the one below when asked for `--suite xor`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse `args` by this command's options, or by those of XOR."""
        if names_xor(args):
            app = typer.Typer(rich_markup_mode=None, add_completion=False)
            app.command("bench")(command(XorCommand))
            return typer.main.get_command(app).make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def names_xor(args: Sequence[str]) -> bool:
    """Whether the arguments name the XOR suite; raises UsageError where they name others beside it."""
    values = [word.partition("=")[2] for word in args if word.startswith("--suite=")]
    values += [value for word, value in zip(args, args[1:], strict=False) if word == "--suite"]
    suites = [name.strip().casefold() for text in values for name in text.split(",") if name.strip()]
    if NAME in suites and set(suites) != {NAME}:
        raise UsageError(f"--suite {','.join(suites)}: xor needs no dataset and runs alone, give it by itself")
    return NAME in suites


@dataclass(frozen=True, kw_only=True)
class XorCommand:
    """Train methods on bits of which only all variables together say something; draw accuracy over p.

    \b
    a, b: 5 fair bits each; c = a xor b with probability p, else a. Name b from a and c.
    birdmml bench --suite xor
    birdmml bench --suite xor --method confu --method symile --p 0,0.5,1
    birdmml bench --suite xor --modalities 4
    """

    suite: str = option(NAME, "xor: this suite.")
    method: list[str] = option([], "What to train and score; again for more. [default: every method]")
    seeds: int = option(5, "How many models a p.")
    seed: int = option(0, "The first seed.")
    p: str = option("0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1", "Shares of samples with i = 1, separated by commas.")
    modalities: int = option(3, "3, or 4: c then depends on three.")
    dim: int = option(16, "Width of the embeddings.")
    steps: int = option(1000, "Optimiser steps, the same for every method.")
    batch_size: int = option(128, "Samples a step.")
    learning_rate: float = option(5e-3, "The same for every method.")
    joint_anchor: bool = flag("--joint-anchor", "GRAM and TRIANGLE with all anchors at once, too.")
    workers: int | None = option(None, "Processes of one thread each. [default: a core each]")
    out: Path = option(Path("results"), "Where results go.")
    dry_run: bool = option(False, "Say what would be trained; write nothing.")
    as_json: bool = flag("--json", "Print the results as JSON.")

    def _run(self) -> None:
        from birdmml.bench.xor.plan import MAX_SEEDS, XorSettings, plan

        seeds, seed, workers = self.seeds, self.seed, self.workers
        if not 1 <= seeds <= MAX_SEEDS or seed < 0:
            raise UsageError(f"--seeds {seeds} --seed {seed}: give 1 to {MAX_SEEDS} seeds, from 0 up")
        if workers is not None and not 1 <= workers <= MAX_WORKERS:
            raise UsageError(f"--workers {workers}: give 1 to {MAX_WORKERS}")
        try:
            shares = tuple(float(word) for word in self.p.split(",") if word.strip())
        except ValueError as e:
            raise UsageError(f"--p {self.p}: give numbers from 0 to 1, for example 0,0.5,1") from e
        chosen = XorSettings(
            shares,
            tuple(range(seed, seed + seeds)),
            self.modalities,
            self.dim,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )
        series = plan(self.method, chosen, self.joint_anchor)
        # The cores that this process may use: in a container often fewer than the machine has.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        hands = min(workers or cores, len(series.runs))
        if self.dry_run:
            about = _about(series, hands)
            print_either(self.as_json, about, [facts(about)])
            return
        writable(self.out)
        from birdmml.bench.xor import run

        numbers, total = count(1), len(series.runs)

        def report(done: XorDone) -> None:
            words = f"{done.run.name}, {done.result.seconds['total']:.0f} s"
            typer.echo(f"{next(numbers)}/{total}  {words}", err=True)

        with writing(self.out, f"finished runs are in {self.out / series.name}; the same command starts anew"):
            done, folder = run(series, self.out, hands, report)
        results = [settings.to_dict(d.result) | {"folder": str(folder / d.run.folder)} for d in done]
        print_either(self.as_json, results, _lines(series, done, folder))


def _lines(plan: XorPlan, done: Sequence[XorDone], folder: Path) -> list[str]:
    from birdmml.evalsets.xor import ceiling

    width = max(len(d.run.name) for d in done)
    rows = [("p", [f"{p:g}" for p in plan.settings.p])]
    rows += [("ceiling", [f"{100 * ceiling(p):.1f}" for p in plan.settings.p])]
    rows += [(d.run.name, [f"{100 * f.value:.1f}" for f in d.result.figures]) for d in done]
    lines = [f"{name.ljust(width)}  " + " ".join(v.rjust(5) for v in values) for name, values in rows]
    first = done[0].result.figures[0]
    return [
        *lines,
        f"percent of {first.n:,} test items right, mean of {len(plan.settings.seeds)} seeds; chance is"
        f" {100 * first.chance:.1f}; intervals and exact values are in the table",
        *plan.left_out,
        f"table     {folder / 'xor.md'}",
        f"picture   {folder / 'xor.png'}",
        f"results   {folder}{os.sep}*{os.sep}result.json",
    ]


def _about(plan: XorPlan, workers: int) -> dict[str, object]:
    s = plan.settings
    about: dict[str, object] = {
        "runs": ", ".join(run.name.replace(", ", " ") for run in plan.runs),
        "p": ", ".join(f"{p:g}" for p in s.p),
        "seeds": ", ".join(map(str, s.seeds)),
        "models": f"{len(plan.runs) * len(s.p) * len(s.seeds):,}, {len(s.p) * len(s.seeds)} trained at a time",
        "variables": f"{', '.join(s.names)}; the task is {s.query} -> b",
        "embeddings": f"{s.dim}-d",
        "steps": f"{s.steps:,} of {s.batch_size} samples, learning rate {s.learning_rate:g}",
        "workers": workers,
        "result": plan.name,
    }
    return about | ({"left out": "; ".join(plan.left_out)} if plan.left_out else {})

"""`birdmml bench --suite xor`: its options differ from those of a dataset's suites, so it is a command of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from birdmml.errors import Interrupted, ResultError, UsageError

if TYPE_CHECKING:
    from birdmml.xor.plan import XorPlan
    from birdmml.xor.run import XorDone

NAME = "xor"
MAX_WORKERS = 64


class OrXor(TyperCommand):
    """A command that hands over to the one below when asked for `--suite xor`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse `args` by this command's options, or by those of XOR."""
        if asked(args):
            return _command().make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def asked(args: Sequence[str]) -> bool:
    """Whether the arguments name the XOR suite; raises UsageError where they name others beside it."""
    given = [word.partition("=")[2] for word in args if word.startswith("--suite=")]
    given += [value for word, value in zip(args, args[1:], strict=False) if word == "--suite"]
    suites = [name.strip().casefold() for text in given for name in text.split(",") if name.strip()]
    if NAME in suites and set(suites) != {NAME}:
        raise UsageError(
            f"--suite {','.join(suites)}: xor needs no dataset and runs alone, give it by itself"
        )
    return NAME in suites


def xor(
    suite: Annotated[str, typer.Option(help="xor: this suite.")] = NAME,
    method: Annotated[
        list[str] | None,
        typer.Option(help="What to train and score; again for more. [default: every method]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many models a p.")] = 5,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    p: Annotated[str, typer.Option(help="Shares of samples with i = 1, separated by commas.")] = (
        "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
    ),
    modalities: Annotated[int, typer.Option(help="3, or 4: c then depends on three.")] = 3,
    dim: Annotated[int, typer.Option(help="Width of the embeddings.")] = 16,
    steps: Annotated[int, typer.Option(help="Optimiser steps, the same for every method.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="The same for every method.")] = 5e-3,
    joint_anchor: Annotated[
        bool, typer.Option("--joint-anchor", help="GRAM and TRIANGLE with all anchors at once, too.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes of one thread each. [default: a core each]")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("results"),
    dry_run: Annotated[bool, typer.Option(help="Say what would be trained; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train methods on bits of which only all variables together say something; draw accuracy over p.

    \b
    a, b: 5 fair bits each; c = a xor b with probability p, else a. Name b from a and c.
    birdmml bench --suite xor
    birdmml bench --suite xor --method confu --method symile --p 0,0.5,1
    birdmml bench --suite xor --modalities 4
    """
    del suite
    from birdmml.cli.bench import facts, writable
    from birdmml.xor.plan import MAX_SEEDS, XorSettings, plan

    if not 1 <= seeds <= MAX_SEEDS or seed < 0:
        raise UsageError(f"--seeds {seeds} --seed {seed}: give 1 to {MAX_SEEDS} seeds, from 0 up")
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise UsageError(f"--workers {workers}: give 1 to {MAX_WORKERS}")
    chosen = XorSettings(
        _shares(p), tuple(range(seed, seed + seeds)), modalities, dim,
        steps=steps, batch_size=batch_size, learning_rate=learning_rate,
    )  # fmt: skip
    made = plan(method or (), chosen, joint_anchor)
    hands = min(workers or _cores(), len(made.runs))
    if dry_run:
        about = _about(made, hands)
        typer.echo(json.dumps(about, indent=2, ensure_ascii=False) if as_json else facts(about))
        return
    writable(out)
    _carry_out(made, out, hands, as_json)


def _carry_out(plan: XorPlan, out: Path, workers: int, as_json: bool) -> None:
    from birdmml import settings
    from birdmml.xor.run import run

    total, seen = len(plan.runs), 0

    def told(done: XorDone) -> None:
        nonlocal seen
        seen += 1
        typer.echo(f"{seen}/{total}  {done.run.name}, {done.result.seconds['total']:.0f} s", err=True)

    try:
        done, folder = run(plan, out, workers, told)
    except KeyboardInterrupt as e:
        raise Interrupted(
            f"interrupted: finished runs are in {out / plan.name}; the same command starts anew"
        ) from e
    except OSError as e:
        raise ResultError(
            f"{out}: the result cannot be written ({e.strerror or e}): free space, or choose another --out"
        ) from e
    if as_json:
        found = [settings.to_dict(d.result) | {"folder": str(folder / d.run.folder)} for d in done]
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    typer.echo("\n".join(_lines(plan, done, folder)))


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


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError as e:
        raise UsageError(f"--p {text}: give numbers from 0 to 1, for example 0,0.5,1") from e


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _command() -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command("bench")(xor)
    return typer.main.get_command(app)

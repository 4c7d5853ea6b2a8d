"""`birdmml bench`: train a method, or take a trained one, and score it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdmml.cli.xor import OrXor
from birdmml.errors import DatasetError, Interrupted, ResultError, UsageError
from birdmml.schema import PLAIN_METRICS

if TYPE_CHECKING:
    from birdmml.evaluate import Plan
    from birdmml.schema import Figure, Result

HEADLINE = ("accuracy", "recall@10", "swap drop", "removal drop", "Shapley value", "fused gain")
FEW = 30


def bench(
    method: Annotated[
        str | None, typer.Option(help="What to train and score; see `birdmml list`. [default: confu]")
    ] = None,
    data: Annotated[Path, typer.Option(help="A dataset that `birdmml build` made.")] = Path("data"),
    suite: Annotated[str, typer.Option(help="What to measure, separated by commas.")] = "retrieval,zero-shot",
    preset: Annotated[str, typer.Option(help="Sizes: tiny, small or paper.")] = "tiny",
    seeds: Annotated[int, typer.Option(help="How many models to train.")] = 1,
    seed: Annotated[int, typer.Option(help="The first model's seed.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[Path, typer.Option(help="Where results go, a folder each.")] = Path("results"),
    checkpoint: Annotated[Path | None, typer.Option(help="Score this trained model instead.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most N rows a split; marked as limited.")] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting: training.epochs=3, method.temperature=0.1."),
    ] = None,
    every_metric: Annotated[bool, typer.Option("--all", help="Print every metric.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Say what would be trained and scored; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a method on a built dataset, score it, and write results that anyone can check.

    \b
    birdmml bench --method confu
    birdmml bench --method tri-clip --seeds 3 --data ./data
    birdmml bench --checkpoint ./model
    birdmml bench --suite xor --help   needs no dataset; has options of its own
    """
    needs_data(data)
    from birdmml import settings
    from birdmml.evaluate import describe, plan, run

    if checkpoint is not None:
        from birdmml import checkpoint as checkpoints
        from birdmml.training.state import resolve

        checkpoint = resolve(checkpoint)
        method = method or checkpoints.load(checkpoint).method
    overrides = list(assign or [])
    overrides += [f"training.epochs={epochs}"] if epochs is not None else []
    overrides += [f"training.batch_size={batch_size}"] if batch_size is not None else []
    made = plan(
        data, method or "confu", suite.split(","), preset, overrides, seeds, seed, device, limit, checkpoint
    )
    if dry_run:
        about = describe(made)
        typer.echo(json.dumps(about, indent=2, ensure_ascii=False) if as_json else facts(about))
        return
    writable(out)
    if not as_json:
        typer.echo("\n".join(_opening(made)))
    try:
        result, folder = run(made, out, quiet=as_json)
    except KeyboardInterrupt as e:
        raise Interrupted(f"interrupted: no result was written to {out}; run the same command again") from e
    except OSError as e:
        raise ResultError(
            f"{out}: the result cannot be written ({e.strerror or e}): free space, or choose another --out"
        ) from e
    if as_json:
        typer.echo(
            json.dumps(settings.to_dict(result) | {"folder": str(folder)}, indent=2, ensure_ascii=False)
        )
        return
    typer.echo(_table(result, every_metric))
    typer.echo("\n".join(_closing(result, folder, every_metric)))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=OrXor)(bench)


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
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise UsageError(f"--out {out} cannot be written ({e.strerror or e}): choose another folder") from e


def _opening(plan: Plan) -> list[str]:
    from birdmml.cli._show import DEMO_BANNER

    lines = [DEMO_BANNER] if plan.built.demo else []
    work = "scoring a checkpoint of" if plan.checkpoint else "training and scoring"
    seeds = ", ".join(map(str, plan.seeds))
    lines.append(
        f"{work} {plan.method}, preset {plan.recipe.preset_name}, seed {seeds}, on {plan.built.root}"
    )
    if plan.recipe.limit:
        lines.append(f"LIMITED to {plan.recipe.limit} rows a split: these figures compare with nothing else")
    return lines


def _closing(result: Result, folder: Path, every_metric: bool) -> list[str]:
    hidden = (
        [] if every_metric else dict.fromkeys(f.metric for f in result.figures if f.metric not in HEADLINE)
    )
    lines = [f"{', '.join(hidden)}: --all, or result.json"] if hidden else []
    lines += list(dict.fromkeys(f.note for f in result.figures if f.note))
    lines += _explained(result, every_metric)
    fewest = min(f.n for f in result.figures)
    if fewest < FEW:
        lines.append(f"only {fewest} items: intervals over so few are too narrow, build with more test rows")
    spent = result.seconds
    lines += [
        f"time      {spent['total']:.0f} s: training {spent['train']:.0f} s,"
        f" embedding and scoring {spent['embed_and_score']:.0f} s",
        f"result    {folder / 'result.json'}",
        f"items     {folder / 'predictions'}",
        f"picture   {folder / 'figures' / 'overview.png'}",
    ]
    models = folder.parent / "models"
    return [*lines, f"models    {models}"] if result.settings.get("trained_here") else lines


def _explained(result: Result, every_metric: bool) -> list[str]:
    """What each figure shown says and does not, of suites that have words for theirs."""
    from birdmml import discover

    words = {s: getattr(discover.load("suite", s), "WORDS", {}) for s in {f.suite for f in result.figures}}
    shown = dict.fromkeys((f.suite, f.metric) for f in result.figures if every_metric or f.metric in HEADLINE)
    return [f"{metric}: {words[suite][metric]}" for suite, metric in shown if metric in words[suite]]


def _table(result: Result, every_metric: bool) -> str:
    head = ["task", "metric", "value", "95 %", "chance", "n"]
    ceilings = any(f.ceiling is not None for f in result.figures)
    head[5:5] = ["best possible"] if ceilings else []
    head[3:3] = ["sd"] if len(result.seeds) > 1 else []
    lines: list[str] = []
    groups = sorted({(f.suite, f.evalset) for f in result.figures}, reverse=True)
    rows = {
        g: [_row(f, ceilings, len(result.seeds) > 1) for f in _shown(result, g, every_metric)] for g in groups
    }
    widths = [
        max(map(len, column)) for column in zip(head, *(r for g in rows.values() for r in g), strict=True)
    ]
    for (suite, evalset), cells in rows.items():
        lines += ["", f"{suite}, {evalset}", *(_aligned(r, widths) for r in (head, *cells))]
    return "\n".join([*lines, ""])


def _shown(result: Result, group: tuple[str, str], every_metric: bool) -> list[Figure]:
    of_group = [f for f in result.figures if (f.suite, f.evalset) == group]
    return of_group if every_metric else [f for f in of_group if f.metric in HEADLINE]


def _row(figure: Figure, ceilings: bool, spread: bool) -> list[str]:
    def number(value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:.1f}" if figure.metric in PLAIN_METRICS else f"{100 * value:.1f} %"

    cells = [figure.task, figure.metric, number(figure.value)]
    cells += [number(figure.sd)] if spread else []
    cells += [f"{number(figure.low)} to {number(figure.high)}", number(figure.chance)]
    cells += [number(figure.ceiling)] if ceilings else []
    return [*cells, str(figure.n)]


def _aligned(row: list[str], widths: list[int]) -> str:
    """The first two columns to the left, numbers to the right."""
    cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
    return "  " + "  ".join(cells).rstrip()


def facts(about: dict[str, Any]) -> str:
    """Names and values in two columns."""
    width = max(map(len, about))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in about.items())

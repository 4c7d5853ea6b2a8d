"""`birdmml bench`: train methods, or take trained ones, and score them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdmml.cli._result import facts
from birdmml.cli.xor import OrXor
from birdmml.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from birdmml.plans import BenchPlan

__all__ = ["bench", "facts", "needs_data", "register", "writable"]

# What a protocol says by itself; given beside it, it would be another protocol.
FIXED = {
    "suite": "--suite",
    "preset": "--preset",
    "seed": "--seed",
    "checkpoint": "--checkpoint",
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "assign": "--set",
    "evalset": "--evalset",
    "model": "--model",
}


def bench(
    context: typer.Context,
    method: Annotated[
        list[str] | None,
        typer.Option(help="What to train and score; again for more; see `birdmml list`. [default: confu]"),
    ] = None,
    data: Annotated[Path, typer.Option(help="A dataset that `birdmml build` made.")] = Path("data"),
    suite: Annotated[str, typer.Option(help="What to measure, separated by commas.")] = "retrieval,zero-shot",
    preset: Annotated[str, typer.Option(help="Sizes: tiny, small or paper.")] = "tiny",
    seeds: Annotated[int, typer.Option(help="How many models to train.")] = 1,
    seed: Annotated[int, typer.Option(help="The first model's seed.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[Path, typer.Option(help="Where results go, a folder each.")] = Path("results"),
    protocol: Annotated[
        str | None, typer.Option(help="Run as this protocol says: a name of `birdmml list`, or a .toml file.")
    ] = None,
    all_methods: Annotated[
        bool, typer.Option("--all-methods", help="Every method, or the protocol's.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Of several methods, repeat those that are done, too.")
    ] = False,
    evalsets: Annotated[
        Path | None,
        typer.Option(help="Where prepared evaluation sets lie.", show_default="./evalsets if it is there"),
    ] = None,
    evalset: Annotated[
        list[str] | None,
        typer.Option(
            help="Score this one alone: dataset, ssw60, ...; again for more. [default: all there are]"
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Score this trained model instead.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Score functions of your own instead: a Python file, which is run; docs/own-model.md."
        ),
    ] = None,
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
    birdmml bench --all-methods --seeds 3        one table of all; goes on where it stopped
    birdmml bench --protocol paper-birds --method confu --evalsets ./evalsets
    birdmml bench --checkpoint ./model
    birdmml bench --model my_model.py
    birdmml bench --suite xor --help   needs no dataset; has options of its own
    """
    given = {name for name in FIXED | {"seeds": ""} if _given(context, name)}
    if protocol is not None and (clash := [FIXED[name] for name in FIXED if name in given]):
        raise UsageError(
            f"{clash[0]} and --protocol {protocol} contradict each other: the protocol says it; leave one out, or"
            " write a protocol of your own"
        )
    if all_methods and (method or checkpoint or model):
        other = "--method" if method else "--checkpoint" if checkpoint else "--model"
        raise UsageError(f"--all-methods and {other} contradict each other: leave one out")
    if protocol is None or not _computed(protocol):
        needs_data(data)
    from birdmml.cli import _bench

    where = evalsets if evalsets is not None else _default_evalsets()
    if model is not None:
        trained = {"preset", "seeds", "seed", "checkpoint", "epochs", "batch_size", "method"}
        if clash := [name for name in sorted(trained) if _given(context, name)]:
            raise UsageError(f"--model trains nothing: leave out --{clash[0].replace('_', '-')}")
        mine = _bench.of_model(model, data, suite.split(","), assign or [], where, evalset or (), limit)
        if dry_run:
            typer.echo(json.dumps(mine.values(), indent=2) if as_json else facts(_bench.about_own(mine)))
            return
        writable(out)
        _bench.own(mine, out, every_metric, as_json)
        return
    if protocol is not None:
        count = seeds if "seeds" in given else None
        made = _bench.of_protocol(protocol, method or [], all_methods, data, where, device, count, limit)
    else:
        overrides = list(assign or [])
        overrides += [f"training.epochs={epochs}"] if epochs is not None else []
        overrides += [f"training.batch_size={batch_size}"] if batch_size is not None else []
        made = _bench.of_options(
            method or [], all_methods, checkpoint, data, suite.split(","), preset, overrides, seeds, seed, device,
            limit, where, evalset or (),
        )  # fmt: skip
    if dry_run:
        _described(made, as_json)
        return
    writable(out)
    if len(made) == 1 and not all_methods:
        _bench.one(made[0], out, every_metric, as_json)
    else:
        _bench.several(made, out, again, as_json)


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


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _computed(protocol: str) -> bool:
    """Whether the protocol needs no dataset; raises UnknownName or UsageError for one that is none."""
    from birdmml import protocols

    return protocols.load(protocol).data.source == "computed"


def _default_evalsets() -> Path | None:
    from birdmml.wanted import default_folder

    return default_folder()


def _described(made: tuple[BenchPlan, ...], as_json: bool) -> None:
    from birdmml.evaluate import describe

    about: list[dict[str, Any]] = [describe(plan) for plan in made]
    if as_json:
        typer.echo(json.dumps(about[0] if len(about) == 1 else about, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n\n".join(map(facts, about)))

"""`birdmml bench`: train methods, or take trained ones or the user's own functions, and score them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli import _result
from birdmml.cli._options import command, flag, option, typed_names
from birdmml.cli._show import DEMO_BANNER, needs_data, print_either, print_json, writable, writing
from birdmml.core.files import write_text
from birdmml.errors import ResultError, UsageError

if TYPE_CHECKING:
    from birdmml.bench.own_model import OwnPlan
    from birdmml.bench.plan import BenchPlan
    from birdmml.bench.protocol import Protocol
    from birdmml.bench.run import Ended
    from birdmml.schema import Result


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
# What says how to train; nothing is trained where --model is given.
TRAINING = ("batch_size", "checkpoint", "epochs", "method", "preset", "seed", "seeds")
TABLES = ("table.md", "table.csv")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The options of `birdmml bench`, in the order of its help."""

    method: list[str] = option([], "What to train and score; again for more; see `birdmml list`. [default: confu]")
    data: Path = option(Path("data"), "A dataset that `birdmml build` made.")
    suite: str = option("retrieval,zero-shot", "What to measure, separated by commas.")
    preset: str = option("tiny", "Sizes: tiny, small or paper.")
    seeds: int = option(1, "How many models to train.")
    seed: int = option(0, "The first model's seed.")
    device: str = option("auto", "auto, cpu, cuda or mps.")
    out: Path = option(Path("results"), "Where results go, a folder each.")
    protocol: str | None = option(None, "Run as this protocol says: a name of `birdmml list`, or a .toml file.")
    all_methods: bool = flag("--all-methods", "Every method, or the protocol's.")
    again: bool = flag("--again", "Of several methods, repeat those that are done, too.")
    evalsets: Path | None = option(
        None, "Where prepared evaluation sets lie.", show_default="./evalsets if it is there"
    )
    evalset: list[str] = option(
        [], "Score this one alone: dataset, ssw60, ...; again for more. [default: all there are]"
    )
    checkpoint: Path | None = option(None, "Score this trained model instead.")
    model: Path | None = option(
        None, "Score functions of your own instead: a Python file, which is run; docs/own-model.md."
    )
    epochs: int | None = option(None, "Passes over the training rows.")
    batch_size: int | None = option(None, "Rows a step.")
    limit: int | None = option(None, "At most N rows a split; marked as limited.")
    assign: list[str] = option([], "Any setting: training.epochs=3, method.temperature=0.1.", "--set")
    every_metric: bool = flag("--all", "Print every metric.")
    dry_run: bool = option(False, "Say what would be trained and scored; write nothing.")
    as_json: bool = flag("--json", "Print the result as JSON.")
    typed: frozenset[str] = typed_names()

    @property
    def suites(self) -> list[str]:
        """The suites named."""
        return self.suite.split(",")

    @property
    def folder_of_evalsets(self) -> Path | None:
        """Where prepared sets lie, if anywhere."""
        from birdmml.bench.plan import DEFAULT

        return self.evalsets or (DEFAULT if DEFAULT.is_dir() else None)


@command
def bench(options: BenchOptions) -> None:
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
    _refuse_contradictions(options)
    protocol = None if options.protocol is None else _protocol(options.protocol)
    if protocol is None or protocol.data.source != "computed":
        needs_data(options.data)
    if options.model is not None:
        _own(options, options.model)
        return
    plans = _of_options(options) if protocol is None else _of_protocol(options, protocol)
    if options.dry_run:
        _describe(plans, options.as_json)
        return
    writable(options.out)
    if len(plans) == 1 and not options.all_methods:
        _one(plans[0], options)
    else:
        _several(plans, options)


def show(result: Result, folder: Path, every_metric: bool, as_json: bool) -> None:
    """A result as JSON, or as a table with what belongs to it."""
    from birdmml.core import settings

    if as_json:
        print_json(settings.to_dict(result) | {"folder": str(folder)})
        return
    typer.echo(_result.table(result, every_metric))
    typer.echo("\n".join(_result.closing(result, folder, every_metric)))


def _refuse_contradictions(options: BenchOptions) -> None:
    protocol = options.protocol
    if protocol is not None and (clash := [FIXED[name] for name in FIXED if name in options.typed]):
        raise UsageError(
            f"{clash[0]} and --protocol {protocol} contradict each other: the protocol says it; leave one out, or"
            " write a protocol of your own"
        )
    if options.all_methods and (options.method or options.checkpoint or options.model):
        other = "--method" if options.method else "--checkpoint" if options.checkpoint else "--model"
        raise UsageError(f"--all-methods and {other} contradict each other: leave one out")


def _protocol(name: str) -> Protocol:
    from birdmml.bench.protocol import load

    return load(name)


def _of_protocol(options: BenchOptions, protocol: Protocol) -> tuple[BenchPlan, ...]:
    """The plans of a protocol: for the methods named, for all of them, or for its only one."""
    from birdmml.bench.plan import Choice, check, plans

    check(protocol)
    if not options.method and not options.all_methods and len(protocol.methods) > 1:
        names = ", ".join(m.name for m in protocol.methods)
        raise UsageError(
            f"protocol {protocol.name} has {len(protocol.methods)} methods: give --method ({names}), or --all-methods"
        )
    seeds = options.seeds if "seeds" in options.typed else None
    choice = Choice(seeds=seeds, device=options.device, limit=options.limit, evalsets=options.folder_of_evalsets)
    return plans(protocol, options.method, options.data, choice)


def _of_options(options: BenchOptions) -> tuple[BenchPlan, ...]:
    """The plans of plain options, a method each; every method's options are checked before the first is trained."""
    from birdmml.bench.plan import Choice, plan
    from birdmml.core import discover
    from birdmml.models.state import resolve

    o = options
    overrides = list(o.assign)
    overrides += [f"training.epochs={o.epochs}"] if o.epochs is not None else []
    overrides += [f"training.batch_size={o.batch_size}"] if o.batch_size is not None else []
    names = list(discover.names("method") if o.all_methods else o.method)
    if o.checkpoint is not None and len(names) > 1:
        raise UsageError(f"--checkpoint is one trained model: leave out --method {names[1]}")
    checkpoint = None if o.checkpoint is None else resolve(o.checkpoint)
    choice = Choice(
        o.suites, o.preset, overrides, o.seeds, o.seed, o.device, o.limit, checkpoint,
        o.folder_of_evalsets, o.evalset,
    )  # fmt: skip
    if checkpoint is not None and not names:
        return (plan(o.data, None, choice),)
    methods = dict.fromkeys(discover.canonical("method", m) for m in names or ["confu"])
    return tuple(plan(o.data, method, choice) for method in methods)


def _describe(plans: Sequence[BenchPlan], as_json: bool) -> None:
    from birdmml.bench.run import describe

    about: list[dict[str, Any]] = [describe(plan) for plan in plans]
    text = "\n\n".join(map(_result.facts, about))
    print_either(as_json, about[0] if len(about) == 1 else about, [text])


def _one(plan: BenchPlan, options: BenchOptions) -> None:
    """Carry out one plan and print its table."""
    from birdmml.bench.run import run as run_run

    if not options.as_json:
        typer.echo("\n".join(_result.opening(plan)))
    with writing(options.out):
        result, folder = run_run(plan, options.out, quiet=options.as_json)
    show(result, folder, options.every_metric, options.as_json)


def _several(plans: Sequence[BenchPlan], options: BenchOptions) -> None:
    """Carry out plan after plan, a line each, then one table of all; exit 1 where one failed."""
    from birdmml.bench.run import run_all
    from birdmml.leaderboard.verify import verify
    from birdmml.results import tables

    out, as_json = options.out, options.as_json
    if not as_json:
        typer.echo("\n".join(dict.fromkeys(line for plan in plans for line in _result.banner(plan))))
    with writing(out):
        ended = run_all(plans, out, options.again, as_json, lambda e: None if as_json else typer.echo(_line(e)), verify)
        done = [(e.result, e.folder) for e in ended if e.result is not None]
        if done:
            table = tables.standings(done)
            write_text(out / TABLES[0], tables.standings_markdown(table))
            write_text(out / TABLES[1], tables.as_csv(table))
    if as_json:
        print_json([_plain(e) for e in ended])
    elif done:
        typer.echo("\n" + tables.text(table))
        typer.echo(f"table     {out / TABLES[0]}, {out / TABLES[1]}")
    failed = [f"{e.method}: {e.failure}" for e in ended if e.failure]
    if failed:
        raise ResultError(f"{len(failed)} of {len(ended)} methods failed: {'; '.join(failed)}")


def _line(ended: Ended) -> str:
    if ended.result is None:
        return f"{ended.method}: FAILED: {ended.failure}"
    if ended.earlier:
        return f"{ended.method}: there already, {ended.folder} (--again repeats it)"
    return f"{ended.method}: done in {ended.result.seconds['total']:.0f} s, {ended.folder}"


def _plain(ended: Ended) -> dict[str, Any]:
    from birdmml.core import settings

    about: dict[str, Any] = {} if ended.result is None else settings.to_dict(ended.result)
    return about | {"method": ended.method, "folder": str(ended.folder), "failure": ended.failure}


def _own(options: BenchOptions, model: Path) -> None:
    """Score functions of the user's own, and print their table."""
    from birdmml.bench.own_model import plan, run

    if clash := [name for name in TRAINING if name in options.typed]:
        raise UsageError(f"--model trains nothing: leave out --{clash[0].replace('_', '-')}")
    own = plan(
        model, options.data, options.suites, options.assign, options.folder_of_evalsets, options.evalset,
        options.limit,
    )  # fmt: skip
    if options.dry_run:
        typer.echo(json.dumps(own.values, indent=2) if options.as_json else _result.facts(_about_own(own)))
        return
    writable(options.out)
    if not options.as_json:
        banner = [DEMO_BANNER] if own.built.demo else []
        typer.echo("\n".join([*banner, f"scoring {own.path}: {own.values['score']}"]))
    with writing(options.out):
        result, folder = run(own, options.out, quiet=options.as_json)
    show(result, folder, options.every_metric, options.as_json)


def _about_own(own: OwnPlan) -> dict[str, Any]:
    values = own.values
    return {
        "model": own.path,
        "functions": ", ".join(values["functions"]),
        "score": values["score"],
        "data": own.built.root,
        "suites": ", ".join(values["suites"]),
        "evaluation sets": ", ".join(values["evalsets"]),
        "result": own.name,
    }

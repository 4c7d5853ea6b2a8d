"""`birdmml bench`: train methods, or take trained ones or the user's own functions, and score them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli import _result
from birdmml.cli._options import flag, option, spelled, typed_names
from birdmml.cli._show import DEMO_BANNER, needs_data, print_either, print_json, writable, writing
from birdmml.core import discover, settings
from birdmml.core.files import write_text
from birdmml.errors import ResultError, UsageError

if TYPE_CHECKING:
    from birdmml.bench.plan import BenchPlan
    from birdmml.bench.protocol import Protocol
    from birdmml.bench.run import Ended
    from birdmml.schema import Result

# What a protocol says by itself; given beside it, it would be another protocol.
FIXED = ("suite", "preset", "seed", "checkpoint", "epochs", "batch_size", "assign", "evalset", "model")
# What says how to train; nothing is trained where --model is given.
TRAINING = ("batch_size", "checkpoint", "epochs", "method", "preset", "seed", "seeds")
TABLES = ("table.md", "table.csv")


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
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

    def _run(self) -> None:
        from birdmml.bench.protocol import load

        self._refuse_contradictions()
        protocol = None if self.protocol is None else load(self.protocol)
        # Only after a look at the protocol: one of computed data, as XOR's, needs no dataset.
        if protocol is None or protocol.data.source != "computed":
            needs_data(self.data)
        if self.model is not None:
            self._own(self.model)
            return
        from birdmml.bench.run import describe, run

        plans = self._of_options() if protocol is None else self._of_protocol(protocol)
        if self.dry_run:
            about: list[dict[str, Any]] = [describe(plan) for plan in plans]
            text = "\n\n".join(map(_result.facts, about))
            print_either(self.as_json, about[0] if len(about) == 1 else about, [text])
            return
        writable(self.out)
        if len(plans) > 1 or self.all_methods:
            self._several(plans)
            return
        if not self.as_json:
            typer.echo("\n".join(_result.opening(plans[0])))
        with writing(self.out):
            result, folder = run(plans[0], self.out, quiet=self.as_json)
        show(result, folder, self.every_metric, self.as_json)

    def _refuse_contradictions(self) -> None:
        if self.protocol is not None and (clash := [name for name in FIXED if name in self.typed]):
            raise UsageError(
                f"{spelled(self, clash[0])} and --protocol {self.protocol} contradict each other: the protocol says it;"
                " leave one out, or write a protocol of your own"
            )
        if self.all_methods and (self.method or self.checkpoint or self.model):
            other = "--method" if self.method else "--checkpoint" if self.checkpoint else "--model"
            raise UsageError(f"--all-methods and {other} contradict each other: leave one out")

    def _of_protocol(self, protocol: Protocol) -> tuple[BenchPlan, ...]:
        """The plans of a protocol: for the methods named, for all of them, or for its only one."""
        from birdmml.bench.plan import Choice, check, plans

        check(protocol)
        if not self.method and not self.all_methods and len(protocol.methods) > 1:
            names = ", ".join(m.name for m in protocol.methods)
            raise UsageError(
                f"protocol {protocol.name} has {len(protocol.methods)} methods: give --method ({names}), or"
                " --all-methods"
            )
        seeds = self.seeds if "seeds" in self.typed else None
        choice = Choice(seeds=seeds, device=self.device, limit=self.limit, evalsets=self.folder_of_evalsets)
        return plans(protocol, self.method, self.data, choice)

    def _of_options(self) -> tuple[BenchPlan, ...]:
        """The plans of plain options, a method each; every method's options are checked before the first is trained."""
        from birdmml.bench.plan import Choice, plan
        from birdmml.models.state import resolve

        overrides = list(self.assign)  # First, so that --epochs beside --set training.epochs wins.
        overrides += [f"training.epochs={self.epochs}"] if self.epochs is not None else []
        overrides += [f"training.batch_size={self.batch_size}"] if self.batch_size is not None else []
        names = list(discover.names("method") if self.all_methods else self.method)
        if self.checkpoint is not None and len(names) > 1:
            raise UsageError(f"--checkpoint is one trained model: leave out --method {names[1]}")
        # A folder of `birdmml train` stands for its last or best.
        checkpoint = None if self.checkpoint is None else resolve(self.checkpoint)
        choice = Choice(
            self.suites, self.preset, overrides, self.seeds, self.seed, self.device, self.limit, checkpoint,
            self.folder_of_evalsets, self.evalset,
        )  # fmt: skip
        if checkpoint is not None and not names:
            return (plan(self.data, None, choice),)
        methods = dict.fromkeys(discover.canonical("method", m) for m in names or ["confu"])
        return tuple(plan(self.data, name, choice) for name in methods)

    def _several(self, plans: Sequence[BenchPlan]) -> None:
        """Carry out plan after plan, a line each, then one table of all; exit 1 where one failed."""
        from birdmml.bench.run import run_all
        from birdmml.leaderboard.verify import verify
        from birdmml.results import tables

        out, as_json = self.out, self.as_json
        if not as_json:
            typer.echo("\n".join(dict.fromkeys(line for plan in plans for line in _result.banner(plan))))
        with writing(out):
            ended = run_all(
                plans, out, self.again, as_json, lambda e: None if as_json else typer.echo(_line(e)), verify
            )
            done = [(e.result, e.folder) for e in ended if e.result is not None]
            if done:
                table = tables.standings(done)
                write_text(out / TABLES[0], tables.standings_markdown(table))
                write_text(out / TABLES[1], tables.as_csv(table))
        if as_json:
            values = [{} if e.result is None else settings.to_dict(e.result) for e in ended]
            more = [{"method": e.method, "folder": str(e.folder), "failure": e.failure} for e in ended]
            print_json([value | end for value, end in zip(values, more, strict=True)])
        elif done:
            typer.echo("\n" + tables.text(table))
            typer.echo(f"table     {out / TABLES[0]}, {out / TABLES[1]}")
        if failed := [f"{e.method}: {e.failure}" for e in ended if e.failure]:
            raise ResultError(f"{len(failed)} of {len(ended)} methods failed: {'; '.join(failed)}")

    def _own(self, model: Path) -> None:
        """Score functions of the user's own, and print their table."""
        from birdmml.bench.own_model import plan, run

        if clash := [name for name in TRAINING if name in self.typed]:
            raise UsageError(f"--model trains nothing: leave out {spelled(self, clash[0])}")
        own = plan(model, self.data, self.suites, self.assign, self.folder_of_evalsets, self.evalset, self.limit)
        values = own.values
        if self.dry_run:
            about = {
                "model": own.path,
                "functions": ", ".join(values["functions"]),
                "score": values["score"],
                "data": own.built.root,
                "suites": ", ".join(values["suites"]),
                "evaluation sets": ", ".join(values["evalsets"]),
                "result": own.name,
            }
            typer.echo(json.dumps(values, indent=2) if self.as_json else _result.facts(about))
            return
        writable(self.out)
        if not self.as_json:
            banner = [DEMO_BANNER] if own.built.demo else []
            typer.echo("\n".join([*banner, f"scoring {own.path}: {values['score']}"]))
        with writing(self.out):
            result, folder = run(own, self.out, quiet=self.as_json)
        show(result, folder, self.every_metric, self.as_json)


def show(result: Result, folder: Path, every_metric: bool, as_json: bool) -> None:
    """A result as JSON, or as a table with what belongs to it."""
    if as_json:
        print_json(settings.to_dict(result) | {"folder": str(folder)})
        return
    typer.echo(_result.table(result, every_metric))
    typer.echo("\n".join(_result.closing(result, folder, every_metric)))


def _line(ended: Ended) -> str:
    if ended.result is None:
        return f"{ended.method}: FAILED: {ended.failure}"
    if ended.earlier:
        return f"{ended.method}: there already, {ended.folder} (--again repeats it)"
    return f"{ended.method}: done in {ended.result.seconds['total']:.0f} s, {ended.folder}"

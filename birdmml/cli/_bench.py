"""What `birdmml bench` does once its options are sorted: make plans, carry them out, print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli import _result
from birdmml.errors import Interrupted, ResultError, UsageError
from birdmml.files import write_text

if TYPE_CHECKING:
    from birdmml.own_model import OwnPlan
    from birdmml.plans import BenchPlan
    from birdmml.schema import Result
    from birdmml.series import Ended

TABLES = ("table.md", "table.csv")


def of_protocol(
    name: str,
    methods: Sequence[str],
    every: bool,
    data: Path,
    evalsets: Path | None,
    device: str,
    seeds: int | None,
    limit: int | None,
) -> tuple[BenchPlan, ...]:
    """The plans of a protocol: for the methods named, for all of them, or for its only one."""
    from birdmml import protocols
    from birdmml.by_protocol import check, plans
    from birdmml.plans import Choice

    protocol = protocols.load(name)
    check(protocol)
    if not methods and not every and len(protocol.methods) > 1:
        known = ", ".join(m.name for m in protocol.methods)
        raise UsageError(
            f"protocol {protocol.name} has {len(protocol.methods)} methods: give --method ({known}), or --all-methods"
        )
    choice = Choice(seeds=seeds, device=device, limit=limit, evalsets=evalsets)
    return plans(name, methods, data, choice)


def of_options(
    methods: Sequence[str],
    every: bool,
    checkpoint: Path | None,
    data: Path,
    suites: Sequence[str],
    preset: str,
    overrides: Sequence[str],
    seeds: int,
    seed: int,
    device: str,
    limit: int | None,
    evalsets: Path | None,
    only: Sequence[str],
) -> tuple[BenchPlan, ...]:
    """The plans of plain options, a method each; every method's options are checked before the first is trained."""
    from birdmml import discover
    from birdmml.plans import Choice, plan

    names = list(discover.names("method") if every else methods)
    if checkpoint is not None:
        from birdmml import checkpoint as checkpoints
        from birdmml.training.state import resolve

        if len(names) > 1:
            raise UsageError(f"--checkpoint is one trained model: leave out --method {names[1]}")
        checkpoint = resolve(checkpoint)
        names = names or [checkpoints.load(checkpoint).method]
    choice = Choice(suites, preset, overrides, seeds, seed, device, limit, checkpoint, evalsets, only)
    return tuple(
        plan(data, name, choice)
        for name in dict.fromkeys(discover.canonical("method", m) for m in names or ["confu"])
    )


def one(plan: BenchPlan, out: Path, every_metric: bool, as_json: bool) -> None:
    """Carry out one plan and print its table."""
    from birdmml.evaluate import run

    if not as_json:
        typer.echo("\n".join(_result.opening(plan)))
    with told(out):
        result, folder = run(plan, out, quiet=as_json)
    show(result, folder, every_metric, as_json)


def several(plans: Sequence[BenchPlan], out: Path, again: bool, as_json: bool) -> None:
    """Carry out plan after plan, a line each, then one table of all; exit 1 where one failed."""
    from birdmml import series, standings
    from birdmml.leaderboard.verify import verify

    if not as_json:
        typer.echo("\n".join(dict.fromkeys(line for plan in plans for line in _result.banner(plan))))
    with told(out):
        ended = series.run_all(
            plans, out, again, as_json, lambda e: None if as_json else typer.echo(_line(e)), verify
        )
        done = [(e.result, e.folder) for e in ended if e.result is not None]
        if done:
            table = standings.standings(done)
            write_text(out / TABLES[0], standings.markdown(table))
            write_text(out / TABLES[1], standings.as_csv(table))
    if as_json:
        typer.echo(json.dumps([_plain(e) for e in ended], indent=2, ensure_ascii=False))
    elif done:
        typer.echo("\n" + standings.text(table))
        typer.echo(f"table     {out / TABLES[0]}, {out / TABLES[1]}")
    failed = [f"{e.method}: {e.failure}" for e in ended if e.failure]
    if failed:
        raise ResultError(f"{len(failed)} of {len(ended)} methods failed: {'; '.join(failed)}")


def of_model(
    model: Path,
    data: Path,
    suites: Sequence[str],
    overrides: Sequence[str],
    evalsets: Path | None,
    only: Sequence[str],
    limit: int | None,
) -> OwnPlan:
    """What is to be scored of functions of the user's own."""
    from birdmml.own_model import plan

    return plan(model, data, suites, overrides, evalsets, only, limit)


def about_own(made: OwnPlan) -> dict[str, Any]:
    """What `own` would do."""
    values = made.values()
    return {
        "model": made.path,
        "functions": ", ".join(values["functions"]),
        "score": values["score"],
        "data": made.built.root,
        "suites": ", ".join(values["suites"]),
        "evaluation sets": ", ".join(values["evalsets"]),
        "result": made.name,
    }


def own(made: OwnPlan, out: Path, every_metric: bool, as_json: bool) -> None:
    """Score functions of the user's own, and print their table."""
    from birdmml.own_model import run

    if not as_json:
        from birdmml.cli._show import DEMO_BANNER

        typer.echo(
            "\n".join(
                [
                    *([DEMO_BANNER] if made.built.demo else []),
                    f"scoring {made.path}: {made.values()['score']}",
                ]
            )
        )
    with told(out):
        result, folder = run(made, out, quiet=as_json)
    show(result, folder, every_metric, as_json)


def show(result: Result, folder: Path, every_metric: bool, as_json: bool) -> None:
    """A result as JSON, or as a table with what belongs to it."""
    from birdmml import settings

    if as_json:
        whole = settings.to_dict(result) | {"folder": str(folder)}
        typer.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    typer.echo(_result.table(result, every_metric))
    typer.echo("\n".join(_result.closing(result, folder, every_metric)))


@contextmanager
def told(out: Path) -> Iterator[None]:
    """One line for Ctrl-C and for a disk that does not take the result."""
    try:
        yield
    except KeyboardInterrupt as e:
        raise Interrupted(f"interrupted: no result was written to {out}; run the same command again") from e
    except OSError as e:
        raise ResultError(
            f"{out}: the result cannot be written ({e.strerror or e}): free space, or choose another --out"
        ) from e


def _line(ended: Ended) -> str:
    if ended.result is None:
        return f"{ended.method}: FAILED: {ended.failure}"
    if ended.known:
        return f"{ended.method}: there already, {ended.folder} (--again repeats it)"
    return f"{ended.method}: done in {ended.result.seconds['total']:.0f} s, {ended.folder}"


def _plain(ended: Ended) -> dict[str, Any]:
    from birdmml import settings

    about: dict[str, Any] = {} if ended.result is None else settings.to_dict(ended.result)
    return about | {"method": ended.method, "folder": str(ended.folder), "failure": ended.failure}

"""A protocol as plans: what it says of suites, options, preset and seeds, and where a run departs from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from birdmml import discover, protocols, settings, wanted
from birdmml.array_data import ArrayData, check_sizes, fitted
from birdmml.device import pick_device
from birdmml.errors import UsageError
from birdmml.load import Built
from birdmml.models import Recipe
from birdmml.nn.presets import preset
from birdmml.passes import Pass
from birdmml.plans import BenchPlan, Choice, check_limit, own_file
from birdmml.protocols.model import Evaluate, Method, Protocol
from birdmml.training.plan import configured


def plans(name: str, methods: Sequence[str], data: Path, choice: Choice) -> tuple[BenchPlan, ...]:
    """One plan for each method by its name, or for every method of the protocol where `methods` is empty.

    Fewer `seeds` than the protocol's and a `limit` are departures from it, which the plans say. Raises UsageError for
    what this installation cannot carry out, EvalsetError for a set that is not prepared.
    """
    protocol = protocols.load(name)
    check(protocol)
    check_limit(choice.limit)
    pick_device(choice.device)
    passes, built = _of_data(protocol, data)
    chosen = [_method(protocol, m) for m in methods] or [(m, True) for m in protocol.methods]
    subjects = wanted.providers(built, choice.evalsets, passes)
    departures = _departures(protocol, built, choice)
    plans = []
    for method, listed in chosen:
        recipe = _recipe(protocol, method, built, choice.limit)
        record = {
            "name": protocol.name,
            "digest": protocol.digest,
            "departures": departures + ([] if listed else [f"method {method.name} is added"]),
        }
        seeds = protocol.seeds[: choice.seeds]
        plans.append(BenchPlan(recipe, passes, seeds, choice.device, None, subjects, record))
    return tuple(plans)


def check(protocol: Protocol) -> None:
    """Raise UsageError where the protocol cannot be carried out here, saying what is missing or what to run."""
    if protocol.data.source == "computed":
        raise UsageError(f"protocol {protocol.name} needs no dataset: run `{_xor(protocol)}`")
    lacking = list(protocol.missing())
    if lacking:
        raise UsageError(
            f"protocol {protocol.name} needs {', '.join(lacking)}: this birdmml has none; see `birdmml list`"
        )
    for one in protocol.evaluate:
        _pass(one)


def _of_data(protocol: Protocol, data: Path) -> tuple[tuple[Pass, ...], Built | ArrayData]:
    """The passes and the data; where each set trains its own models, those over the set at hand."""
    passes = tuple(map(_pass, protocol.evaluate))
    if protocol.data.source != "evalset":
        return passes, dataclasses.replace(Built.open(data), caption=protocol.data.caption)
    built, names = ArrayData.open(data), tuple(dict.fromkeys(p.evalset for p in passes))
    if built.name not in names:
        raise UsageError(
            f"protocol {protocol.name} trains on the rows of {' or '.join(names)}, which {data} is not: run"
            f" `birdmml prepare {names[0]}`, and give --data its folder"
        )
    return tuple(p for p in passes if p.evalset == built.name), built


def _pass(one: Evaluate) -> Pass:
    """The suite's Options from the protocol's tables, field by field. Raises UsageError for one that it lacks."""
    suite = discover.canonical("suite", one.suite).replace("_", "-")
    options = discover.load("suite", one.suite).Options()
    fields = {f.name for f in dataclasses.fields(options)}
    for key, (value, default) in _stated(one).items():
        if key in fields:
            options = settings.from_dict(type(options), settings.to_dict(options) | {key: value})
        elif value != default:
            raise UsageError(
                f"suite {suite} of this birdmml has no option {key}: the protocol asks for {key} = {value}"
            )
    return Pass(suite, options, wanted.canonical(one.evalset))


def _stated(one: Evaluate) -> dict[str, tuple[Any, Any]]:
    """field -> (what the protocol says, what it says by default); empty templates are the suite's own."""
    values: dict[str, tuple[Any, Any]] = {"split": (one.split, "test")}
    for table in filter(None, vars(one.options).values()):
        for f in dataclasses.fields(table):
            value = getattr(table, f.name)
            if f.name != "templates" or value:
                values[f.name] = value, f.default
    return values


def _method(protocol: Protocol, name: str) -> tuple[Method, bool]:
    """The protocol's method of that name, else a bare one; and whether it is the protocol's."""
    key = discover.canonical("method", name)
    for method in protocol.methods:
        if discover.canonical("method", method.name) == key:
            return method, True
    return Method(key), False


def _recipe(protocol: Protocol, method: Method, built: Built | ArrayData, limit: int | None) -> Recipe:
    key = discover.canonical("method", method.name)
    if protocol.train is None:  # Only "computed" has none, which `check` refuses.
        raise UsageError(f"protocol {protocol.name} does not say how to train")
    overrides = [*protocol.train.overrides, *method.assignments]
    start = fitted(preset(protocol.train.preset), built)
    config, sizes = configured(discover.load("method", key), start, overrides)
    check_sizes(sizes, built)
    return Recipe(built, key, config, protocol.train.preset, sizes, limit, own_file(key))


def _departures(protocol: Protocol, built: Built | ArrayData, choice: Choice) -> list[str]:
    """Where a run differs from what the protocol says, a line each."""
    lines = []
    if choice.seeds is not None and choice.seeds != len(protocol.seeds):
        if not 1 <= choice.seeds <= len(protocol.seeds):
            raise UsageError(
                f"--seeds {choice.seeds}: protocol {protocol.name} has {len(protocol.seeds)}, give fewer"
            )
        lines.append(f"{choice.seeds} of {len(protocol.seeds)} seeds")
    if choice.limit is not None:
        lines.append(f"at most {choice.limit} rows a split")
    if isinstance(built, ArrayData):
        return [*lines, *_other_samples(built)]
    source = built.manifest.get("source", {}).get("name", "")
    if protocol.data.source == "release" and source != "release":
        lines.append(f"trained on data of source {source or 'unknown'}, not the release")
    split = built.manifest.get("settings", {}).get("split", "")
    if protocol.data.split != split:
        lines.append(f"split {split or 'unknown'}, not {protocol.data.split}")
    return lines


def _other_samples(data: ArrayData) -> list[str]:
    """Where a set of arrays is not what its provider publishes."""
    prepared = data.arrays.manifest["settings"]
    published = discover.load("evaluation set", data.name).PUBLISHED
    lines = [] if prepared.get("origin") == "multibench" else [f"{data.name} is made from raw files"]
    # What the provider's loading rules leave out is no departure; a split cut to a size is.
    rows = {split: n["rows"] for split, n in data.manifest["splits"].items()}
    if prepared.get("limit") or prepared.get("sizes"):
        fewer = [
            f"{rows.get(s, 0):,} of {n:,} {s} rows"
            for s, n in published["samples"].items()
            if rows.get(s) != n
        ]
        lines += [", ".join(fewer)] if fewer else []
    return lines


def _xor(protocol: Protocol) -> str:
    """The command that carries out a protocol of XOR."""
    o = next(e.options.xor for e in protocol.evaluate if e.options.xor is not None)
    methods = "".join(f" --method {m.name}" for m in protocol.methods)
    shares = ",".join(f"{p:g}" for p in o.p)
    return (
        f"birdmml bench --suite xor{methods} --p {shares} --seeds {len(protocol.seeds)} --seed {protocol.seeds[0]}"
        f" --dim {o.dim} --steps {o.steps} --batch-size {o.batch_size} --learning-rate {o.learning_rate:g}"
    )

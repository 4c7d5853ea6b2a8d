"""A protocol as plans: what it says of suites, options, preset and seeds, and where a run departs from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
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
from birdmml.plans import Plan, check_limit, own_file
from birdmml.protocols.model import Evaluate, Method, Protocol
from birdmml.training.plan import configured


@dataclass(frozen=True)
class Run:
    """What may be chosen under a protocol; `seeds` and `limit` make a result depart from it."""

    data: Path
    evalsets: Path | None = None
    device: str = "auto"
    seeds: int | None = None
    limit: int | None = None


def plans(name: str, methods: Sequence[str], run: Run) -> tuple[Plan, ...]:
    """One plan for each method by its name, or for every method of the protocol where `methods` is empty.

    Raises UsageError for what this installation cannot carry out, EvalsetError for a set that is not prepared.
    """
    protocol = protocols.load(name)
    check(protocol, run.evalsets)
    check_limit(run.limit)
    pick_device(run.device)
    passes, built = _of_data(protocol, run.data)
    chosen = [_method(protocol, m) for m in methods] or [(m, True) for m in protocol.methods]
    providers = wanted.providers(built, run.evalsets, passes)
    made = []
    for method, listed in chosen:
        said = {"name": protocol.name, "digest": protocol.digest}
        departures = [
            *_departures(protocol, built, run),
            *([] if listed else [f"method {method.name} is added"]),
        ]
        recipe = _recipe(protocol, method, built, run.limit)
        seeds = protocol.seeds[: run.seeds]
        made.append(
            Plan(recipe, passes, seeds, run.device, None, providers, said | {"departures": departures})
        )
    return tuple(made)


def check(protocol: Protocol, evalsets: Path | None = None) -> None:
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
    known = {f.name for f in dataclasses.fields(options)}
    for key, (value, default) in _said(one).items():
        if key in known:
            options = settings.from_dict(type(options), settings.to_dict(options) | {key: value})
        elif value != default:
            raise UsageError(
                f"suite {suite} of this birdmml has no option {key}: the protocol asks for {key} = {value}"
            )
    return Pass(suite, options, wanted.canonical(one.evalset))


def _said(one: Evaluate) -> dict[str, tuple[Any, Any]]:
    """field -> (what the protocol says, what it says by default); empty templates are the suite's own."""
    said: dict[str, tuple[Any, Any]] = {"split": (one.split, "test")}
    for table in filter(None, vars(one.options).values()):
        for f in dataclasses.fields(table):
            value = getattr(table, f.name)
            if f.name != "templates" or value:
                said[f.name] = value, f.default
    return said


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


def _departures(protocol: Protocol, built: Built | ArrayData, run: Run) -> list[str]:
    """Where a run differs from what the protocol says, a line each."""
    found = []
    if run.seeds is not None and run.seeds != len(protocol.seeds):
        if not 1 <= run.seeds <= len(protocol.seeds):
            raise UsageError(
                f"--seeds {run.seeds}: protocol {protocol.name} has {len(protocol.seeds)}, give fewer"
            )
        found.append(f"{run.seeds} of {len(protocol.seeds)} seeds")
    if run.limit is not None:
        found.append(f"at most {run.limit} rows a split")
    if isinstance(built, ArrayData):
        return [*found, *_other_samples(built)]
    source = built.manifest.get("source", {}).get("name", "")
    if protocol.data.source == "release" and source != "release":
        found.append(f"trained on data of source {source or 'unknown'}, not the release")
    split = built.manifest.get("settings", {}).get("split", "")
    if protocol.data.split != split:
        found.append(f"split {split or 'unknown'}, not {protocol.data.split}")
    return found


def _other_samples(data: ArrayData) -> list[str]:
    """Where a set of arrays is not what its provider publishes."""
    told, published = data.arrays.manifest["settings"], discover.load("evaluation set", data.name).PUBLISHED
    found = [] if told.get("origin") == "multibench" else [f"{data.name} is made from raw files"]
    # What the provider's loading rules leave out is no departure; a split cut to a size is.
    rows = {split: n["rows"] for split, n in data.manifest["splits"].items()}
    if told.get("limit") or told.get("sizes"):
        of = ", ".join(
            f"{rows.get(s, 0):,} of {n:,} {s} rows"
            for s, n in published["samples"].items()
            if rows.get(s) != n
        )
        found += [of] if of else []
    return found


def _xor(protocol: Protocol) -> str:
    """The command that carries out a protocol of XOR."""
    told = next(e.options.xor for e in protocol.evaluate if e.options.xor is not None)
    methods = "".join(f" --method {m.name}" for m in protocol.methods)
    shares = ",".join(f"{p:g}" for p in told.p)
    return (
        f"birdmml bench --suite xor{methods} --p {shares} --seeds {len(protocol.seeds)} --seed {protocol.seeds[0]}"
        f" --dim {told.dim} --steps {told.steps} --batch-size {told.batch_size} --learning-rate {told.learning_rate:g}"
    )

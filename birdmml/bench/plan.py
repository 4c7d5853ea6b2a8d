"""Everything that decides a run, checked before anything is read or trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml.bench import score
from birdmml.bench.protocol import DATASET, Evaluate, Method, Protocol
from birdmml.bench.score import Pass
from birdmml.bench.subjects import ArraySubject, Films, OwnRows, PreparedSet, Provider
from birdmml.bench.suites._contract import BARE
from birdmml.core import discover, settings
from birdmml.core.device import pick_device
from birdmml.errors import EvalsetError, UnknownName, UsageError
from birdmml.load import Built
from birdmml.models import checkpoint, recipe
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.plan import check_columns, configured
from birdmml.models.presets import preset
from birdmml.models.read import ArrayData, check_sizes, fitted, opened
from birdmml.models.recipe import Recipe

KIND = "evaluation set"
DEFAULT = Path("evalsets")  # Where prepared evaluation sets lie unless a run says otherwise.
MAX_SEEDS = 100
SUITES = ("retrieval", "zero-shot")


def canonical(name: str) -> str:
    """ "SSW-60" -> "ssw60", "VE100" -> "vb100", and "dataset" for the rows trained on; raises UnknownName."""
    key = name.strip().casefold().replace("-", "_")
    key = discover.ALIASES[KIND].get(key, key)
    if key == DATASET:
        return DATASET
    names = (*discover.names(KIND), DATASET)
    for candidate in (key, key.replace("_", "")):
        if candidate in names:
            return candidate
    raise UnknownName(KIND, name, (*names, *discover.ALIASES[KIND]), hint="see `birdmml list`")


def providers(
    built: Built | ArrayData, folder: Path | None, chosen: Sequence[Pass], only: Sequence[str] = ()
) -> tuple[Provider, ...]:
    """The dataset itself and every evaluation set that a pass wants something of; `only` names the sets to take.

    A set is named by `only` or by a pass: then it must be there. Else the dataset's own ones and those prepared below
    `folder` are taken as they are found. Raises EvalsetError with the next step, UnknownName.
    """
    subjects = tuple(dict.fromkeys(map(canonical, only)))
    must = {*subjects, *(one.evalset for one in chosen if one.evalset)}
    if isinstance(built, ArrayData):
        return _of_arrays(built, chosen, must)
    # A pass over everything takes what is there; passes that name their sets take those and no other.
    free = any(not one.evalset for one in chosen)
    names = subjects or tuple(n for n in (DATASET, *discover.names(KIND)) if free or n in must)
    present: list[Provider] = []
    absent: list[str] = []
    for name in names:
        if name == DATASET:
            present.append(OwnRows(built))
        elif (built.root / "evalsets" / name).is_dir():
            present.append(Films(built, name))
        elif folder is not None and (folder / name).is_dir():
            collections = PreparedSet.of(folder / name, name)
            if not collections and name in must:
                raise EvalsetError(
                    f"{folder / name} holds no videos and no images: a trained model cannot embed its arrays"
                )
            present += collections
        elif name in must:
            absent.append(f"evaluation set {name} is not in {folder or f'./{DEFAULT}'}{_how_to_get(name, folder)}")
    if absent:
        raise EvalsetError("; ".join(absent))
    return score.wanted(chosen, present)


def _of_arrays(data: ArrayData, chosen: Sequence[Pass], must: Collection[str]) -> tuple[Provider, ...]:
    """The set itself: a model of its shapes can embed no other."""
    if other := sorted(set(must) - {data.name}):
        raise EvalsetError(
            f"a model of {data.name}'s arrays cannot embed {other[0]}: name {data.name}, or leave it out"
        )
    own = score.wanted(chosen, [ArraySubject(data)])
    if not own:
        suites = ", ".join(one.suite for one in chosen)
        raise UsageError(f"{suites} has nothing to say of {data.name}: see `birdmml list` for other suites")
    return own


def _how_to_get(name: str, folder: Path | None) -> str:
    """What to download and the command that prepares it; ends the line that says where a set is not."""
    module = discover.load(KIND, name)
    if not hasattr(module, "KIND"):
        return " and not in the dataset: it comes with data of its own"
    place = (folder or DEFAULT) / name
    shown = place if place.is_absolute() or str(place).startswith(".") else f"./{place}"
    download, card = getattr(module, "DOWNLOAD", None), module.CARD
    source = f"get it from {card.url or 'its authors'} ({card.license})" if download is None else download.words()
    file = getattr(download, "argument", "PATH")
    return f": {source}, then run `birdmml prepare {name} --from {file} --out {shown}`"


@dataclass(frozen=True)
class Choice:
    """What may be chosen for a run.

    `overrides` are "training.epochs=3", "method.temperature=0.1", "zero-shot.split=all". `evalsets` is where prepared
    evaluation sets lie, `only` restricts to some subjects ("dataset", "ssw60"). A protocol says by itself what is
    trained and measured: under one, only `seeds`, `device`, `limit` and `evalsets` may be chosen.
    """

    suites: Sequence[str] = SUITES
    preset: str = "tiny"
    overrides: Sequence[str] = ()
    seeds: int | None = None
    first_seed: int = 0
    device: str = "auto"
    limit: int | None = None
    checkpoint: Path | None = None
    evalsets: Path | None = None
    only: Sequence[str] = ()


@dataclass(frozen=True)
class BenchPlan:
    """Everything that decides a run of a trained model, checked; made by `plan`, or by `birdmml.bench.plan`.

    Whatever follows from the settings is worked out here, once, and carried to where the run needs it. `device` is one
    that is there, not "auto". `protocol` is {"name", "digest", "departures"} of the frozen protocol that it follows, or
    None.
    """

    recipe: Recipe
    passes: tuple[Pass, ...]
    seeds: tuple[int, ...]
    device: str
    checkpoint: Checkpoint | None = None
    providers: tuple[Provider, ...] = field(default=())
    protocol: Mapping[str, Any] | None = None

    @property
    def built(self) -> Built | ArrayData:
        """The dataset."""
        return self.recipe.built

    @property
    def method(self) -> str:
        """The method's name, or the path of the user's own."""
        return self.recipe.method

    @property
    def demo(self) -> bool:
        """Whether anything of it is procedurally generated and says nothing about birds."""
        return self.built.demo or any(p.demo for p in self.providers)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The settings that a result records, as JSON values."""
        r = self.recipe
        # Of sets that have a prompt of their own; the bare name is a suite's option already.
        prompts = {p.subject.name: p.subject.prompt for p in self.providers if p.subject.prompt not in ("", BARE)}
        return {
            "preset": settings.to_dict(r.preset),
            "method": settings.to_dict(r.config),
            **({} if r.method_file is None else {"method_file": dict(r.method_file)}),
            "weights": r.preset.encoders.weights,
            "suites": score.stated(self.passes),
            "evalsets": {p.subject.name: p.digest for p in self.providers},
            **({"prompts": prompts} if prompts else {}),
            "limit": r.limit,
            "trained_here": self.checkpoint is None,
            **({} if self.protocol is None else {"protocol": dict(self.protocol)}),
        }

    @cached_property
    def name(self) -> str:
        """The result's folder: readable, and different for different settings or data."""
        # "preset" decides the values; the digest keeps runs with other values apart.
        key = settings.digest([self.values, self.recipe.label, list(self.seeds), self.built.digest])[:8]
        of = [] if self.protocol is None else [str(self.protocol["name"])]
        return "-".join([*recipe.name_parts(self.recipe), *of, key])


def plan(data: Path, method: str | None, choice: Choice | None = None) -> BenchPlan:
    """Check a run before anything is read or trained. `method` None: that of the checkpoint.

    Raises UsageError, UnknownName, DatasetError, EvalsetError or CheckpointError, each with the next step.
    """
    choice = choice or Choice()
    name = None if method is None else discover.canonical("method", method)
    passes, rest = score.passes_of(choice.suites, choice.overrides)
    count, first = 1 if choice.seeds is None else choice.seeds, choice.first_seed
    if not 1 <= count <= MAX_SEEDS or first < 0:
        raise UsageError(f"--seeds {count} --seed {first}: give 1 to {MAX_SEEDS} seeds, from 0 up")
    check_limit(choice.limit)
    device = pick_device(choice.device).type
    built = opened(data)
    sizes = fitted(preset(choice.preset), built)
    check_columns(built)
    if choice.checkpoint is not None:
        if rest or count != 1:
            raise UsageError("--checkpoint is one trained model: leave out --seeds, --set, --epochs, --batch-size")
        ready = checkpoint.load(choice.checkpoint, name)
        name, config, sizes = ready.method, ready.config, ready.preset
        seeds: tuple[int, ...] = (ready.seed,)
        module = discover.load("method", name)
    elif name is not None:
        ready, seeds = None, tuple(range(first, first + count))
        module = discover.load("method", name)
        config, sizes = configured(module, sizes, rest)
    else:
        raise UsageError("name a method to train, or give a checkpoint")
    check_sizes(sizes, built)
    recipe = Recipe(built, name, config, choice.preset.strip().casefold(), sizes, choice.limit, _own_file(module))
    return BenchPlan(recipe, passes, seeds, device, ready, providers(built, choice.evalsets, passes, choice.only))


def check_limit(limit: int | None) -> None:
    """Raise UsageError for a limit that leaves too little."""
    if limit is not None and limit < 4:
        raise UsageError(f"--limit {limit}: four rows at least are needed to train and score")


def _own_file(module: ModuleType) -> Mapping[str, str] | None:
    """Name and digest of the user's own method; where it lies is nobody else's business."""
    origin = discover.origin(module)
    return None if origin is None else origin | {"path": discover.label(origin["path"])}


def plans(protocol: Protocol, methods: Sequence[str], data: Path, choice: Choice) -> tuple[BenchPlan, ...]:
    """One plan for each method by its name, or for every method of the protocol where `methods` is empty.

    Fewer `seeds` than the protocol's and a `limit` are departures from it, which the plans say. Raises UsageError for
    what this installation cannot carry out, EvalsetError for a set that is not prepared.
    """
    passes = check(protocol)
    check_limit(choice.limit)
    device = pick_device(choice.device).type
    passes, built = _of_data(protocol, passes, data)
    chosen = [_method(protocol, m) for m in methods] or [(m, True) for m in protocol.methods]
    subjects = providers(built, choice.evalsets, passes)
    departures = _departures(protocol, built, choice)
    plans = []
    for method, listed in chosen:
        recipe = _recipe(protocol, method, built, choice.limit)
        record = {
            "name": protocol.name,
            "digest": protocol.digest,
            "departures": departures + ([] if listed else [f"method {method.name} is added"]),
        }
        seeds = protocol.seeds[: choice.seeds]  # The first ones, so that fewer seeds are part of the full run.
        plans.append(BenchPlan(recipe, passes, seeds, device, None, subjects, record))
    return tuple(plans)


def check(protocol: Protocol) -> tuple[Pass, ...]:
    """Its passes. Raises UsageError where it cannot be carried out here, saying what is missing or what to run."""
    if protocol.data.source == "computed":
        raise UsageError(f"protocol {protocol.name} needs no dataset: run `{_xor(protocol)}`")
    if lacking := protocol.missing():
        raise UsageError(
            f"protocol {protocol.name} needs {', '.join(lacking)}: this birdmml has none; see `birdmml list`"
        )
    return tuple(map(_pass, protocol.evaluate))


def _of_data(protocol: Protocol, passes: tuple[Pass, ...], data: Path) -> tuple[tuple[Pass, ...], Built | ArrayData]:
    """The passes and the data; where each set trains its own models, those over the set at hand."""
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
        elif value != default:  # What says no more than the default may lack here: it changes nothing.
            raise UsageError(
                f"suite {suite} of this birdmml has no option {key}: the protocol asks for {key} = {value}"
            )
    return Pass(suite, options, canonical(one.evalset))


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
    own = next((m for m in protocol.methods if discover.canonical("method", m.name) == key), None)
    return (Method(key), False) if own is None else (own, True)


def _recipe(protocol: Protocol, method: Method, built: Built | ArrayData, limit: int | None) -> Recipe:
    key = discover.canonical("method", method.name)
    if protocol.train is None:  # Only "computed" has none, which `check` refuses.
        raise UsageError(f"protocol {protocol.name} does not say how to train")
    overrides = [*protocol.train.overrides, *method.assignments]
    start = fitted(preset(protocol.train.preset), built)
    module = discover.load("method", key)
    config, sizes = configured(module, start, overrides)
    check_sizes(sizes, built)
    return Recipe(built, key, config, protocol.train.preset, sizes, limit, _own_file(module))


def _departures(protocol: Protocol, built: Built | ArrayData, choice: Choice) -> list[str]:
    """Where a run differs from what the protocol says, a line each."""
    lines = []
    if choice.seeds is not None and choice.seeds != len(protocol.seeds):
        if not 1 <= choice.seeds <= len(protocol.seeds):
            raise UsageError(f"--seeds {choice.seeds}: protocol {protocol.name} has {len(protocol.seeds)}, give fewer")
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
        fewer = [f"{rows.get(s, 0):,} of {n:,} {s} rows" for s, n in published["samples"].items() if rows.get(s) != n]
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

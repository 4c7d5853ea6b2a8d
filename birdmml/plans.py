"""Everything that decides a run, checked before anything is read or trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml import checkpoint as checkpoints
from birdmml import discover, models, passes, settings, wanted
from birdmml.array_data import ArrayData, check_sizes, fitted, opened
from birdmml.checkpoint import Checkpoint
from birdmml.device import pick_device
from birdmml.errors import UsageError
from birdmml.load import Built
from birdmml.materials import Provider
from birdmml.models import Recipe
from birdmml.nn.presets import preset
from birdmml.passes import Pass
from birdmml.suites._material import BARE
from birdmml.training.plan import check_columns, configured

MAX_SEEDS = 100
SUITES = ("retrieval", "zero-shot")


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
    """Everything that decides a run of a trained model, checked; made by `plan`, or by `birdmml.by_protocol`.

    `protocol` is {"name", "digest", "departures"} of the frozen protocol that it follows, or None.
    """

    recipe: Recipe
    passes: tuple[Pass, ...]
    seeds: tuple[int, ...]
    device: str = "auto"
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

    def values(self) -> dict[str, Any]:
        """The settings that a result records, as JSON values."""
        r = self.recipe
        return {
            "preset": settings.to_dict(r.preset),
            "method": settings.to_dict(r.config),
            **({} if r.method_file is None else {"method_file": dict(r.method_file)}),
            "weights": r.preset.encoders.weights,
            "suites": passes.stated(self.passes),
            "evalsets": {p.subject.name: p.digest for p in self.providers},
            **_prompts(self.providers),
            "limit": r.limit,
            "trained_here": self.checkpoint is None,
            **({} if self.protocol is None else {"protocol": dict(self.protocol)}),
        }

    @property
    def name(self) -> str:
        """The result's folder: readable, and different for different settings or data."""
        # "preset" decides the values; the digest keeps runs with other values apart.
        key = settings.digest(
            [self.values(), discover.label(self.method), list(self.seeds), self.built.digest]
        )[:8]
        of = [] if self.protocol is None else [str(self.protocol["name"])]
        return "-".join([*models.name_parts(self.recipe), *of, key])


def plan(data: Path, method: str, choice: Choice | None = None) -> BenchPlan:
    """Check a run before anything is read or trained.

    Raises UsageError, UnknownName, DatasetError, EvalsetError or CheckpointError, each with the next step.
    """
    choice = choice or Choice()
    name = discover.canonical("method", method)
    options, rest = passes.passes_of(choice.suites, choice.overrides)
    count, first = 1 if choice.seeds is None else choice.seeds, choice.first_seed
    if not 1 <= count <= MAX_SEEDS or first < 0:
        raise UsageError(f"--seeds {count} --seed {first}: give 1 to {MAX_SEEDS} seeds, from 0 up")
    check_limit(choice.limit)
    pick_device(choice.device)
    built = opened(data)
    sizes = fitted(preset(choice.preset), built)
    check_columns(built)
    if choice.checkpoint is None:
        ready, seeds = None, tuple(range(first, first + count))
        config, sizes = configured(discover.load("method", name), sizes, rest)
    else:
        if rest or count != 1:
            raise UsageError(
                "--checkpoint is one trained model: leave out --seeds, --set, --epochs, --batch-size"
            )
        ready = checkpoints.load(choice.checkpoint, name)
        config, sizes, seeds = ready.config, ready.preset, (ready.seed,)
    check_sizes(sizes, built)
    recipe = Recipe(
        built, name, config, choice.preset.strip().casefold(), sizes, choice.limit, own_file(name)
    )
    subjects = wanted.providers(built, choice.evalsets, options, choice.only)
    return BenchPlan(recipe, options, seeds, choice.device, ready, subjects)


def _prompts(providers: Sequence[Provider]) -> dict[str, Any]:
    """The prompts of sets that have one of their own."""
    own = {p.subject.name: p.subject.prompt for p in providers if p.subject.prompt not in ("", BARE)}
    return {"prompts": own} if own else {}


def check_limit(limit: int | None) -> None:
    """Raise UsageError for a limit that leaves too little."""
    if limit is not None and limit < 4:
        raise UsageError(f"--limit {limit}: four rows at least are needed to train and score")


def own_file(method: str) -> Mapping[str, str] | None:
    """Name and digest of the user's own method; where it lies is nobody else's business."""
    module: ModuleType = discover.load("method", method)
    origin = discover.origin(module)
    return None if origin is None else origin | {"path": discover.label(origin["path"])}

"""Frozen protocols: TOML files that say what to train on, how, and what to measure (benchmarks/protocols/).

A protocol is known by its name and its digest. A frozen one is never changed: what differs gets a new name.
"""

from __future__ import annotations

import dataclasses
import math
import re
import string
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from birdmml.core import discover, files, settings
from birdmml.errors import UnknownName, UsageError
from birdmml.results import paper

MAX_LIST, MAX_COUNT, MAX_SEED = 100, 1000, 2**32 - 1
DATASET = "dataset"  # as an evaluation set: the test split of the dataset that is trained on
FIELDS = ("common_name", "scientific_name", "class_name")
# Which tables of options a suite of ours takes; another one takes any.
TAKES = {
    "zero-shot": {"zero_shot"},
    "few-shot": {"few_shot"},
    "linear-probe": set(),
    "noise": {"noise", "zero_shot"},
    "competition": {"zero_shot"},
    "retrieval": set(),
    "affect": set(),
    "xor": {"xor"},
}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class TrainData:
    """What is trained on.

    `source`: "release" (the published Bird-MML), "any" (whatever `birdmml build` made), "evalset" (each evaluation
    set's own training rows), "computed" (XOR). The last two bring their own split and texts.
    """

    source: Literal["release", "any", "evalset", "computed"]
    split: Literal["grouped", "released", "own"] = "own"
    caption: Literal["caption", "caption_name_free", "own"] = "own"

    def __post_init__(self) -> None:
        own = self.source in ("evalset", "computed")
        if any((value == "own") != own for value in (self.split, self.caption)):
            must = "bring their own" if own else "must be said"
            raise UsageError(f'data.source = "{self.source}": data.split and data.caption {must}')


@dataclass(frozen=True)
class Train:
    """A preset's name and what differs from it, as `birdmml bench --set` takes it."""

    preset: str
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _assignments("train.overrides", self.overrides)


@dataclass(frozen=True)
class Method:
    """A method; an empty `variant` is for those that have none. `overrides` are names of its Config, bare."""

    name: str
    variant: Literal["", "paper", "reference"] = ""
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _assignments(f"overrides of {self.name}", self.overrides)

    @property
    def assignments(self) -> tuple[str, ...]:
        """As `birdmml bench --set` takes them: "method.variant=paper"."""
        variant = (f"variant={self.variant}",) if self.variant else ()
        return tuple(f"method.{text}" for text in (*variant, *self.overrides))


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on one modality at a time, at each SNR in dB."""

    snr_db: tuple[float, ...]

    def __post_init__(self) -> None:
        _filled("noise.snr_db", self.snr_db)
        if not all(math.isfinite(level) for level in self.snr_db):
            raise UsageError("noise.snr_db must be finite")


@dataclass(frozen=True)
class FewShot:
    """Labelled items a class, and how many random draws of each number."""

    shots: tuple[int, ...]
    draws: int = 10

    def __post_init__(self) -> None:
        _filled("few_shot.shots", self.shots)
        if not all(1 <= number <= MAX_COUNT for number in (*self.shots, self.draws)):
            raise UsageError(f"few_shot.shots and few_shot.draws must lie in 1 to {MAX_COUNT}")


@dataclass(frozen=True)
class ZeroShotTable:
    """Prompts with one of FIELDS in braces (none: the evaluation set's own); `sweep` scores single frames, too."""

    templates: tuple[str, ...] = ()
    sweep: bool = False

    def __post_init__(self) -> None:
        for template in self.templates:
            _template(template)


@dataclass(frozen=True)
class Xor:
    """The shares p of samples with i = 1, and what every method is trained with, as `bench --suite xor` takes it."""

    p: tuple[float, ...]
    dim: int = 16
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        _filled("xor.p", self.p)
        if not all(0 <= share <= 1 for share in self.p):
            raise UsageError("xor.p must lie in 0 to 1")
        if not 0 < self.learning_rate < math.inf or min(self.dim, self.steps, self.batch_size) < 1:
            raise UsageError("xor.learning_rate, dim, steps and batch_size must be over 0")


@dataclass(frozen=True)
class SuiteOptions:
    """What a suite is told; a suite that has no table takes none."""

    noise: Noise | None = None
    few_shot: FewShot | None = None
    zero_shot: ZeroShotTable | None = None
    xor: Xor | None = None


@dataclass(frozen=True)
class Evaluate:
    """One suite on one evaluation set. `split` "all" also has rows meant for training: only to compare with others."""

    suite: str
    evalset: str
    split: Literal["test", "validation", "all"] = "test"
    options: SuiteOptions = SuiteOptions()

    def __post_init__(self) -> None:
        _named(self.suite)
        _named(self.evalset)
        options = {f.name for f in dataclasses.fields(self.options) if getattr(self.options, f.name) is not None}
        if wrong := options - TAKES.get(self.suite.replace("_", "-"), options):
            raise UsageError(f"options.{min(wrong)} means nothing to the suite {self.suite}: leave it out")


@dataclass(frozen=True)
class Paper:
    """Tables of benchmarks/paper/ to show beside."""

    tables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.tables:
            if name not in paper.tables():
                raise UnknownName("table of the paper", name, paper.tables())


@dataclass(frozen=True)
class Protocol:
    """One protocol. `departures` say where it knowingly differs from what it follows; `train` is None for XOR."""

    schema_version: int
    name: str
    summary: str
    purpose: str
    data: TrainData
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    evaluate: tuple[Evaluate, ...]
    train: Train | None = None
    frozen: bool = False
    departures: tuple[str, ...] = ()
    paper: Paper = Paper()

    def __post_init__(self) -> None:
        _named(self.name)
        if (self.train is None) != (self.data.source == "computed"):
            raise UsageError('train must be there, but for data.source = "computed", where options.xor say it')
        _filled("methods", self.methods)
        _filled("evaluate", self.evaluate)
        _filled("seeds", self.seeds)
        if not 0 <= min(self.seeds) <= max(self.seeds) <= MAX_SEED:
            raise UsageError(f"seeds must lie in 0 to {MAX_SEED}")

    @property
    def digest(self) -> str:
        """Hex SHA-256 of what the protocol says: comments, the order of keys and spelled-out defaults do not matter.

        Fields at their default are left out, so that a field added later changes no digest. For the same reason
        the defaults of this file never change within a schema version.
        """
        return files.digest(_stated(self))

    def missing(self) -> tuple[str, ...]:
        """What this installation lacks to carry it out: "suite few-shot", "evaluation set ssw60"."""
        wanted = [("method", m.name) for m in self.methods]
        wanted += [("suite", e.suite) for e in self.evaluate if e.suite != "xor"]  # is a command of its own
        wanted += [("evaluation set", e.evalset) for e in self.evaluate if e.evalset != DATASET]
        return tuple(f"{kind} {name}" for kind, name in dict.fromkeys(wanted) if not _known(kind, name))


def _stated(value: Any) -> Any:
    """Plain values of a dataclass, without the fields that are at their default."""
    if dataclasses.is_dataclass(value):
        stated = {f.name: (getattr(value, f.name), f.default) for f in dataclasses.fields(value)}
        return {name: _stated(setting) for name, (setting, default) in stated.items() if setting != default}
    return [_stated(item) for item in value] if isinstance(value, tuple) else value


def _known(kind: str, name: str) -> bool:
    try:
        discover.canonical(kind, name)
    except UsageError:
        return False
    return True


def _filled(what: str, values: tuple[Any, ...]) -> None:
    if not 1 <= len(values) <= MAX_LIST:
        raise UsageError(f"{what} has {len(values)} entries: give 1 to {MAX_LIST}")
    doubled = [value for i, value in enumerate(values) if value in values[:i]]
    if doubled:
        raise UsageError(f"{what} has {doubled[0]} twice: leave one out")


def _named(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name: use lower-case letters, digits, - and _")


def _assignments(what: str, texts: tuple[str, ...]) -> None:
    if wrong := next((text for text in texts if "=" not in text), None):
        raise UsageError(f'{what}: {wrong!r} is not NAME=VALUE, as "training.epochs=3"')


def _template(text: str) -> None:
    try:
        used = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as e:
        raise UsageError(f"zero_shot.templates: {text!r} has braces without a partner") from e
    if not used:
        raise UsageError(f"zero_shot.templates: {text!r} names no class: write {{common_name}} in it")
    for field in used:
        if field not in FIELDS:
            raise UnknownName("field of a prompt", field, FIELDS)


SCHEMA_VERSION = 1
MAX_BYTES = 2**16


def names() -> tuple[str, ...]:
    """The protocols that come with birdmml, sorted."""
    return tuple(sorted(path.stem for path in files.folder("protocols").glob("*.toml")))


def load(name: str) -> Protocol:
    """The protocol of that name, or of the user's own file where `name` ends in .toml.

    Raises UnknownName for a protocol or a key that nobody knows, with the nearest; UsageError, with the file, for
    anything else that is wrong, and for a file that bears the name of a shipped protocol and differs from it.
    """
    if name.strip().endswith(".toml"):
        protocol = _read(Path(name.strip()))
        if protocol.name in names() and protocol.digest != load(protocol.name).digest:
            raise UsageError(f"{name}: {protocol.name} is another, frozen protocol: give yours a name of its own")
        return protocol
    key = name.strip().casefold().replace("_", "-")
    if key not in names():
        raise UnknownName("protocol", name, names(), hint="or give the path of a .toml file")
    return _read(files.folder("protocols") / f"{key}.toml")


def digest(name: str) -> str:
    """Hex SHA-256 of what the protocol of that name or path says; see `Protocol.digest`."""
    return load(name).digest


def _read(path: Path) -> Protocol:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"it is larger than {files.human_bytes(MAX_BYTES)}: that is no protocol")
        values = tomllib.loads(content.decode())
        # Before anything else: another version may have other keys.
        if (version := values.get("schema_version")) != SCHEMA_VERSION:
            raise UsageError(f"schema_version is {version}: this birdmml reads {SCHEMA_VERSION}")
        return settings.from_dict(Protocol, values)
    except UnknownName:
        raise  # The key and the nearest ones say enough.
    except UsageError as e:
        raise UsageError(f"{path}: {e}") from e
    except OSError as e:
        raise UsageError(f"{path} cannot be read ({e.strerror or e}): give the path of a protocol") from e
    # No UTF-8, no TOML, a number too long for Python, nesting too deep: all mean the same.
    except (ValueError, OverflowError, RecursionError) as e:
        raise UsageError(f"{path} is not a protocol in TOML ({e}): see benchmarks/protocols/README.md") from e

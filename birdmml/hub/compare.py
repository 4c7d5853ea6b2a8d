"""Whether a result is one of this checkpoint: what can be compared is, what cannot is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml import discover, settings
from birdmml.checkpoint import Checkpoint
from birdmml.errors import ResultError, UsageError
from birdmml.leaderboard.verify import verify
from birdmml.nn.presets import Preset
from birdmml.schema import Result

WEIGHTS = "weights"


@dataclass(frozen=True)
class Scored:
    """A verified result of the model that is published.

    `at` is the place of its seed among the result's; `unknown` names what the two do not let anybody compare.
    """

    folder: Path
    result: Result
    at: int
    unknown: tuple[str, ...]


def scored(folder: Path, ready: Checkpoint, weights_sha256: str) -> Scored:
    """Compute a result's figures again and compare its model with `ready`.

    Raises ResultError where a figure does not follow from its items, or the result is of another model.
    """
    result = verify(folder)
    unknown = []
    for what, theirs, ours in _pairs(folder, result, ready):
        if theirs is None or ours is None:
            unknown.append(what)
        elif theirs != ours:
            raise _other(folder, what, theirs, ours)
    if ready.seed not in result.seeds:
        raise _other(folder, "seed", ", ".join(map(str, result.seeds)), ready.seed)
    kept = _kept_weights(result, ready.seed)
    if kept is None:
        unknown.append(WEIGHTS)
    elif kept != weights_sha256:
        raise _other(folder, "weights of SHA-256", kept[:12], weights_sha256[:12])
    return Scored(folder, result, result.seeds.index(ready.seed), tuple(unknown))


def _pairs(folder: Path, result: Result, ready: Checkpoint) -> Iterator[tuple[str, Any, Any]]:
    """(what, the result's, the checkpoint's); None where one of them does not say."""
    held = result.settings
    yield "method", result.method, discover.label(ready.method)
    if result.method == discover.label(ready.method):
        yield from _differing(folder, "method.", type(ready.config), held.get("method"), ready.config)
    yield from _differing(folder, "", Preset, held.get("preset"), ready.preset)
    yield "method file", _sha256(held.get("method_file")), _sha256(ready.network.method_file)
    yield "training data", result.dataset.get("trained_on") or None, ready.dataset.get("digest")
    same_data = ready.dataset.get("digest") == result.dataset.get("digest")
    if same_data:
        yield "demo", result.demo, ready.dataset.get("demo")
    if held.get("trained_here") and "limit" in ready.dataset:
        yield "limit", str(held.get("limit")), str(ready.dataset["limit"])


def _differing(
    folder: Path, prefix: str, kind: type[Any], held: Any, ours: Any
) -> Iterator[tuple[str, Any, Any]]:
    """The settings whose values differ, by name; what an older result lacks is at its default."""
    if not isinstance(held, Mapping):
        yield f"{prefix or 'preset '}settings", None, None
        return
    try:
        theirs = dict(flat(settings.to_dict(settings.from_dict(kind, held)), prefix))
    except (UsageError, TypeError) as e:
        raise ResultError(f"{folder} has settings that this version does not know: {e}") from e
    for name, value in flat(settings.to_dict(ours), prefix):
        if theirs.get(name) != value:
            yield name, str(theirs.get(name)), str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names and plain values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _sha256(file: Any) -> str:
    """The digest of the user's own method; "none" for birdmml's own."""
    return str(file.get("sha256")) if isinstance(file, Mapping) else "none"


def _kept_weights(result: Result, seed: int) -> str | None:
    """The digest of the weights of `seed` that the result was scored with, if it says."""
    for model in result.models:
        value = model.get("weights_sha256") if isinstance(model, Mapping) else None
        if model.get("seed") == seed and isinstance(value, str) and value:
            return value
    return None  # Nothing to compare with is told, not guessed.


def _other(folder: Path, what: str, theirs: Any, ours: Any) -> ResultError:
    return ResultError(
        f"{folder} is of another model: {what} {theirs}, the checkpoint's is {ours}; score this one with"
        " `birdmml bench --checkpoint`"
    )

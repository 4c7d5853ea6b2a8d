"""The model card: README.md of a published model, from its checkpoint and its verified results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from birdmml import __version__
from birdmml.core import discover, settings
from birdmml.core.licenses import UNKNOWN_LICENSE
from birdmml.core.text import markdown, printable, templates
from birdmml.errors import ResultError, UsageError
from birdmml.hub import TAGS, TEMPLATES
from birdmml.leaderboard.verify import verify
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.presets import Preset
from birdmml.schema import Figure, Result, shown

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


# Whether a result is one of this checkpoint: what can be compared is, what cannot is told.
WEIGHTS = "weights"


@dataclass(frozen=True)
class VerifiedResult:
    """A verified result of the model that is published.

    `at` is the place of its seed among the result's; `unknown` names what the two do not let anybody compare.
    """

    folder: Path
    result: Result
    at: int
    unknown: tuple[str, ...]


def scored(folder: Path, ready: Checkpoint, weights_sha256: str) -> VerifiedResult:
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
    return VerifiedResult(folder, result, result.seeds.index(ready.seed), tuple(unknown))


def _pairs(folder: Path, result: Result, ready: Checkpoint) -> Iterator[tuple[str, Any, Any]]:
    """(what, the result's, the checkpoint's); None where one of them does not say."""
    held = result.settings
    yield "method", result.method, discover.label(ready.method)
    if result.method == discover.label(ready.method):
        yield from _differing(folder, "method.", type(ready.config), held.get("method"), ready.config)
    yield from _differing(folder, "", Preset, held.get("preset"), ready.preset)
    yield "method file", _sha256(held.get("method_file")), _sha256(ready.network.method_file)
    yield "training data", result.dataset.get("trained_on") or None, ready.dataset.get("digest")
    if ready.dataset.get("digest") == result.dataset.get("digest"):
        yield "demo", result.demo, ready.dataset.get("demo")
    if held.get("trained_here") and "limit" in ready.dataset:
        yield "limit", str(held.get("limit")), str(ready.dataset["limit"])


def _differing(folder: Path, prefix: str, kind: type[Any], held: Any, ours: Any) -> Iterator[tuple[str, Any, Any]]:
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


DEMO_NAME = "birdmml demo (generated; not Bird-MML)"


@dataclass(frozen=True)
class ModelAbout:
    """What the publisher says of a model.

    `license` is one of the Hub's ids, `dataset` the Hub's name of the training data or "". `licenses` are the rows
    by licence of each part of the training data, None where nobody has said. `benchmark` is the Hub's name of a
    benchmark dataset that collects the figures, or "".
    """

    repo: str
    license: str = UNKNOWN_LICENSE
    dataset: str = ""
    licenses: Mapping[str, Mapping[str, int]] | None = None
    benchmark: str = ""


@dataclass(frozen=True)
class ResultFolder:
    """A result and the folder that holds it in the repository."""

    folder: str
    scored: VerifiedResult
    tables: tuple[tuple[str, tuple[Figure, ...]], ...] = field(default=())


def is_demo(ready: Checkpoint) -> bool:
    """Whether a model was trained on generated data."""
    return bool(ready.dataset.get("demo")) or str(ready.dataset.get("name", "")).startswith("birdmml-demo")


def render(ready: Checkpoint, weights_sha256: str, shelves: Sequence[ResultFolder], about: ModelAbout) -> str:
    """The card as Markdown with YAML front matter; nothing that others wrote becomes markup in it."""
    # Rows whose licence forbids commercial use, changes, or is unknown.
    restricted = {"NC": 0, "ND": 0, UNKNOWN_LICENSE: 0}
    for counts in (about.licenses or {}).values():
        for spdx, rows in counts.items():
            for term in ("NC", "ND"):
                restricted[term] += rows if term in spdx.split("-") else 0
            restricted[UNKNOWN_LICENSE] += rows if spdx == UNKNOWN_LICENSE else 0
    return _template().render(
        front_matter=Markup(_front_matter(ready, shelves, about)),  # noqa: S704  # a YAML writer's own quoting
        about=about,
        repo=Markup(about.repo),  # noqa: S704  # letters, digits, "-", "_", ".": checked
        name=about.repo.split("/")[1],
        method=discover.label(ready.method),
        method_file=ready.network.method_file,
        summary=str(discover.load("method", ready.method).CARD.summary),
        demo=is_demo(ready),
        demo_results=any(s.scored.result.demo for s in shelves),
        ready=ready,
        weights_sha256=weights_sha256,
        parameters=ready.network.parameters_by_part(),
        variant=str(getattr(ready.config, "variant", "")),
        facts=[(_line(name), str(value)) for name, value in _facts(ready)],
        training=[*_shown("method.", ready.config), *_shown("training.", ready.preset.training)],
        shelves=[ResultFolder(s.folder, s.scored, tuple(_tables(s.scored))) for s in shelves],
        restricted=restricted,
        version=__version__,
    )


def _facts(ready: Checkpoint) -> Iterator[tuple[str, Any]]:
    """What the checkpoint says of its training; a part that is not of the expected kind is left out."""
    data, done, source = ready.dataset, ready.training, ready.provenance
    yield "data", f"{data.get('name') or 'not recorded'}{' (demo)' if is_demo(ready) else ''}"
    yield "data digest", data.get("digest") or "not recorded"
    yield from ((f"{split} rows", rows) for split, rows in _mapping(data.get("rows")).items())
    if data.get("limit"):
        yield "limited to", f"{data['limit']} rows a split"
    yield "seed", ready.seed
    pretrained = ready.preset.encoders.weights == "pretrained"
    yield "initial weights", "those of the named models" if pretrained else "random: nothing was downloaded"
    yield from ((name, done[key]) for key, name in (("seconds", "seconds"), ("steps", "steps")) if key in done)
    history = done.get("history")
    if isinstance(history, list) and history:
        yield "epochs done", len(history)
        yield from ((f"last epoch's {term}", value) for term, value in _mapping(history[-1]).items())
    code, hardware = _mapping(source.get("code")), _mapping(source.get("hardware"))
    changed = ", with uncommitted changes" if code.get("dirty") else ""
    commit = f", commit {code['commit']}" if code.get("commit") else ""
    yield "birdmml", f"{source.get('birdmml') or 'not recorded'}{commit}{changed}"
    packages = _mapping(source.get("packages"))
    yield "packages", ", ".join(f"{name} {number}" for name, number in packages.items())
    yield "hardware", ", ".join(str(hardware[key]) for key in ("cpu", "accelerator") if hardware.get(key))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _shown(prefix: str, values: Any) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in flat(settings.to_dict(values), prefix)]


def _tables(scored: VerifiedResult) -> Iterator[tuple[str, tuple[Figure, ...]]]:
    figures = scored.result.figures
    for suite, evalset in dict.fromkeys((f.suite, f.evalset) for f in figures):
        yield f"{suite}, {evalset}", tuple(f for f in figures if (f.suite, f.evalset) == (suite, evalset))


def _front_matter(ready: Checkpoint, shelves: Sequence[ResultFolder], about: ModelAbout) -> str:
    from huggingface_hub import ModelCardData

    eval_results = [r for shelf in shelves for r in _eval_results(shelf.scored, about)]
    data = ModelCardData(
        language="en",
        license=about.license,
        library_name="birdmml",
        pipeline_tag="feature-extraction",
        tags=[*TAGS, _line(discover.label(ready.method)), *(["synthetic", "demo"] if is_demo(ready) else [])],
        datasets=[about.dataset] if about.dataset else None,
        model_name=about.repo.split("/")[1] if eval_results else None,
        eval_results=eval_results or None,
    )
    return str(data.to_yaml())


def _eval_results(scored: VerifiedResult, about: ModelAbout) -> Iterator[EvalResult]:
    """Each figure as the Hub's evaluation-result metadata: this model's own value, the others' beside it."""
    from huggingface_hub import EvalResult

    result = scored.result
    name = DEMO_NAME if result.demo else _line(str(result.dataset.get("name") or "unnamed"))
    on_training_data = result.dataset.get("digest") == result.dataset.get("trained_on")
    limit = result.settings.get("limit")
    # The dataset's name as an id; the Hub's own id is used only where the publisher gives it.
    slug = "-".join(re.findall(r"[a-z0-9]+", str(result.dataset.get("name", "")).lower())) or "unnamed"
    for f in result.figures:
        task_type = _line(f.suite)
        if f.suite == "zero-shot":
            task_type = "zero-shot-image-classification" if f.task == "V" else "zero-shot-classification"
        args: dict[str, Any] = {"n": f.n, "chance": f.chance, "mean": f.value, "low": f.low, "high": f.high, "sd": f.sd}
        args |= {"best_possible": f.ceiling, "seeds": list(result.seeds)}
        yield EvalResult(
            task_type=task_type,
            task_name=_line(f.suite),
            dataset_type=about.dataset if on_training_data and about.dataset else slug,
            dataset_name=name,
            dataset_config=_line(f.evalset),
            dataset_split="test",
            dataset_revision=_line(str(result.dataset.get("digest", ""))) or None,
            dataset_args={"limit": limit} if isinstance(limit, int) else None,
            metric_type=_line(f.metric).replace("@", "_at_").replace(" ", "_"),
            metric_name=_line(f"{f.task} {f.metric}"),
            metric_value=f.per_seed[scored.at],
            metric_args={name: value for name, value in args.items() if value is not None},
        )


def _line(text: str) -> str:
    return " ".join(printable(text).split())


def _number(value: float | None, metric: str) -> str:
    return "-" if value is None else shown(metric, value, " %")


@cache
def _template() -> jinja2.Template:
    environment = templates(markdown, TEMPLATES)
    environment.filters["number"] = _number
    return environment.get_template("model_card.md.j2")

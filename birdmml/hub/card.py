"""The model card: README.md of a published model, from its checkpoint and its verified results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from birdmml import __version__, discover, settings
from birdmml.build.report_text import markdown, templates
from birdmml.checkpoint import Checkpoint
from birdmml.hub.compare import Scored, flat
from birdmml.hub.parcel import TAGS, TEMPLATES
from birdmml.licenses import UNKNOWN_LICENSE
from birdmml.schema import Figure, Result, shown
from birdmml.text import printable

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

DEMO_NAME = "birdmml demo (generated; not Bird-MML)"


@dataclass(frozen=True)
class About:
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
class Shelf:
    """A result and the folder that holds it in the repository."""

    folder: str
    scored: Scored
    tables: tuple[tuple[str, tuple[Figure, ...]], ...] = field(default=())


def is_demo(ready: Checkpoint) -> bool:
    """Whether a model was trained on generated data."""
    return bool(ready.dataset.get("demo")) or str(ready.dataset.get("name", "")).startswith("birdmml-demo")


def render(ready: Checkpoint, weights_sha256: str, shelves: Sequence[Shelf], about: About) -> str:
    """The card as Markdown with YAML front matter; nothing that others wrote becomes markup in it."""
    return _template().render(
        front_matter=Markup(_front_matter(ready, shelves, about)),  # noqa: S704  # a YAML writer's own quoting
        about=about,
        repo=Markup(about.repo),  # noqa: S704  # letters, digits, "-", "_", ".": checked
        name=about.repo.split("/")[1],
        method=discover.label(ready.method),
        method_file=ready.network.method_file,
        summary=_summary(ready),
        demo=is_demo(ready),
        demo_results=any(s.scored.result.demo for s in shelves),
        ready=ready,
        weights_sha256=weights_sha256,
        parameters=ready.network.parameters_by_part(),
        variant=str(getattr(ready.config, "variant", "")),
        facts=[(_line(name), str(value)) for name, value in _facts(ready)],
        training=[*_shown("method.", ready.config), *_shown("training.", ready.preset.training)],
        shelves=[Shelf(s.folder, s.scored, tuple(_tables(s.scored))) for s in shelves],
        restricted=_restricted(about.licenses),
        version=__version__,
    )


def _summary(ready: Checkpoint) -> str:
    return str(discover.load("method", ready.method).CARD.summary)


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
    yield from (
        (name, done[key]) for key, name in (("seconds", "seconds"), ("steps", "steps")) if key in done
    )
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


def _tables(scored: Scored) -> Iterator[tuple[str, tuple[Figure, ...]]]:
    figures = scored.result.figures
    for suite, evalset in dict.fromkeys((f.suite, f.evalset) for f in figures):
        yield f"{suite}, {evalset}", tuple(f for f in figures if (f.suite, f.evalset) == (suite, evalset))


def _restricted(licenses: Mapping[str, Mapping[str, int]] | None) -> dict[str, int]:
    """Rows whose licence forbids commercial use, changes, or is unknown."""
    found = {"NC": 0, "ND": 0, UNKNOWN_LICENSE: 0}
    for counts in (licenses or {}).values():
        for spdx, rows in counts.items():
            for term in ("NC", "ND"):
                found[term] += rows if term in spdx.split("-") else 0
            found[UNKNOWN_LICENSE] += rows if spdx == UNKNOWN_LICENSE else 0
    return found


def _front_matter(ready: Checkpoint, shelves: Sequence[Shelf], about: About) -> str:
    from huggingface_hub import ModelCardData

    found = [r for shelf in shelves for r in _eval_results(shelf.scored, about)]
    data = ModelCardData(
        language="en",
        license=about.license,
        library_name="birdmml",
        pipeline_tag="feature-extraction",
        tags=[*TAGS, _line(discover.label(ready.method)), *(["synthetic", "demo"] if is_demo(ready) else [])],
        datasets=[about.dataset] if about.dataset else None,
        model_name=about.repo.split("/")[1] if found else None,
        eval_results=found or None,
    )
    return str(data.to_yaml())


def _eval_results(scored: Scored, about: About) -> Iterator[EvalResult]:
    """Each figure as the Hub's evaluation-result metadata: this model's own value, the others' beside it."""
    from huggingface_hub import EvalResult

    result = scored.result
    name = DEMO_NAME if result.demo else _line(str(result.dataset.get("name") or "unnamed"))
    on_training_data = result.dataset.get("digest") == result.dataset.get("trained_on")
    limit = result.settings.get("limit")
    for f in result.figures:
        yield EvalResult(
            task_type=_task_type(f),
            task_name=_line(f.suite),
            dataset_type=about.dataset if on_training_data and about.dataset else _slug(result),
            dataset_name=name,
            dataset_config=_line(f.evalset),
            dataset_split="test",
            dataset_revision=_line(str(result.dataset.get("digest", ""))) or None,
            dataset_args={"limit": limit} if isinstance(limit, int) else None,
            metric_type=_line(f.metric).replace("@", "_at_").replace(" ", "_"),
            metric_name=_line(f"{f.task} {f.metric}"),
            metric_value=f.per_seed[scored.at],
            metric_args=_judging(f, result.seeds),
        )


def _judging(f: Figure, seeds: Sequence[int]) -> dict[str, Any]:
    """What is needed to judge a value: items, chance, and the mean over seeds with its interval."""
    values: dict[str, Any] = {
        "n": f.n,
        "chance": f.chance,
        "mean": f.value,
        "low": f.low,
        "high": f.high,
        "sd": f.sd,
    }
    values |= {"best_possible": f.ceiling, "seeds": list(seeds)}
    return {name: value for name, value in values.items() if value is not None}


def _slug(result: Result) -> str:
    """The dataset's name as an id; the Hub's own id is used only where the publisher gives it."""
    words = re.findall(r"[a-z0-9]+", str(result.dataset.get("name", "")).lower())
    return "-".join(words) or "unnamed"


def _task_type(f: Figure) -> str:
    if f.suite == "zero-shot":
        return "zero-shot-image-classification" if f.task == "V" else "zero-shot-classification"
    return _line(f.suite)


def _line(text: str) -> str:
    return " ".join(printable(text).split())


def _number(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return shown(metric, value, " %")


@cache
def _template() -> jinja2.Template:
    environment = templates(markdown, TEMPLATES)
    environment.filters["number"] = _number
    return environment.get_template("model_card.md.j2")

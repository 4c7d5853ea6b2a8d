"""What submission.json says of its results; all of it follows from them, so that nobody has to be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from birdmml import files, settings
from birdmml.leaderboard.submission.model import at, items_digest
from birdmml.outcomes import Outcomes
from birdmml.schema import Result

LABELS = (
    "demo",
    "limited",
    "dirty",
    "code unknown",
    "single seed",
    "no protocol",
    "departs from protocol",
    "models unknown",
)


def result_of(name: str, result: Result, items: Mapping[str, Outcomes]) -> dict[str, Any]:
    """One result as submission.json states it; `items` are the outcomes by their file.

    What a result of an older birdmml does not say is None or empty. Values are passed on as they were found: the
    schema judges them.
    """
    fields = settings.to_dict(result)
    source = fields["provenance"]
    return {
        "folder": name,
        "method": fields["method"],
        "variant": at(fields, "settings", "method", "variant", other=""),
        "preset": fields["preset"],
        "demo": fields["demo"],
        "seeds": fields["seeds"],
        "settings": fields["settings"],
        "protocol": at(fields, "settings", "protocol"),
        "dataset": {key: at(fields, "dataset", key, other="") for key in ("name", "digest")},
        "evalsets": at(fields, "settings", "evalsets", other={}),
        "models": [{k: v for k, v in m.items() if k != "loss_by_epoch"} for m in fields["models"]],
        "code": {
            "commit": at(source, "code", "commit"),
            "dirty": at(source, "code", "dirty"),
            "digest": at(source, "code_digest"),
        },
        "environment": {
            "birdmml": at(source, "birdmml"),
            "python": at(source, "python"),
            "packages": at(source, "packages", other={}),
        },
        "hardware": at(source, "hardware", other={}),
        "seconds": fields["seconds"],
        "items": {file: items_digest(outcomes.ids) for file, outcomes in sorted(items.items())},
    }


def labels_of(results: Sequence[Result]) -> list[str]:
    """What a reader must know of them, in the order of LABELS."""
    labels = {label for result in results for label in _labels(result)}
    return [label for label in LABELS if label in labels]


def training_digests(results: Sequence[Result]) -> list[str]:
    """The datasets that birdmml trained the models on, sorted."""
    return sorted({str(d) for r in results if (d := r.dataset.get("trained_on"))})


def newest(results: Sequence[Result]) -> str:
    """The date of the newest result, or "" where none says when it was made."""
    return max((str(r.provenance.get("created_utc", ""))[:10] for r in results), default="")


def _labels(result: Result) -> Iterable[str]:
    if result.demo:
        yield "demo"
    if result.settings.get("limit"):
        yield "limited"
    if at(result.provenance, "code", "dirty"):
        yield "dirty"
    if at(result.provenance, "code", "commit") is None:
        yield "code unknown"
    if len(result.seeds) == 1:
        yield "single seed"
    if result.settings.get("protocol") is None:
        yield "no protocol"
    if at(result.settings, "protocol", "departures"):
        yield "departs from protocol"
    if not result.models:
        yield "models unknown"


def identity(result: Result) -> str:
    """Equal for results that are one result handed in twice."""
    fields = settings.to_dict(result)
    return files.digest(
        [fields["method"], fields["settings"], fields["dataset"], fields["seeds"], fields["figures"]]
    )


def is_date(text: str) -> bool:
    """Whether it is a day of the calendar, YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False

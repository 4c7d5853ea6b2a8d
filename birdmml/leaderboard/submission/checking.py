"""Everything that can be known of a submission without its models: all that is wrong, not only the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from birdmml.core import files, settings
from birdmml.errors import BirdmmlError, ResultError
from birdmml.leaderboard.submission import expected, form, possible, reading
from birdmml.leaderboard.submission.expected import Expected
from birdmml.leaderboard.submission.model import HEAD, CheckReport, Entry, Problem, Submission, at, items_digest
from birdmml.leaderboard.submission.reading import AGAIN, look, name_of
from birdmml.leaderboard.verify import differences
from birdmml.results import outcomes
from birdmml.results.outcomes import Outcomes, inside
from birdmml.results.result import FILE, figure_key
from birdmml.schema import Figure, Result

# What submission.json says of its results; all of it follows from them, so that nobody has to be believed.
LABELS = (
    "demo", "limited", "dirty", "code unknown", "single seed", "no protocol", "departs from protocol", "models unknown",
)  # fmt: skip


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
    holds = (
        result.demo,
        result.settings.get("limit"),
        at(result.provenance, "code", "dirty"),
        at(result.provenance, "code", "commit") is None,
        len(result.seeds) == 1,
        result.settings.get("protocol") is None,
        at(result.settings, "protocol", "departures"),
        not result.models,
    )
    return (label for label, true in zip(LABELS, holds, strict=True) if true)


def identity(result: Result) -> str:
    """Equal for results that are one result handed in twice."""
    fields = settings.to_dict(result)
    return files.digest([fields["method"], fields["settings"], fields["dataset"], fields["seeds"], fields["figures"]])


def is_date(text: str) -> bool:
    """Whether it is a day of the calendar, YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


SCORE = "score again with `birdmml bench`"
MAX_FIGURES = 3000
SAME_DATA = "score, or verify, with the data that it is about"
# What outcomes that are no outcomes can make of a computation.
BROKEN = (BirdmmlError, ValueError, ArithmeticError, MemoryError, IndexError, KeyError)


@dataclass
class _Checked:
    """One result with its outcomes by file, and what is wrong with it."""

    entry: Entry
    items: dict[str, Outcomes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{name_of(self.entry)}/{FILE}"

    def tell(self, problem: str, step: str = SCORE, file: str = "") -> None:
        self.problems.append(Problem(f"{name_of(self.entry)}/{file}" if file else self.name, problem, step))


def check(folder: Path, data: Expected | None = None) -> CheckReport:
    """Read, compute every figure again, and compare the whole with itself, with its protocol and with `data`.

    `data` is what `expected.of_data` makes of the verifier's own copy; without it a list beside the protocol serves.
    Raises ResultError only where there is no submission.
    """
    seen = look(folder)
    with np.errstate(all="ignore"):
        checked = [_checked(entry) for entry in seen.entries]
    notes: list[str] = []
    if seen.about is not None:
        seen.problems += _of_whole(seen.about, checked)
    for one in checked:
        with np.errstate(all="ignore"):
            _figures(one)
        if seen.about is not None:
            claims = {result["folder"]: result for result in reversed(seen.about["results"])}
            notes += _against(one, claims.get(name_of(one.entry)), data)
    about = seen.about
    submission = None if about is None else Submission(folder, about, tuple(seen.entries))
    problems = [*seen.problems, *(p for one in checked for p in one.problems)]
    figures = sum(len(one.entry.result.figures) for one in checked)
    unique = tuple({p.line: p for p in problems}.values())
    return CheckReport(submission, unique, tuple(dict.fromkeys(notes)), figures, len(seen.sizes))


def _checked(entry: Entry) -> _Checked:
    """Read every predictions file that can be read without harm."""
    one = _Checked(entry)
    for file in dict.fromkeys(figure.predictions for figure in entry.result.figures):
        try:
            path = inside(entry.folder, file)
            reading.check(path)
            one.items[file] = outcomes.read(entry.folder, file)
        except BROKEN as e:
            text = str(e).replace(str(entry.folder / file), "").lstrip(": ").removesuffix(": score again")
            text = text or type(e).__name__
            one.tell(text if isinstance(e, ResultError) else f"no predictions file ({text[:200]})", file=file)
    return one


def _figures(one: _Checked) -> None:
    """What is impossible by itself, and what does not follow from the items."""
    result = one.entry.result
    for problem in possible.of_result(result):
        one.tell(problem)
    if len(result.figures) > MAX_FIGURES:
        one.tell(f"{len(result.figures):,} figures, more than {MAX_FIGURES:,}: none was computed", "split it")
        return
    broken = set()
    for file, items in one.items.items():
        for problem in possible.of_items(items):
            one.tell(problem, file=file)
            broken.add(file)
    for figure in result.figures:
        items_of = one.items.get(figure.predictions)
        if items_of is None or figure.predictions in broken:
            continue
        for problem in _of_figure(result, figure, items_of):
            one.tell(problem)


def _of_figure(result: Result, figure: Figure, items: Outcomes) -> Iterator[str]:
    name = figure_key(figure)
    try:
        impossible = dict(possible.of_figure(result, figure, items))
        yield from (f"{name}: {problem}" for problem in impossible.values())
        # What has a message of its own is not told twice.
        shown = tuple(f"{name}: {field} is given" for field in impossible)
        yield from (problem for problem in differences(result, figure, items) if not problem.startswith(shown))
    except BROKEN as e:
        yield f"{name}: its items give no such figure ({e})"
    if problem := possible.incomplete(result, figure, items):
        yield f"{name}: {problem}"


def _against(one: _Checked, claim: Mapping[str, Any] | None, data: Expected | None) -> list[str]:
    """Compare with submission.json, the protocol, and the items that there must be; returns what was not compared."""
    name, result = name_of(one.entry), one.entry.result
    statement = result_of(name, result, one.items)
    wrong = list(form.problems(statement, form.part("result")))
    for place, problem in wrong:
        one.tell(f"{place or 'it'} {problem}")
    if claim is None:
        one.tell(f"{HEAD} states no result of this folder", AGAIN)
    if wrong or claim is None:
        return []
    for key in statement:
        mine, theirs, where = statement[key], claim[key], ""
        if isinstance(mine, dict) and isinstance(theirs, dict):  # Which part differs: " (packages.torch)".
            other = sorted(k for k in mine | theirs if mine.get(k) != theirs.get(k) or (k in mine) != (k in theirs))
            where = f" ({', '.join(other[:3])})"
        if mine != theirs:
            one.tell(f"{key} is not what {HEAD} states{where}", AGAIN)
    suites: dict[str, set[str]] = {}
    for figure in result.figures:
        suites.setdefault(figure.suite, set()).add(figure.evalset)
    for problem in expected.follows(statement, suites):
        one.tell(problem, "say where it departs, or score again")
    return _items(one, statement, data or expected.of_protocol(statement["protocol"]))


def _items(one: _Checked, statement: Mapping[str, Any], wanted: Expected | None) -> list[str]:
    """Compare the items of every file with those expected."""
    name, result = name_of(one.entry), one.entry.result
    if wanted is None:
        return [f"{name}: item ids were compared with no list: give --data, if you have the data"]
    strange = dict(expected.other_data(statement, wanted))
    for problem in strange.values():
        one.tell(problem, SAME_DATA)
    notes = []
    first = {figure.predictions: figure for figure in reversed(result.figures)}
    for file, figure in first.items():
        split = wanted.items.get(figure.evalset)
        if split is None:
            notes.append(f"{name}: items of {figure.evalset} were not compared: {wanted.where} does not have them")
        elif split.subject not in strange and file in one.items:
            limited = bool(result.settings.get("limit"))
            if problem := expected.other_items(figure, one.items[file], split, wanted.where, limited):
                one.tell(problem, SAME_DATA, file)
    return notes


def _of_whole(about: Mapping[str, Any], checked: Sequence[_Checked]) -> list[Problem]:
    """What submission.json says of all results together."""
    loaded = [one.entry.result for one in checked]
    folders = [result["folder"] for result in about["results"]]
    pairs = [
        ("labels", labels_of(loaded), about["labels"]),
        ("training_data.digests", training_digests(loaded), about["training_data"]["digests"]),
        ("results", [name_of(one.entry) for one in checked], folders),
        ("files", sorted(file["path"] for file in about["files"]), [file["path"] for file in about["files"]]),
    ]
    problems = [
        Problem(HEAD, f"{name} is {theirs}, the results give {mine}", AGAIN)
        for name, mine, theirs in pairs
        if mine != theirs
    ]
    if not is_date(about["created"]):
        problems.append(Problem(HEAD, f"created is {about['created']!r}, which is no date", AGAIN))
    seen: dict[str, str] = {}
    for one in checked:
        key = identity(one.entry.result)
        if (other := seen.setdefault(key, one.name)) != one.name:
            problems.append(Problem(one.name, f"the same figures as {other}", "submit it once"))
    return problems

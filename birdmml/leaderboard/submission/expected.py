"""Which items a result must hold: from the verifier's own data, or from the list that lies beside a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml.bench import items as bench_items
from birdmml.bench.protocol import digest, load, names
from birdmml.core import files
from birdmml.errors import ResultError
from birdmml.leaderboard.submission import form, possible
from birdmml.leaderboard.submission.model import items_digest
from birdmml.results.outcomes import Outcomes
from birdmml.schema import Figure

FOLDER = "items"


@dataclass(frozen=True)
class SplitItems:
    """The items of one split: how many, the digest of their ids, and of `subject`'s own data the ids themselves."""

    subject: str
    n: int
    sha256: str
    ids: frozenset[str] | None = None


@dataclass(frozen=True)
class Expected:
    """`digests` of the data by subject ("dataset", "ssw60"), `items` by label; `where` says whose they are."""

    where: str
    digests: Mapping[str, str]
    items: Mapping[str, SplitItems]


def of_data(data: Path, evalsets: Path | None = None) -> Expected:
    """What the verifier's own copy of the data holds; raises DatasetError or EvalsetError."""
    subjects = bench_items.of_data(data, evalsets)
    items = {
        label: SplitItems(one.name, **items_digest(ids), ids=frozenset(ids))
        for one in subjects
        for label, ids in one.ids.items()
    }
    return Expected("your data", {one.name: one.digest for one in subjects}, items)


def of_protocol(protocol: Any) -> Expected | None:
    """The list beside a shipped protocol of that name and digest, or None; raises ResultError for a damaged one."""
    name = protocol["name"] if isinstance(protocol, Mapping) else None
    if name not in names():
        return None
    # A list is of one wording of its protocol: of another digest it says nothing.
    path = files.folder("protocols") / FOLDER / f"{name}.json"
    return read_list(path) if path.is_file() and protocol["digest"] == digest(name) else None


def read_list(path: Path) -> Expected:
    """A list that `write_list` has written; raises ResultError."""
    content = form.load(path, path.name)
    try:
        items = {
            label: SplitItems(str(one["of"]), int(one["n"]), str(one["sha256"]))
            for label, one in content["items"].items()
        }
        return Expected(f"the list of protocol {content['protocol']}", dict(content["digests"]), items)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ResultError(f"{path.name} is no list of items ({e}): write it again") from e


def write_list(protocol: str, data: Path, evalsets: Path | None, out: Path) -> Path:
    """Write `out`/<protocol>.json: label -> {"of", "n", "sha256"}, and the digests of the data they are of.

    `out` is benchmarks/protocols/items for a protocol that birdmml ships. Raises UnknownName for another one.
    """
    name, expected = load(protocol).name, of_data(data, evalsets)
    path = out / f"{name}.json"
    items = {
        label: {"of": split.subject, "n": split.n, "sha256": split.sha256} for label, split in expected.items.items()
    }
    files.write_json(path, {"protocol": name, "digests": dict(expected.digests), "items": items})
    return path


def other_data(stated: Mapping[str, Any], expected: Expected) -> Iterator[tuple[str, str]]:
    """(subject, what differs) where a result was scored on other data than those expected."""
    digests = dict(stated["evalsets"])
    digests.setdefault(bench_items.DATASET, stated["dataset"]["digest"])
    for subject, stated_digest in digests.items():
        mine = expected.digests.get(subject)
        # Scored by another caption column, a dataset's digest is followed by its name.
        if mine is not None and (not stated_digest or stated_digest.split(" ")[0] != mine):
            yield subject, f"{subject} has the digest {stated_digest or 'none'}, that of {expected.where} is {mine}"


def other_items(figure: Figure, items: Outcomes, split: SplitItems, where: str, limited: bool) -> str:
    """How the items of a figure are not those expected; "" where they are."""
    ids = set(items.ids)
    if split.ids is not None and (strange := sorted(ids - split.ids)):
        return f"{len(strange)} items are not in {figure.evalset} of {where} ({', '.join(map(repr, strange[:3]))})"
    if limited:
        return ""
    if len(ids) == split.n and items_digest(ids)["sha256"] != split.sha256:
        return f"its items are not those of {figure.evalset} of {where}: the digest of their ids differs"
    return possible.miscounted(figure, len(ids), split.n)


def follows(stated: Mapping[str, Any], suites: Mapping[str, set[str]]) -> Iterator[str]:
    """Where a result is not what its protocol says, and does not say so; `suites` -> labels of its figures."""
    claim = stated["protocol"]
    if claim is None or claim["name"] not in names():
        return
    protocol = load(claim["name"])
    if claim["digest"] != protocol.digest:
        yield f"protocol {claim['name']} has the digest {protocol.digest}, the result says {claim['digest']}"
    if claim["departures"]:
        return
    if tuple(stated["seeds"]) != protocol.seeds:
        yield f"seeds {stated['seeds']}, protocol {protocol.name} has {list(protocol.seeds)}"
    if stated["settings"].get("limit"):
        yield f"limited to {stated['settings']['limit']} rows, which protocol {protocol.name} is not"
    # Methods that have variants are by default as their paper has them.
    methods = {(m.name.replace("-", "_"), m.variant or "paper") for m in protocol.methods}
    if (stated["method"].replace("-", "_"), stated["variant"] or "paper") not in methods:
        yield f"{stated['method']} {stated['variant']} is no method of protocol {protocol.name}"
    for one in protocol.evaluate:
        if protocol.data.source == "evalset" and one.evalset not in stated["evalsets"]:
            continue  # Each set has results of its own.
        labels = suites.get(one.suite.replace("_", "-"), set())
        if not any(_is_of(label, one.evalset, one.split) for label in labels):
            yield f"no figure of {one.suite} on {one.evalset} ({one.split}), which protocol {protocol.name} measures"


def _is_of(label: str, evalset: str, split: str) -> bool:
    """Whether a figure's label is of that set and split: "test-split", "ssw60-videos", "ssw60-videos-all"."""
    if evalset == bench_items.DATASET:
        return label == f"{split}-split"
    if label == evalset:
        return True
    own = label.startswith(f"{evalset}-")
    return own and (label.endswith(f"-{split}") or (split == "test" and not label.endswith("-all")))

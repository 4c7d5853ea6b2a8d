"""Which items there are to be scored: the ids of a dataset's splits and of evaluation sets. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdmml.bench.suites._contract import split_label, subject_label
from birdmml.core import discover
from birdmml.errors import EvalsetError
from birdmml.evalsets.read import ALL, Prepared, is_prepared
from birdmml.load import Built

DATASET, KIND = "dataset", "evaluation set"


@dataclass(frozen=True)
class SubjectItems:
    """One subject: `ids` by the label that figures call a split of it ("test-split", "ssw60-videos-all")."""

    name: str
    digest: str
    ids: Mapping[str, tuple[str, ...]]


def of_data(data: Path, evalsets: Path | None = None) -> tuple[SubjectItems, ...]:
    """The dataset's own rows and films, and every prepared set below `evalsets`; or a set of arrays at `data`.

    Raises DatasetError, or EvalsetError for a set that is damaged.
    """
    subjects = [_prepared(data)] if is_prepared(data) else list(_built(Built.open(data)))
    if evalsets is not None:
        if not evalsets.is_dir():
            raise EvalsetError(f"no folder {evalsets}: give the one that holds prepared evaluation sets")
        subjects += [_prepared(root) for root in sorted(evalsets.iterdir()) if is_prepared(root)]
    return tuple(subjects)


def _built(built: Built) -> Iterator[SubjectItems]:
    splits = [name for name, about in built.manifest["splits"].items() if about["rows"]]
    rows = {s: tuple(map(str, built.split(s).column("id"))) for s in splits}
    yield SubjectItems(DATASET, built.digest, _labelled(subject_label(DATASET, "rows"), rows))
    for name in discover.names(KIND):
        root = built.root / "evalsets" / name
        if root.is_dir():
            module = discover.load(KIND, name)
            films = {s: tuple(i.id for i in module.items(root, s)) for s in module.SPLITS}
            yield SubjectItems(name, built.digest, _labelled(subject_label(name, "videos"), films))


def _prepared(root: Path) -> SubjectItems:
    prepared = Prepared.open(root)
    ids: dict[str, tuple[str, ...]] = {}
    for collection in prepared.collections():
        kind = prepared.kind(collection)
        splits = (*prepared.splits(collection), *(() if kind == "arrays" else (ALL,)))
        rows = {s: prepared.rows(collection, s).ids for s in splits}
        ids |= _labelled(subject_label(prepared.name, kind, collection), rows)
    return SubjectItems(prepared.name, prepared.digest, ids)


def _labelled(label: str, ids: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {split_label(label, split): of_split for split, of_split in ids.items()}

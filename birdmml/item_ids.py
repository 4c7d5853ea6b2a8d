"""Which items there are to be scored: the ids of a dataset's splits and of evaluation sets. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdmml import discover
from birdmml.errors import EvalsetError
from birdmml.load import Built
from birdmml.prepared import ALL, Prepared, is_prepared

DATASET, KIND = "dataset", "evaluation set"


@dataclass(frozen=True)
class Items:
    """One subject: `ids` by the label that figures call a split of it ("test-split", "ssw60-videos-all")."""

    name: str
    digest: str
    ids: Mapping[str, tuple[str, ...]]


def of_data(data: Path, evalsets: Path | None = None) -> tuple[Items, ...]:
    """The dataset's own rows and films, and every prepared set below `evalsets`; or a set of arrays at `data`.

    Raises DatasetError, or EvalsetError for a set that is damaged.
    """
    found = [_prepared(data)] if is_prepared(data) else list(_built(Built.open(data)))
    if evalsets is not None:
        if not evalsets.is_dir():
            raise EvalsetError(f"no folder {evalsets}: give the one that holds prepared evaluation sets")
        found += [_prepared(root) for root in sorted(evalsets.iterdir()) if is_prepared(root)]
    return tuple(found)


def _built(built: Built) -> Iterator[Items]:
    """The labels are those of `materials.OwnRows` and `materials.Films`."""
    splits = [name for name, told in built.manifest["splits"].items() if told["rows"]]
    rows = {f"{s}-split": tuple(map(str, built.split(s).column("id"))) for s in splits}
    yield Items(DATASET, built.digest, rows)
    for name in discover.names(KIND):
        root = built.root / "evalsets" / name
        if root.is_dir():
            module = discover.load(KIND, name)
            films = {s: tuple(i.id for i in module.items(root, s)) for s in module.SPLITS}
            yield Items(name, built.digest, {_label(f"{name}-videos", s): ids for s, ids in films.items()})


def _prepared(root: Path) -> Items:
    """The labels are those of `prepared_set.PreparedSet` and `array_subject.ArraySubject`."""
    found = Prepared.open(root)
    ids = {}
    for collection in found.collections():
        arrays = found.kind(collection) == "arrays"
        for split in (*found.splits(collection), *(() if arrays else (ALL,))):
            label = f"{found.name}-{split}" if arrays else _label(f"{found.name}-{collection}", split)
            ids[label] = found.rows(collection, split).ids
    return Items(found.name, found.digest, ids)


def _label(label: str, split: str) -> str:
    return label if split == "test" else f"{label}-{split}"

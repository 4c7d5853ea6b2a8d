"""Evaluation sets of numbers to Parquet: streamed in blocks, counted against what is published, manifest last.

A module with KIND = "arrays" brings `Options`, a frozen dataclass of what users may set; `gather(source, options,
progress) -> Gathered`, which reads and checks the provider's files; PUBLISHED, the provider's counts; and DOWNLOAD.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from birdmml import files, settings
from birdmml.arrays import KIND, Gathered, Progress, SplitSource, schema, table
from birdmml.build.place import Place
from birdmml.build.progress import silent
from birdmml.errors import BuildError, EvalsetError
from birdmml.manifest import MANIFEST
from birdmml.prepare import _arrays_report as report
from birdmml.prepared import Prepared, digest, manifest_head, read_manifest
from birdmml.shards import SHARD_BYTES, shard_name, write_shard

COLLECTION = "samples"
GROUP_BYTES = 16 << 20


def prepare(
    module: ModuleType,
    source: Path,
    out: Path,
    options: Mapping[str, str],
    progress: Progress | None = None,
) -> Prepared:
    """Write the set that `module` finds in `source` to the folder `out`.

    `options` override the fields of the module's `Options`. The same files and options give the same bytes. `out` is
    as it was until the new set is complete. Raises UsageError for an option that does not exist, EvalsetError for
    files that are not the provider's, BuildError where `out` cannot be written or holds something else.
    """
    chosen = settings.override(module.Options(), [f"{k}={v}" for k, v in options.items()])
    name = module.__name__.rpartition(".")[2]
    with Place(out, lambda folder: _name_of(folder) == name) as place:
        try:
            return _prepare(module, name, source, place, chosen, progress or silent)
        except OSError as e:
            raise BuildError(place.disk_words(e)) from e


def _prepare(
    module: ModuleType, name: str, source: Path, place: Place, chosen: Any, progress: Progress
) -> Prepared:
    gathered: Gathered = module.gather(source, chosen, progress)
    _check_complete(gathered, name)
    place.prepare("")  # Made anew each time: it takes minutes at most.
    root = place.dataset
    splits = {split: _write(part, gathered, root, split, progress) for split, part in gathered.splits.items()}
    manifest = _describe(module, name, gathered, splits)
    report.write(root / "report", manifest, gathered)
    files.write_json(root / MANIFEST, manifest)
    place.commit()
    return Prepared(place.out, manifest)


def _name_of(folder: Path) -> str:
    """Which prepared set a folder holds; "" if none."""
    try:
        return str(read_manifest(folder).get("name"))
    except EvalsetError:
        return ""


def _check_complete(gathered: Gathered, name: str) -> None:
    for split, part in gathered.splits.items():
        if part.rows == 0:
            raise EvalsetError(f"{name}: no sample of {split} is left: see the publisher's files")


def _write(
    part: SplitSource, gathered: Gathered, root: Path, split: str, progress: Progress
) -> dict[str, Any]:
    """The shards of one split, each whole or absent."""
    step = max(1, SHARD_BYTES // sum(f.bytes for f in gathered.fields))
    starts = range(0, part.rows, step)
    shards = []
    for number, start in enumerate(starts):
        stop = min(start + step, part.rows)
        name = f"data/{COLLECTION}/{shard_name(split, number, len(starts))}"
        groups = _groups(part, gathered, start, stop)
        # In chunks of equal content the same numbers would be other bytes.
        shards.append(write_shard(root, name, schema(gathered.fields), groups, ["class_name"], chunked=False))
        progress(f"write {split}", stop, part.rows)
    return {"rows": part.rows, "shards": [s.listed() for s in shards]}


def _groups(part: SplitSource, gathered: Gathered, start: int, stop: int) -> Iterator[pa.Table]:
    step = max(1, GROUP_BYTES // sum(f.bytes for f in gathered.fields))
    for at in range(start, stop, step):
        yield table(part.read(at, min(at + step, stop)), gathered.fields, gathered.class_names)


def _describe(module: ModuleType, name: str, gathered: Gathered, splits: Mapping[str, Any]) -> dict[str, Any]:
    collections = {COLLECTION: {"kind": KIND, "splits": dict(splits)}}
    published = dict(module.PUBLISHED)
    chosen = dict(gathered.settings)
    return {
        **manifest_head(name, gathered.demo, gathered.class_names),
        "collections": collections,
        "published": published,
        "found": dict(gathered.found),
        "differences": [*differences(published, gathered.found), *gathered.notes],
        "left_out": dict(Counter(c.reason for c in gathered.rejects)),
        "changed": dict(Counter(c.reason for c in gathered.changes)),
        "settings": chosen,
        "digest": digest(gathered.class_names, chosen, collections),
    }


def differences(published: Mapping[str, Any], counts: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line for each published count that was not found: "samples.test: 686 published, 685 found"."""
    lines = []
    for key, value in published.items():
        here = counts.get(key)
        if isinstance(value, Mapping):
            lines += differences(value, here if isinstance(here, Mapping) else {}, f"{prefix}{key}.")
        elif here != value:
            lines.append(f"{prefix}{key}: {_words(value)} published, {_words(here)} found")
    return lines


def _words(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""Evaluation sets of numbers to Parquet: streamed in blocks, counted against what is published, manifest last.

A module with KIND = "arrays" brings `Options`, a frozen dataclass of what users may set; `gather(source, options,
progress) -> Gathered`, which reads and checks the provider's files; PUBLISHED, the provider's counts; DOWNLOAD; and
`fake(root, seed)`, the provider's layout in kilobytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq

from birdmml import __version__, files, settings
from birdmml.arrays import KIND, Field, Gathered, Part, Progress, digest, schema, table
from birdmml.arrayset import SCHEMA_VERSION, read_manifest
from birdmml.errors import EvalsetError
from birdmml.prepare import _arrays_report as report

COLLECTION = "samples"
SHARD_BYTES = 256 << 20
GROUP_BYTES = 16 << 20
_OURS = {"data", "report", "manifest.json"}
_SHARD = re.compile(r"[a-z]+-\d{5}-of-\d{5}\.parquet(\.part)?")


@dataclass(frozen=True)
class Prepared:
    """A finished set: its folder and its manifest."""

    root: Path
    manifest: Mapping[str, Any]


def prepare(
    module: ModuleType,
    source: Path,
    out: Path,
    options: Mapping[str, str],
    progress: Progress | None = None,
) -> Prepared:
    """Write the set that `module` finds in `source` to the folder `out`.

    `options` override the fields of the module's `Options`. The same files and options give the same bytes. A run
    that is cut short leaves no manifest; the next one begins anew. Raises UsageError for an option that does
    not exist, EvalsetError for files that are not the provider's and for an `out` that holds something else.
    """
    tell: Progress = progress or (lambda stage, done, total: None)
    chosen = settings.override(module.Options(), [f"{k}={v}" for k, v in options.items()])
    name = module.__name__.rpartition(".")[2]
    _check_out(out, name)
    gathered: Gathered = module.gather(source, chosen, tell)
    _check_complete(gathered, name)
    folder = out / "data" / COLLECTION
    old = _shards(folder)
    for path in (out / "manifest.json", *old):
        path.unlink(missing_ok=True)
    splits = {split: _write(part, gathered, folder, split, tell) for split, part in gathered.splits.items()}
    manifest = _describe(module, name, gathered, splits)
    report.write(out / "report", manifest, gathered)
    files.write_json(out / "manifest.json", manifest)
    return Prepared(out, manifest)


def _check_out(out: Path, name: str) -> None:
    """Only nothing, or an earlier or unfinished `name`, may be written over."""
    if out.exists() and not out.is_dir():
        raise EvalsetError(f"--out {out} is a file: name a folder")
    there = {p.name for p in out.iterdir() if not p.name.startswith(".")} if out.is_dir() else set()
    if foreign := sorted(there - _OURS):
        raise EvalsetError(f"--out {out} holds {foreign[0]}, which is no part of a set: name another folder")
    if "manifest.json" in there and (found := _name_of(out)) != name:
        raise EvalsetError(f"--out {out} holds {found}, not {name}: name another folder, or delete this one")


def _name_of(out: Path) -> str:
    try:
        return str(read_manifest(out).get("name"))
    except EvalsetError:
        return "the manifest.json of something else"


def _check_complete(gathered: Gathered, name: str) -> None:
    for split, part in gathered.splits.items():
        if part.rows == 0:
            raise EvalsetError(f"{name}: no sample of {split} is left: see the publisher's files")


def _shards(folder: Path) -> list[Path]:
    """What earlier runs left in `folder`; raises EvalsetError for a file that no run has written."""
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    for path in found:
        if not _SHARD.fullmatch(path.name):
            raise EvalsetError(f"{path} is no part of a set: move it, or name another folder with --out")
    return found


def _write(part: Part, gathered: Gathered, folder: Path, split: str, tell: Progress) -> dict[str, Any]:
    """The shards of one split, each whole or absent."""
    per_row = sum(f.bytes for f in gathered.fields)
    step = max(1, SHARD_BYTES // per_row)
    starts = range(0, part.rows, step)
    shards = []
    for number, start in enumerate(starts):
        path = folder / f"{split}-{number:05d}-of-{len(starts):05d}.parquet"
        stop = min(start + step, part.rows)
        with files.atomic_write(path, sync_name=False) as f:
            hashed = files.HashingWriter(f)
            _write_groups(hashed, part, gathered, start, stop)
        place = path.relative_to(folder.parent.parent).as_posix()
        shards.append(
            {"path": place, "rows": stop - start, "bytes": hashed.size, "sha256": hashed.hexdigest()}
        )
        tell(f"write {split}", stop, part.rows)
    files.sync_folder(folder)
    return {"rows": part.rows, "shards": shards}


def _write_groups(f: Any, part: Part, gathered: Gathered, start: int, stop: int) -> None:
    step = max(1, GROUP_BYTES // sum(x.bytes for x in gathered.fields))
    with _writer(f, gathered.fields) as writer:
        for at in range(start, stop, step):
            rows = part.read(at, min(at + step, stop))
            writer.write_table(table(rows, gathered.fields, gathered.class_names), row_group_size=step)


def _writer(f: Any, fields: Sequence[Field]) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        f, schema(fields), compression="zstd", use_dictionary=["class_name"], write_page_index=True
    )


def _describe(module: ModuleType, name: str, gathered: Gathered, splits: Mapping[str, Any]) -> dict[str, Any]:
    collections = {COLLECTION: {"kind": KIND, "splits": dict(splits)}}
    published = dict(module.PUBLISHED)
    chosen = dict(gathered.settings)
    return {
        "birdmml_version": __version__,
        "kind": "evaluation set",
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "demo": gathered.demo,
        "classes": list(gathered.class_names),
        "collections": collections,
        "published": published,
        "found": dict(gathered.found),
        "differences": [*differences(published, gathered.found), *gathered.notes],
        "left_out": dict(Counter(c.reason for c in gathered.rejects)),
        "changed": dict(Counter(c.reason for c in gathered.changes)),
        "settings": chosen,
        "digest": digest(gathered.class_names, chosen, collections),
    }


def differences(published: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line for each published count that was not found: "samples.test: 686 published, 685 found"."""
    return list(_differences(published, found, prefix))


def _differences(published: Mapping[str, Any], found: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in published.items():
        here = found.get(key)
        if isinstance(value, Mapping):
            yield from _differences(value, here if isinstance(here, Mapping) else {}, f"{prefix}{key}.")
        elif here != value:
            yield f"{prefix}{key}: {_words(value)} published, {_words(here)} found"


def _words(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""One pass over the rows of a dataset, without its media: licences, counts, and texts that must not leave."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from birdmml.build.schema import arrow_schema
from birdmml.errors import DatasetError
from birdmml.hub.dataset.finding import Finding
from birdmml.hub.dataset.policy import PARTS, Policy
from birdmml.hub.dataset.private import CANDIDATE, MAX_TOLD, Private
from birdmml.species_list import TABLE

MAX_EXAMPLES = 3
BATCH_ROWS = 4096
_TEXTS = [f.name for f in arrow_schema() if pa.types.is_string(f.type)]
_NESTED = ("image.path", "audio.path")


@dataclass
class Licences:
    """Rows by licence of each part, why some may not be published, and the first rows of each of those."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {part: Counter() for part in PARTS})
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """What may not be published, by part and licence, most rows first."""
        for (part, spdx), why in sorted(
            self.refused.items(), key=lambda kv: -self.counts[kv[0][0]][kv[0][1]]
        ):
            shown = ", ".join(self.examples[part, spdx])
            yield f"{part} {spdx!r}: {self.counts[part][spdx]:,} rows ({why}); first {shown}"


def survey(
    root: Path, manifest: Mapping[str, Any], policy: Policy, private: Private
) -> tuple[Licences, list[Finding]]:
    """Read the light columns of every shard. Raises DatasetError where one cannot be read or lacks a column."""
    licences = Licences()
    wrong: list[Finding] = []
    for split, value in manifest["splits"].items():
        for shard in value["shards"]:
            wrong += _shard(root, shard, policy, private, licences, bool(manifest["demo"]))
        if value["rows"] != sum(s["rows"] for s in value["shards"]):
            wrong.append(Finding("counts", split, "its rows are not those of its shards", "build again"))
    # The table of species, if the dataset has its own, is names and numbers: `lint` reads it as no more than that.
    loose = set(manifest["files"]) - ({TABLE} if manifest["taxonomy"].get("file") == TABLE else set())
    if loose and not manifest["demo"]:
        found = f"{len(loose)} files that no row's licence covers"
        wrong.append(Finding("licences", min(loose), found, "publish them by themselves"))
    for part in PARTS:
        told = {k: n for k, n in manifest["licenses"].get(part, {}).items() if n}
        if told != dict(licences.counts[part]):
            wrong.append(
                Finding(
                    "licences", f"manifest.json {part}", "counts are not those of the rows", "build again"
                )
            )
    return licences, wrong


def _shard(
    root: Path, shard: Mapping[str, Any], policy: Policy, private: Private, licences: Licences, demo: bool
) -> Iterator[Finding]:
    rows, told, generated = 0, 0, 0
    for batch in batches(root / shard["path"]):
        rows += batch.num_rows
        generated += pc.sum(pc.equal(batch["caption_origin"], "demo")).as_py() or 0
        _count(batch, policy, licences)
        for found in _texts(batch, private, shard["path"]):
            told += 1
            if told <= MAX_TOLD:
                yield found
    if generated and not demo:
        what = f"{generated} rows of the generated demo, in a dataset that does not call itself a demo"
        yield Finding("demo", shard["path"], what, "build the demo again, and publish it as what it is")
    if rows != shard["rows"]:
        yield Finding(
            "counts", shard["path"], f"{rows} rows, the manifest says {shard['rows']}", "build again"
        )


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The columns of a shard that are no media. Raises DatasetError where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            if lacking := {*_TEXTS, "label"} - set(file.schema_arrow.names):
                raise DatasetError(f"{path} lacks the column {min(lacking)}: build the dataset again")
            yield from file.iter_batches(BATCH_ROWS, columns=[*_TEXTS, *_NESTED])
    except (OSError, pa.ArrowException) as e:
        raise DatasetError(
            f"{path} cannot be read ({str(e).splitlines()[0]}): build the dataset again"
        ) from e


def _count(batch: pa.RecordBatch, policy: Policy, licences: Licences) -> None:
    for part in PARTS:
        column = batch[f"{part}_license"]
        for entry in column.value_counts().to_pylist():
            spdx = str(entry["values"])
            licences.counts[part][spdx] += entry["counts"]
            if why := policy.why_not(spdx):
                licences.refused[part, spdx] = why
                _example(batch, part, entry["values"], licences.examples.setdefault((part, spdx), []))


def _example(batch: pa.RecordBatch, part: str, spdx: str | None, known: list[str]) -> None:
    if len(known) < MAX_EXAMPLES:
        column = batch[f"{part}_license"]
        mine = batch.filter(pc.is_null(column) if spdx is None else pc.equal(column, spdx))
        for row in mine.slice(0, MAX_EXAMPLES - len(known)).select(["id", f"{part}_url"]).to_pylist():
            known.append(" ".join(repr(v)[1:-1][:120] for v in row.values() if v))


def _texts(batch: pa.RecordBatch, private: Private, path: str) -> Iterator[Finding]:
    pattern = "|".join([CANDIDATE, *map(re.escape, private.words)])
    columns = {name: batch[name] for name in _TEXTS}
    columns |= {name: pc.struct_field(batch[name.partition(".")[0]], "path") for name in _NESTED}
    for name, column in columns.items():
        hits = pc.match_substring_regex(column, pattern).fill_null(False)
        for text in column.filter(hits).to_pylist():
            if found := private.kind(text):
                yield Finding("private", f"{path} column {name}", *found)

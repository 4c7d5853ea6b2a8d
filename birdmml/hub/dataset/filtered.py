"""A copy of a dataset without the rows whose licences a policy does not take: a dataset of its own.

Shards keep their place and their order; one that keeps no row is left out. Each row that goes is a line in
report/filtered.csv. What the first build measured across its splits is not true of fewer rows and is left out.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml import files
from birdmml import manifest as manifests
from birdmml.build import account, leaking
from birdmml.build.documents import write_documents
from birdmml.build.place import Place
from birdmml.build.report import write_report
from birdmml.build.schema import arrow_schema
from birdmml.build.write import GROUP_BYTES, GROUP_ROWS, Shard, count_names, shard_name, shard_writer
from birdmml.errors import BirdmmlError, BuildError, DatasetError
from birdmml.hub.dataset.policy import PARTS, Policy, reasons
from birdmml.hub.dataset.rows import batches
from birdmml.hub.dataset.stage import Checked
from birdmml.licenses import UNKNOWN_LICENSE
from birdmml.manifest import MANIFEST
from birdmml.schema import SPLITS
from birdmml.species_list import dataset_taxonomy
from birdmml.taxonomy import Taxonomy
from birdmml.text import csv_cell

LIST = "report/filtered.csv"
_HEAD = ("id", "split", "species", "part", "license", "url", "reason")
# Lists of the first build that stay true: what it did not take.
_KEPT_LISTS = ("report/rejects.csv", "report/absent.csv")


@dataclass
class _Plan:
    """One byte a row of each shard, 1 to keep it; `removed` counts rows, `by_part` parts with their licence."""

    keep: dict[str, bytearray] = field(default_factory=dict)
    removed: int = 0
    by_part: Counter[tuple[str, str]] = field(default_factory=Counter)


def filter_rows(checked: Checked, policy: Policy, out: Path) -> Path:
    """Write the copy to `out`, which is replaced only by a complete one, and only where it is such a copy.

    Equal datasets and policies give equal bytes; a row group at most is in memory. Raises DatasetError where no row
    is left, BuildError where `out` may not or cannot be written.
    """
    if out.resolve() == checked.root.resolve():
        raise BuildError(f"--out {out} is the dataset itself: name another folder for the copy")
    check_species(checked)
    with Place(out, owned=_is_copy) as place:
        try:
            place.prepare(files.digest([checked.manifest["digest"], policy.text]))
            _write(checked, policy, place)
            place.commit()
        except OSError as e:
            raise BuildError(place.disk_words(e)) from e
    return place.out


def _is_copy(folder: Path) -> bool:
    try:
        return bool(manifests.read(folder).get("filtered"))
    except DatasetError:
        return False


def _write(checked: Checked, policy: Policy, place: Place) -> None:
    root, made = checked.root, place.dataset
    found = _plan(checked, policy, made / LIST)
    if not any(any(keep) for keep in found.keep.values()):
        raise DatasetError(
            f"no row of {root} has licences that --licenses {policy.text} takes: nothing was written; take more"
            " licences, or build from other media"
        )
    known = dataset_taxonomy(root, checked.manifest)
    with _Distinct(place.catalog) as distinct:
        shards = list(_shards(checked, found, made, distinct, known))
        manifest = _manifest(checked, policy, found, shards, distinct)
    for path in checked.manifest["files"]:
        _copy(root, made, path)
    for path in _KEPT_LISTS:
        if (root / path).is_file():
            _copy(root, made, path)
    validation = _validation(checked, shards)
    named = account.names_in_captions(shards)
    validation["leakage"] = {"splits": {}, "captions": leaking.of_captions(made, manifest, named, known)}
    write_documents(made, manifest, validation)
    files.write_json(made / "report" / "validation.json", validation)
    write_report(made, manifest, validation)
    files.write_json(made / MANIFEST, manifest)


def _copy(root: Path, made: Path, path: str) -> None:
    (made / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / path, made / path, follow_symlinks=False)


def _each_shard(checked: Checked) -> Iterator[tuple[str, str]]:
    for split in SPLITS:
        for shard in checked.manifest["splits"].get(split, {}).get("shards", ()):
            yield split, shard["path"]


def _plan(checked: Checked, policy: Policy, listing: Path) -> _Plan:
    """Decide on every row, and write down each that goes with the reason."""
    found = _Plan()
    with files.atomic_write(listing) as f:
        text = io.TextIOWrapper(f, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEAD)
        for split, path in _each_shard(checked):
            keep = found.keep.setdefault(path, bytearray())
            for batch in batches(checked.root / path):
                for row in batch.select(_columns()).to_pylist():
                    why = reasons(policy, {part: str(row[f"{part}_license"]) for part in PARTS})
                    keep.append(not why)
                    found.removed += bool(why)
                    for part, reason in why.items():
                        spdx = str(row[f"{part}_license"])
                        found.by_part[part, spdx] += 1
                        cells = (row["id"], split, row["species"], part, spdx, row[f"{part}_url"], reason)
                        writer.writerow(csv_cell(str(cell or "")) for cell in cells)
        text.detach()
    return found


def _columns() -> list[str]:
    return ["id", "species", *(f"{part}_{what}" for part in PARTS for what in ("license", "url"))]


def _shards(
    checked: Checked, found: _Plan, made: Path, distinct: _Distinct, known: Taxonomy
) -> Iterator[Shard]:
    schema = arrow_schema(int(checked.manifest["settings"]["rate_hz"]), known.scientific_names)
    for split in SPLITS:
        mine = [path for s, path in _each_shard(checked) if s == split and any(found.keep[path])]
        for number, path in enumerate(mine):
            target = made / "data" / shard_name(split, number, len(mine))
            yield _shard(checked.root / path, target, found.keep[path], schema, distinct, known)


def _shard(
    source: Path, target: Path, keep: bytearray, schema: pa.Schema, distinct: _Distinct, known: Taxonomy
) -> Shard:
    """Write the rows of one shard that stay."""
    tally: Counter[tuple[str, str]] = Counter()
    with files.atomic_write(target) as f:
        hashed = files.HashingWriter(f)
        with shard_writer(hashed, schema) as writer:
            for table in _groups(source, keep):
                light = table.drop_columns(["image", "audio"])
                for row in light.to_pylist():
                    tally.update(_count(row, known))
                    distinct.add(row)
                for start, rows in _cuts(table):
                    writer.write_table(table.slice(start, rows), row_group_size=rows)
    return Shard(f"data/{target.name}", sum(keep), hashed.size, hashed.hexdigest(), tally)


def _groups(source: Path, keep: bytearray) -> Iterator[pa.Table]:
    """The kept rows of each row group; raises DatasetError where the shard cannot be read."""
    try:
        with pq.ParquetFile(source) as file:
            start = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                mine = pa.array([bool(k) for k in keep[start : start + table.num_rows]])
                start += table.num_rows
                if (kept := table.filter(mine)).num_rows:
                    yield kept.combine_chunks()
    except (OSError, pa.ArrowException) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise DatasetError(
            f"{source} cannot be read ({str(e).splitlines()[0]}): build the dataset again"
        ) from e


def _cuts(table: pa.Table) -> Iterator[tuple[int, int]]:
    """(first, rows) of row groups within the build's limits."""
    sizes = zip(*(_lengths(table, column) for column in ("image", "audio")), strict=True)
    start, size, last = 0, 0, 0
    for at, lengths in enumerate(sizes):
        if at > start and (size + sum(lengths) > GROUP_BYTES or at - start >= GROUP_ROWS):
            yield start, at - start
            start, size = at, 0
        size, last = size + sum(lengths), at
    yield start, last - start + 1


def _lengths(table: pa.Table, column: str) -> list[int]:
    import pyarrow.compute as pc

    sizes: list[int] = pc.binary_length(pc.struct_field(table[column], "bytes")).fill_null(0).to_pylist()
    return sizes


def _count(row: Mapping[str, Any], known: Taxonomy) -> Iterator[tuple[str, str]]:
    """What a build counts of a row (birdmml.build.write), from the row as it is stored."""
    yield "species", row["species"]
    yield "origin", row["caption_origin"]
    yield from ((part, row[f"{part}_license"]) for part in PARTS)
    recovered = row["image_recovered"] or row["audio_recovered"]
    yield ("recovered" if recovered else "complete"), row["species"]
    yield from count_names(row["caption"], row["caption_name_free"], known.resolve(row["species"]))


class _Distinct:
    """Counts distinct photos, recordings and clips on disk, however many there are."""

    COLUMNS = (("photos", "image_id"), ("recordings", "recording_id"), ("clips", "audio_id"))

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path, self._base = path, sqlite3.connect(path)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("CREATE TABLE seen (kind INTEGER, id TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID")

    def __enter__(self) -> _Distinct:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._path.unlink(missing_ok=True)

    def add(self, row: Mapping[str, Any]) -> None:
        values = [(kind, row[column]) for kind, (_, column) in enumerate(self.COLUMNS)]
        self._base.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", values)

    def counts(self) -> dict[str, int]:
        found = dict(self._base.execute("SELECT kind, count(*) FROM seen GROUP BY kind"))
        return {name: found.get(kind, 0) for kind, (name, _) in enumerate(self.COLUMNS)}


def _manifest(
    checked: Checked, policy: Policy, found: _Plan, shards: list[Shard], distinct: _Distinct
) -> dict[str, Any]:
    """The first build's manifest with the counts of what is left, and what was taken away."""
    value = {k: v for k, v in checked.manifest.items() if k != "digest"}
    value["counts"] = {**account.of_shards(shards), **distinct.counts()}
    value["licenses"] = account.licenses(shards)
    value["splits"] = account.splits(shards)
    value["filtered"] = {
        "from_digest": checked.manifest["digest"],
        "licenses": policy.text,
        "rows_removed": found.removed,
        "by_part": {
            part: {spdx: n for (p, spdx), n in sorted(found.by_part.items()) if p == part} for part in PARTS
        },
    }
    return {**value, "digest": files.digest(value)}


def _validation(checked: Checked, shards: list[Shard]) -> dict[str, Any]:
    """The first build's record of what it checked, with what is left of its rows."""
    value = json.loads(json.dumps(checked.validation))
    total: Counter[tuple[str, str]] = Counter()
    for shard in shards:
        total.update(shard.tally)
    origins = {name: n for (what, name), n in sorted(total.items()) if what == "origin"}
    rows = [
        {
            **row,
            "complete": total["complete", row["species"]],
            "recovered": total["recovered", row["species"]],
        }
        for row in value["by_species"]
    ]
    return {
        **value,
        "captions_by_origin": origins,
        "unknown_licenses": {part: total[part, UNKNOWN_LICENSE] for part in PARTS},
        "recovered_rows": sum(n for (what, _), n in total.items() if what == "recovered"),
        "by_species": [r for r in rows if r["complete"] or r["recovered"] or r["lost"]],
    }


def check_species(checked: Checked) -> None:
    """Raise DatasetError for a row whose species the taxonomy does not know; a copy could not count it."""
    known = dataset_taxonomy(checked.root, checked.manifest)
    for _, path in _each_shard(checked):
        for batch in batches(checked.root / path):
            for name in batch["species"].unique().to_pylist():
                try:
                    known.resolve(name)
                except BirdmmlError as e:
                    raise DatasetError(f"{path}: {e}: build the dataset again") from e

"""A copy of a dataset without the rows whose licences a policy does not take: a dataset of its own.

Shards keep their place and their order; one that keeps no row is left out. Each row that goes is a line in
report/filtered.csv. What the first build measured across its splits is not true of fewer rows and is left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.core import files
from birdmml.core.licenses import UNKNOWN_LICENSE, Policy
from birdmml.core.species import Taxonomy
from birdmml.core.species_list import dataset_taxonomy
from birdmml.core.sqlite import Database
from birdmml.core.text import csv_cell
from birdmml.dataset import account, format, leaks
from birdmml.dataset.card import write_documents
from birdmml.dataset.format import MANIFEST, arrow_schema
from birdmml.dataset.place import BuildPlace
from birdmml.dataset.report import write_report
from birdmml.dataset.shards import WrittenShard, cut, shard_name, write_shard
from birdmml.dataset.write import GROUP_BYTES, GROUP_ROWS, count_names, repeating
from birdmml.errors import BirdmmlError, BuildError, DatasetError
from birdmml.hub import copied
from birdmml.hub.dataset import Checked
from birdmml.hub.dataset_checks import PARTS, batches, reasons
from birdmml.schema import SPLITS

LIST = "report/filtered.csv"
_HEAD = ("id", "split", "species", "part", "license", "url", "reason")
# Lists of the first build that stay true: what it did not take.
_KEPT_LISTS = ("report/rejects.csv", "report/absent.csv")


@dataclass
class _KeptRows:
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
    # First of all: a copy that cannot be counted shall not leave a half-written folder.
    check_species(checked)
    with BuildPlace(out, owned=_is_copy) as place:
        try:
            place.prepare(files.digest([checked.manifest["digest"], policy.text]))
            _write(checked, policy, place)
            place.commit()
        except OSError as e:
            raise BuildError(place.disk_words(e)) from e
    return place.out


def _is_copy(folder: Path) -> bool:
    try:
        return bool(format.read(folder).get("filtered"))
    except DatasetError:
        return False


def _write(checked: Checked, policy: Policy, place: BuildPlace) -> None:
    root, target = checked.root, place.dataset
    plan = _plan(checked, policy, target / LIST)
    if not any(any(keep) for keep in plan.keep.values()):
        raise DatasetError(
            f"no row of {root} has licences that --licenses {policy.text} takes: nothing was written; take more"
            " licences, or build from other media"
        )
    taxonomy = dataset_taxonomy(root, checked.manifest)
    with _Distinct(place.catalog) as distinct:
        shards = list(_shards(checked, plan, target, distinct, taxonomy))
        manifest = _manifest(checked, policy, plan, shards, distinct)
    lists = [path for path in _KEPT_LISTS if (root / path).is_file()]
    copied({path: root / path for path in (*checked.manifest["files"], *lists)}, target)
    validation = _validation(checked, shards)
    named = account.names_in_captions(shards)
    validation["leakage"] = {"splits": {}, "captions": leaks.of_captions(target, manifest, named, taxonomy)}
    write_documents(target, manifest, validation)
    files.write_json(target / "report" / "validation.json", validation)
    write_report(target, manifest, validation)
    files.write_json(target / MANIFEST, manifest)


def _each_shard(checked: Checked) -> Iterator[tuple[str, str]]:
    for split in SPLITS:
        for shard in checked.manifest["splits"].get(split, {}).get("shards", ()):
            yield split, shard["path"]


def _plan(checked: Checked, policy: Policy, listing: Path) -> _KeptRows:
    """Decide on every row, and write down each that goes with the reason."""
    plan = _KeptRows()
    columns = ["id", "species", *(f"{part}_{what}" for part in PARTS for what in ("license", "url"))]
    with files.atomic_write(listing) as f:
        text = io.TextIOWrapper(f, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEAD)
        for split, path in _each_shard(checked):
            keep = plan.keep.setdefault(path, bytearray())
            for batch in batches(checked.root / path):
                for row in batch.select(columns).to_pylist():
                    why = reasons(policy, {part: str(row[f"{part}_license"]) for part in PARTS})
                    keep.append(not why)
                    plan.removed += bool(why)
                    for part, reason in why.items():
                        spdx = str(row[f"{part}_license"])
                        plan.by_part[part, spdx] += 1
                        cells = (row["id"], split, row["species"], part, spdx, row[f"{part}_url"], reason)
                        writer.writerow(csv_cell(str(cell or "")) for cell in cells)
        text.detach()
    return plan


def _shards(
    checked: Checked, plan: _KeptRows, folder: Path, distinct: _Distinct, taxonomy: Taxonomy
) -> Iterator[WrittenShard]:
    schema = arrow_schema(int(checked.manifest["settings"]["rate_hz"]), taxonomy.scientific_names)
    for split in SPLITS:
        mine = [path for s, path in _each_shard(checked) if s == split and any(plan.keep[path])]
        for number, path in enumerate(mine):
            name = f"data/{shard_name(split, number, len(mine))}"
            tally: Counter[tuple[str, str]] = Counter()
            groups = _counted(_groups(checked.root / path, plan.keep[path]), tally, distinct, taxonomy)
            yield replace(write_shard(folder, name, schema, groups, repeating(schema)), tally=tally)


def _counted(
    tables: Iterator[pa.Table], tally: Counter[tuple[str, str]], distinct: _Distinct, taxonomy: Taxonomy
) -> Iterator[pa.Table]:
    """Row groups within the build's limits; their rows enter `tally` and `distinct`."""
    import pyarrow.compute as pc

    for table in tables:
        for row in table.drop_columns(["image", "audio"]).to_pylist():
            tally.update(_count(row, taxonomy))
            distinct.add(row)
        media = (pc.struct_field(table[column], "bytes") for column in ("image", "audio"))
        sizes = (pc.binary_length(content).fill_null(0).to_pylist() for content in media)
        lengths = enumerate(map(sum, zip(*sizes, strict=True)))
        for run in cut(lengths, itemgetter(1), GROUP_BYTES, GROUP_ROWS):
            yield table.slice(run[0][0], len(run))


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
        raise DatasetError(f"{source} cannot be read ({str(e).splitlines()[0]}): build the dataset again") from e


def _count(row: Mapping[str, Any], taxonomy: Taxonomy) -> Iterator[tuple[str, str]]:
    """What a build counts of a row (birdmml.dataset.write), from the row as it is stored."""
    yield "species", row["species"]
    yield "origin", row["caption_origin"]
    yield from ((part, row[f"{part}_license"]) for part in PARTS)
    recovered = row["image_recovered"] or row["audio_recovered"]
    yield ("recovered" if recovered else "complete"), row["species"]
    yield from count_names(row["caption"], row["caption_name_free"], taxonomy.resolve(row["species"]))


class _Distinct(Database):
    """Counts distinct photos, recordings and clips on disk, however many there are; the file goes when it is closed."""

    COLUMNS = (("photos", "image_id"), ("recordings", "recording_id"), ("clips", "audio_id"))
    tables = ("CREATE TABLE seen (kind INTEGER, id TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID",)
    pragmas = ("journal_mode = OFF", "synchronous = OFF")

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(path)
        self._db.execute("BEGIN")  # One transaction, since nothing of it must outlive a crash.

    def close(self) -> None:
        super().close()
        self.path.unlink(missing_ok=True)

    def add(self, row: Mapping[str, Any]) -> None:
        values = [(kind, row[column]) for kind, (_, column) in enumerate(self.COLUMNS)]
        self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", values)

    def counts(self) -> dict[str, int]:
        numbers = dict(self.fetch_all("SELECT kind, count(*) FROM seen GROUP BY kind"))
        return {name: numbers.get(kind, 0) for kind, (name, _) in enumerate(self.COLUMNS)}


def _manifest(
    checked: Checked, policy: Policy, plan: _KeptRows, shards: list[WrittenShard], distinct: _Distinct
) -> dict[str, Any]:
    """The first build's manifest with the counts of what is left, and what was taken away."""
    value = {k: v for k, v in checked.manifest.items() if k != "digest"}
    value["counts"] = {**account.of_shards(shards), **distinct.counts()}
    value["licenses"] = account.licenses(shards)
    value["splits"] = account.splits(shards)
    value["filtered"] = {
        "from_digest": checked.manifest["digest"],
        "licenses": policy.text,
        "rows_removed": plan.removed,
        "by_part": {part: {spdx: n for (p, spdx), n in sorted(plan.by_part.items()) if p == part} for part in PARTS},
    }
    return {**value, "digest": files.digest(value)}


def _validation(checked: Checked, shards: list[WrittenShard]) -> dict[str, Any]:
    """The first build's record of what it checked, with what is left of its rows."""
    value = json.loads(json.dumps(checked.validation))
    total: Counter[tuple[str, str]] = Counter()
    for shard in shards:
        total.update(shard.tally)
    origins = {name: n for (what, name), n in sorted(total.items()) if what == "origin"}
    rows = [
        {**row, "complete": total["complete", row["species"]], "recovered": total["recovered", row["species"]]}
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
    taxonomy = dataset_taxonomy(checked.root, checked.manifest)
    for _, path in _each_shard(checked):
        for batch in batches(checked.root / path):
            for name in batch["species"].unique().to_pylist():
                try:
                    taxonomy.resolve(name)
                except BirdmmlError as e:
                    raise DatasetError(f"{path}: {e}: build the dataset again") from e

"""The columns of a dataset that are not media, read row group by row group into one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from birdmml.audit.groups import Codes
from birdmml.audit.shards import LIGHT, SPLIT_ORDER, Shard, Unreadable, open_file
from birdmml.shards import BROKEN, first_line

_ROWS = pa.schema([pa.field(part, pa.large_string()) for part in LIGHT])


@dataclass(frozen=True)
class Rows:
    """All readable rows: `table` has one text column a part (null where a shard lacks it).

    `shard`, `group` and `at` [N] say where each row lies: which shard, which row group, which row of it.
    """

    shards: Sequence[Shard]
    table: pa.Table
    shard: NDArray[np.int32]
    group: NDArray[np.int32]
    at: NDArray[np.int32]
    damaged: tuple[Unreadable, ...]

    def __len__(self) -> int:
        return len(self.shard)

    def has(self, part: str) -> bool:
        """Whether any shard has a column for this part."""
        return any(part in s.columns for s in self.shards)

    def texts(self, part: str) -> list[str]:
        """The values of one part [N]; an empty text where there is none."""
        return [v or "" for v in self.table.column(part).to_pylist()]

    def codes(self, part: str) -> Codes:
        """The values of one part as numbers [N], equal for equal values, -1 for none."""
        return self._coded(part)[0]

    def _coded(self, part: str) -> tuple[Codes, list[str]]:
        array = self.table.column(part).combine_chunks()
        coded = pc.dictionary_encode(pc.if_else(pc.equal(array, ""), None, array))
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        indices = pc.fill_null(coded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return np.asarray(indices, dtype=np.int64), coded.dictionary.to_pylist()

    @cached_property
    def split(self) -> NDArray[np.int8]:
        """The split of each row [N], an index into SPLIT_ORDER."""
        of_shard = np.array([SPLIT_ORDER.index(s.split) for s in self.shards], dtype=np.int8)
        return of_shard[self.shard]

    @cached_property
    def _labelled(self) -> tuple[Codes, tuple[str, ...]]:
        """The class of each row and the names of the classes; the label column if there is one, else species."""
        part = "label" if self.has("label") else "species"
        codes, values = self._coded(part)
        names = [self._label_name(v) for v in values] if part == "label" else values
        if part == "label" and self.has("species"):
            names = self._names_by_row(codes, names)
        # Hugging Face writes -1 where there is no label.
        given = [i for i, value in enumerate(values) if part == "species" or value != "-1"]
        order = sorted(given, key=lambda i: (names[i], values[i]))
        rank = np.full(len(names) + 1, -1)
        rank[order] = np.arange(len(order))
        return rank[codes], tuple(names[i] for i in order)

    @property
    def label(self) -> Codes:
        """The class of each row [N], an index into `species`, -1 for none."""
        return self._labelled[0]

    @property
    def species(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return self._labelled[1]

    def _label_name(self, value: str) -> str:
        names = next((s.label_names for s in self.shards if s.label_names), ())
        known = value.isdecimal() and len(value) < 10 and int(value) < len(names)
        return names[int(value)] if known else value

    def _names_by_row(self, codes: Codes, names: list[str]) -> list[str]:
        """Where a label has no name of its own: the species that most of its rows name."""
        species, known = self._coded("species")
        out = list(names)
        for code, name in enumerate(names):
            if not name.lstrip("-").isdecimal():
                continue
            mine = species[(codes == code) & (species >= 0)]
            if len(mine):
                out[code] = known[int(np.bincount(mine).argmax())]
        return out

    def name(self, row: int) -> str:
        """What a finding calls a row: its id, or its place where it has none."""
        given = self.table.column("id")[row].as_py()
        shard = self.shards[int(self.shard[row])]
        if given:
            return str(given)[:200]
        return f"{shard.name} row {sum(shard.group_rows[: self.group[row]]) + int(self.at[row])}"


def read(shards: Sequence[Shard], progress: Callable[[int, int], None]) -> Rows:
    """Read the light columns of all shards; a row group that cannot be read is listed and left out."""
    tables: list[pa.Table] = []
    places: list[NDArray[np.int32]] = []
    damaged: list[Unreadable] = []
    for number, shard in enumerate(shards):
        for group, found in enumerate(_groups(shard)):
            if isinstance(found, Unreadable):
                damaged.append(found)
                continue
            tables.append(found)
            place = np.empty((3, found.num_rows), dtype=np.int32)
            place[0], place[1], place[2] = number, group, np.arange(found.num_rows)
            places.append(place)
        progress(number + 1, len(shards))
    where = np.concatenate(places, axis=1) if places else np.empty((3, 0), dtype=np.int32)
    table = pa.concat_tables(tables) if tables else _ROWS.empty_table()
    return Rows(shards, table, where[0], where[1], where[2], tuple(damaged))


def _groups(shard: Shard) -> Iterator[pa.Table | Unreadable]:
    """The light parts of each row group as text, in the order of LIGHT."""
    wanted = {part: shard.columns[part] for part in LIGHT if part in shard.columns}
    with open_file(shard.path) as file:
        for group, rows in enumerate(shard.group_rows):
            try:
                # Without a column, pyarrow's table has no rows either.
                found = file.read_row_group(group, columns=sorted(set(wanted.values()))) if wanted else None
                columns = [
                    _as_text(found.column(wanted[part]))
                    if found is not None and part in wanted
                    else pa.nulls(rows, pa.large_string())
                    for part in LIGHT
                ]
                yield pa.Table.from_arrays(columns, schema=_ROWS)
            except BROKEN as e:
                yield Unreadable(f"{shard.name} row group {group} ({rows:,} rows)", first_line(e))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):
        # Ids that passed through pandas come as 12.0; NaN is none.
        column = pc.if_else(pc.is_finite(column), column, None)
    text = column.cast(pa.large_string())
    return pc.replace_substring_regex(text, r"^(-?\d+)\.0$", r"\1") if pa.types.is_floating(kind) else text

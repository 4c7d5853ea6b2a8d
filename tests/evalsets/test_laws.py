"""What holds for any table and any source: every row is accounted for, and no table brings a traceback."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fakes import evalset
from helpers.evalsets import NAMES, module_of
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import EvalsetError
from birdmml.evalsets._annotations import AnnotatedItem, Collection, TableRow, settle, whole_number
from birdmml.evalsets.account import differences
from birdmml.evalsets.decode import DecodedFile, EvalsetRow, plan, shrink
from birdmml.evalsets.prepare import _limited, layout
from birdmml.evalsets.shelf import EvalsetFiles, EvalsetLayout

claims = st.builds(
    lambda name, label, split, file: TableRow("t:1", name, whole_number(label), label, split, file and f"v/{file}"),
    st.sampled_from(["a", "b", "c", "", "../d", "e/f"]),
    st.sampled_from(["0", "1", "2", "-1", "x", "1.0", "²"]),
    st.sampled_from(["train", "test", "other"]),
    st.sampled_from(["a", "b", ""]),
)


@given(st.lists(claims, max_size=12))
def test_every_row_is_an_item_or_a_reject_and_an_id_stands_once(found: list[TableRow]) -> None:
    entries, rejects = settle(found, 2, ("train", "test"), {"v/a"})
    assert len(entries) + len(rejects) == len(found)
    assert max(Counter(e.id for e in entries).values(), default=0) <= 1
    for entry in entries:
        assert entry.label in (0, 1)
        assert (entry.split in ("train", "test"), entry.file) == (True, "v/a")
        # No row says anything else of this id.
        said = {(c.label, c.split, c.file) for c in found if c.id == entry.id}
        assert said == {(entry.label, entry.split, entry.file)}
    order = [c.id for c in found]
    assert [order.index(e.id) for e in entries] == sorted(order.index(e.id) for e in entries)


@given(st.text("ab/.\\v\0_", max_size=24))
def test_a_place_in_the_layout_never_climbs_and_is_its_own_place(name: str) -> None:
    form = EvalsetLayout(("a.b",), ("v",))
    place = form.place(name)
    if place:
        assert name.endswith(place)
        assert ".." not in place.split("/")
        assert form.place(place) == place
        assert place.split("/")[0] == "v" or place == "a.b"


@given(st.lists(st.sampled_from(["train", "test"]), max_size=30), st.integers(1, 12))
def test_a_limit_keeps_so_many_of_each_split_in_order(splits: list[str], limit: int) -> None:
    entries = tuple(AnnotatedItem(str(i), 0, split, "") for i, split in enumerate(splits))
    kept = _limited(entries, limit)
    assert [int(e.id) for e in kept] == sorted({int(e.id) for e in kept})
    for split, n in Counter(splits).items():
        assert sum(e.split == split for e in kept) == min(n, limit)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 60))
def test_shards_hold_every_row_once_within_the_limit(sizes: list[int], limit: int) -> None:
    rows = [EvalsetRow(str(i), 0, "x", DecodedFile("", "", 0, {"image": [(0, n)]})) for i, n in enumerate(sizes)]
    tasks = plan(Path("/x"), Path("/y"), Collection("images", "images", "images"), ("x",), "test", rows, limit)
    assert [r for t in tasks for r in t.rows] == rows
    assert all(len(t.rows) == 1 or sum(r.decoded.bytes for r in t.rows) <= limit for t in tasks)
    assert [t.path for t in tasks] == [
        f"data/images/test-{i:05d}-of-{len(tasks):05d}.parquet" for i in range(len(tasks))
    ]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 30))
@settings(max_examples=50)
def test_the_short_side_is_at_most_as_asked_and_the_shape_stays(height: int, width: int, px: int) -> None:
    small = shrink(np.zeros((height, width, 3), np.uint8), px)
    if not px or min(height, width) <= px:
        assert small.shape == (height, width, 3)
    else:
        assert min(small.shape[:2]) == px
        assert abs(small.shape[0] * width - small.shape[1] * height) <= max(height, width)


def test_differences_name_each_count_and_add_up_all() -> None:
    found = {"classes": 2, "videos": {"train": 3, "test": 4}}
    published = {"classes": 2, "videos": {"train": 5, "test": 4}, "audio": {"test": 1_000}}
    assert differences(published, found) == [
        "videos/train: 3 found, 5 published (-2)",
        "audio/test: 0 found, 1,000 published (-1,000)",
    ]
    assert differences({"videos": {"all": 7}}, found) == []
    assert differences({"videos": {"all": 6}}, found) == ["videos/all: 7 found, 6 published (+1)"]


@pytest.mark.parametrize("name", NAMES)
def test_tables_with_random_damage_are_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    module, rng = module_of(name), np.random.default_rng(0)
    shelf = EvalsetFiles(evalset(name, tmp_path / "fake"), layout(module), module.ARCHIVES)
    listing = shelf.scan()
    refused = 0
    for _ in range(150):
        tables = dict(listing.tables)
        table = str(rng.choice(sorted(tables)))
        data = bytearray(tables[table])
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(0, len(data)))
            end = at + int(rng.choice([0, 1, 1, 20]))
            data[at:end] = rng.choice([b"", b"\n", b",", b'"', b"\0", b"../", b"9", rng.bytes(3), b"/ 1\n"])
        tables[table] = bytes(data)
        try:
            found = module.annotate(tables, frozenset(listing.files))
        except EvalsetError as e:
            refused += 1
            assert "\n" not in str(e)
            continue
        for entries in found.entries.values():
            assert all(0 <= e.label < len(found.classes) and e.file in listing.files for e in entries)
        claimed = sum(n for counts in found.claimed.values() for n in counts.values())
        assert claimed == sum(map(len, found.entries.values())) + len(found.rejects)
    assert 0 < refused < 150

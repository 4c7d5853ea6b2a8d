from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from birdmml.dataset.leaks import Leak, evalset_hashes, split_leakage
from birdmml.errors import BuildError, EvalsetError
from birdmml.media.image import decode_image, phash
from birdmml.media.video import decode_video, encode_video


def naive(split: list[int], keys: list[object]) -> Leak:
    """Row by row and pair by pair."""
    members = defaultdict(list)
    for row, key in enumerate(keys):
        if key != "" and key is not None and not (isinstance(key, int) and key < 0):
            members[key].append(row)
    across = [rows for rows in members.values() if any(split[r] != split[rows[0]] for r in rows)]

    def share(side: int) -> float | None:
        mine = [r for r in range(len(split)) if split[r] == side]
        hit = [r for r in mine if any(split[o] == 0 for o in members.get(keys[r], ()))]
        return len(hit) / len(mine) if mine else None

    return Leak(len(across), sum(map(len, across)), share(2), share(1))


rows_with_strings = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "a", "b", "ü", "a ", "c"])))
rows_with_numbers = st.lists(st.tuples(st.integers(0, 2), st.integers(-2, 6)))


@settings(max_examples=150, deadline=None)
@given(rows_with_strings)
def test_a_leak_through_strings_equals_a_naive_count(rows: list[tuple[int, str]]) -> None:
    split, keys = [s for s, _ in rows], [k for _, k in rows]
    wanted = naive(split, list(keys))
    for array in (np.array(keys, dtype=np.str_), np.array([k or None for k in keys], dtype=object)):
        assert split_leakage(np.array(split, dtype=np.int8), {"author": array}, None) == {"author": wanted}


@settings(max_examples=150, deadline=None)
@given(rows_with_numbers)
def test_a_leak_through_numbers_equals_a_naive_count(rows: list[tuple[int, int]]) -> None:
    split, keys = [s for s, _ in rows], [k for _, k in rows]
    found = split_leakage(np.array(split, dtype=np.int8), {}, np.array(keys, dtype=np.int64))
    assert found == {"near_duplicate": naive(split, list(keys))}


def test_a_leak_worked_by_hand() -> None:
    split = np.array([0, 0, 1, 2, 2, 2, 1, 2], dtype=np.int8)
    recording = np.array(["r1", "r2", "r1", "r1", "r3", "", "r3", ""])
    # r1 lies in all three splits (3 rows), r3 in validation and test (2 rows, none of them training).
    assert split_leakage(split, {"recording": recording}, None)["recording"] == Leak(2, 5, 1 / 4, 1 / 2)


def test_a_grouped_split_leaks_nothing() -> None:
    group = np.random.default_rng(0).integers(0, 50, 1000)
    found = split_leakage((group % 3).astype(np.int8), {"observation": group.astype(str)}, group)
    assert set(found.values()) == {Leak(0, 0, 0.0, 0.0)}


def test_a_split_without_rows_has_no_share() -> None:
    assert split_leakage(np.zeros(2, dtype=np.int8), {"k": np.array(["a", "a"])}) == {"k": Leak(0, 0, None, None)}


@pytest.mark.parametrize(
    ("split", "keys", "said"),
    [([0, 1], ["a"], "one key a row"), ([0, 1], [0.5, 1.5], "strings or integers"), ([0, 3], ["a", "b"], "3")],
)
def test_keys_that_cannot_be_used_are_refused(split: list[int], keys: list[object], said: str) -> None:
    with pytest.raises(BuildError, match=said):
        split_leakage(np.array(split, dtype=np.int8), {"key": np.array(keys)})


def hash_of(path: Path) -> int:
    return int(phash(decode_image(path.read_bytes())), 16)


def test_photos_in_a_tree_are_hashed_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ("b/2.png", "a/1.jpg", "c.JPEG")
    paths = [photo(tmp_path / n, seed=i, size=(48, 40)) for i, n in enumerate(names)]
    (tmp_path / "a/._1.jpg").write_bytes(b"not a picture")
    (tmp_path / "a/notes.txt").write_text("notes")
    hashes, what = evalset_hashes(tmp_path)
    assert hashes.tolist() == [hash_of(p) for p in sorted(paths)]
    assert what == "3 photos"


def test_a_damaged_photo_is_named_not_hidden(tmp_path: Path) -> None:
    photo(tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 and no more")
    hashes, what = evalset_hashes(tmp_path)
    assert len(hashes) == 1
    assert what.startswith("1 photos; 1 could not be decoded (first: bad.jpg: ")


def test_videos_give_the_middles_of_eight_segments(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = np.stack(
        [
            np.asarray(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((64, 64)))
            for _ in range(16)
        ]
    )
    encode_video(tmp_path / "film.mp4", frames, None, fps=8)
    hashes, what = evalset_hashes(tmp_path)
    kept = decode_video(tmp_path / "film.mp4", 8).frames
    assert hashes.tolist() == [int(phash(frame), 16) for frame in kept]
    assert len(set(hashes.tolist())) == 8
    assert what == "1 videos, 8 frames of each"


def test_parquet_images_are_hashed_and_missing_bytes_are_told(tmp_path: Path) -> None:
    picture = photo(tmp_path / "source" / "p.jpg").read_bytes()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": picture, "path": "p.jpg"}] * 70 + [{"bytes": None, "path": "gone.jpg"}, None]
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"image": pa.array(images, kind)}), folder / "test.parquet")
    pq.write_table(pa.table({"label": [1]}), folder / "labels.parquet")
    hashes, what = evalset_hashes(tmp_path / "set")
    assert hashes.tolist() == [hash_of(tmp_path / "source" / "p.jpg")] * 70
    assert what.startswith("70 photos in parquet files; 2 could not be decoded (first: data/test.parquet row 70: ")


def test_a_built_dataset_gives_its_own_hashes(small_demo: Path) -> None:
    hashes, what = evalset_hashes(small_demo)
    files = sorted((small_demo / "data").glob("*.parquet"))
    wanted = [int(h, 16) for f in files for h in pq.read_table(f)["image_phash"].to_pylist()]
    assert hashes.tolist() == wanted
    assert what == f"{len(wanted)} photos of a built dataset"


def test_nothing_to_hash_is_an_error_that_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(EvalsetError, match="does not exist: name the folder"):
        evalset_hashes(tmp_path / "nowhere")
    with pytest.raises(EvalsetError, match="holds no files"):
        evalset_hashes(tmp_path)
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(EvalsetError, match=r"found 1 of \.csv"):
        evalset_hashes(tmp_path)
    with pytest.raises(EvalsetError, match="is a file"):
        evalset_hashes(tmp_path / "a.csv")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(EvalsetError, match="no picture that can be read"):
        evalset_hashes(tmp_path)


@pytest.mark.parametrize("bad", ["", "xyz", "0x000000000000ff", None])
def test_a_column_of_no_hashes_is_refused(tmp_path: Path, bad: str | None) -> None:
    pq.write_table(pa.table({"image_phash": pa.array([bad], pa.string())}), tmp_path / "t.parquet")
    with pytest.raises(EvalsetError, match="16 hex digits"):
        evalset_hashes(tmp_path)


def test_a_broken_or_strange_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(json.dumps({"no": "parquet"}).encode())
    with pytest.raises(EvalsetError, match="cannot be read"):
        evalset_hashes(tmp_path)
    pq.write_table(pa.table({"image": ["a.jpg"]}), tmp_path / "t.parquet")
    with pytest.raises(EvalsetError, match="struct<bytes, path> is needed"):
        evalset_hashes(tmp_path)

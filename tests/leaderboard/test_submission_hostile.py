"""What a stranger may put into a submission: each is one line, and nothing of it is followed, unpacked or run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Ran, submitted

from birdmml.errors import ResultError
from birdmml.leaderboard.submission import checking, reading
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.form import load
from birdmml.leaderboard.submission.reading import read

Cli = Callable[..., Ran]
PLACED = "predictions/zero-shot.test-split.A.parquet"
RANKED = "predictions/retrieval.test-split.image-to-text.parquet"
SPECIES = "predictions/retrieval.test-split.image-to-text_by_species.parquet"
MEASURED = "predictions/competition.test-split.A_swapped.parquet"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submitted.submission_in(tmp_path_factory.mktemp("sound")).folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "submission"))


def found(folder: Path) -> str:
    """Every problem, a line each; the reader refuses as well where the form is wrong."""
    report = check(folder)
    assert not report.sound
    lines = [p.line for p in report.problems]
    assert all(line.isprintable() and len(line) < 700 for line in lines)
    return "\n".join(lines)


def inner(folder: Path, name: str) -> Path:
    return folder / "results" / "small-1" / name


@pytest.mark.parametrize("where", ["extra.parquet", "results/small-1/predictions/x.parquet", "results/more"])
def test_links_are_refused_and_not_followed(folder: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "secret").write_text("a secret")
    (folder / where).symlink_to(tmp_path / "secret")
    assert f"{where}: a link" in found(folder)
    with pytest.raises(ResultError, match="a link"):
        read(folder)


def test_submission_json_may_not_be_a_link(folder: Path, tmp_path: Path) -> None:
    (folder / "submission.json").rename(tmp_path / "head.json")
    (folder / "submission.json").symlink_to(tmp_path / "head.json")
    assert "submission.json: a link" in found(folder)


@pytest.mark.parametrize(
    "where",
    ["run.sh", "results/small-1/overview.png", "results/small-1/model.pkl", "results/result.json", ".hidden",
     "results/small-1/predictions/deep/er.parquet", "results/small-1/predictions/-x.parquet", "results/-/result.json",
     "results/small-1/predictions/a b.parquet", "results/small-1/predictions/\udcff.parquet", "more/result.json"],
)  # fmt: skip
def test_extra_files_and_names_are_refused(folder: Path, where: str) -> None:
    path = folder / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    assert "a submission never has" in found(folder)


def test_a_pipe_is_refused_and_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "results" / "small-1" / "pipe.parquet")
    assert "no file and no folder" in found(folder)


def test_an_extra_parquet_file_is_refused_even_if_it_is_listed(folder: Path) -> None:
    inner(folder, "predictions/more.parquet").write_bytes(inner(folder, PLACED).read_bytes())
    assert "not listed" in found(folder)
    submitted.relist(folder)
    assert "named by no figure" in found(folder)


def test_files_are_bounded_in_number_and_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_FILES", 3)
    assert "more than 3 files" in found(folder)
    monkeypatch.setattr(reading, "MAX_FILES", 5000)
    with inner(folder, PLACED).open("r+b") as f:
        f.truncate(reading.MAX_PARQUET + 1)  # Sparse: takes no room.
    assert "larger than 512.0 MiB" in found(folder)
    with (folder / "submission.json").open("r+b") as f:
        f.truncate(2**34)
    assert "submission.json: larger than 16.0 MiB" in found(folder)


BAD_JSON = {
    "deep": (b"[" * 100_000, "no JSON"),
    "nested": (b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper"),
    "nan": (b'{"a": NaN}', "NaN"),
    "infinite": (b'{"a": 1e999}', "beyond what"),
    "long number": (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
    "large number": (b'{"a": 1' + b"0" * 400 + b"}", "beyond what"),
    "latin": ('{"a": "é"}'.encode("latin-1"), "no JSON in UTF-8"),
    "twice": (b'{"a": 1, "a": 2}', "twice"),
    "text": (b'{"a": "' + b"x" * 10_000_000 + b'"}', "10,000,000 characters"),
    "key": (b'{"' + b"x" * 20_000 + b'": 1}', "20,000 characters"),
    "control": (b'{"a": "\\u001b[2J"}', "U+001B"),
    "half": (b'{"a": "\\ud800"}', "U+D800"),
    "turning": ('{"a": "\u202egnp.exe"}'.encode(), "U+202E"),
    "list": (b"[1]", "no object"),
    "empty": (b"", "no JSON"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_hostile_json_is_refused_in_both_files(folder: Path, name: str) -> None:
    content, words = BAD_JSON[name]
    inner(folder, "result.json").write_bytes(content)
    assert words in found(folder)
    (folder / "submission.json").write_bytes(content)
    assert words in found(folder)
    with pytest.raises(ResultError, match=r"submission\.json"):
        read(folder)


def test_spaces_are_a_change_too(folder: Path) -> None:
    path = folder / "submission.json"
    path.write_text(path.read_text().replace(": ", ":  ", 1))
    assert "not spelled as" in found(folder)


def test_script_texts_are_data(folder: Path) -> None:
    submitted.relist(folder, labels={"name": "<script>alert('{{ 7 * 7 }}')</script> $(reboot)"})
    assert check(folder).sound
    assert read(folder).slug.startswith("script-alert-7-7-script-reboot-")


@pytest.mark.parametrize(
    "named", ["../../../etc/passwd", "/etc/passwd", "predictions\\x.parquet", "", "predictions/../result.json", "."]
)
def test_predictions_outside_the_result_are_refused(folder: Path, named: str) -> None:
    path = inner(folder, "result.json")
    submitted.edit_json(path, lambda v: v["figures"][4].update(predictions=named))
    submitted.relist(folder)
    assert "result.json" in found(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(figures=[]), "no figure"),
        (lambda v: v.update(seeds=[0, 0]), "different ones"),
        (lambda v: v.update(models="x"), "models"),
        (lambda v: v["settings"].update(evalsets=[1]), "evalsets is [1], not object"),
        (lambda v: v["settings"].update(protocol={"name": "x"}), "protocol lacks"),
        (lambda v: v["dataset"].update(digest=7), "dataset.digest is 7"),
        (lambda v: v["figures"][0].update(value=10**300), "beyond what"),
        (lambda v: v["figures"][0].update(metric="recall@0"), "no such figure"),
        (lambda v: v["figures"][0].update(metric="recall@999999999999"), "no such figure"),
        (lambda v: v["figures"][9].update(metric="other"), "does not follow"),
        (lambda v: v["provenance"].update(code="x" * 9999), "code"),
        (lambda v: v["provenance"]["hardware"].update(cpu=["x"]), "hardware.cpu"),
        (lambda v: v["seconds"].update(total="fast"), "seconds.total"),
        (lambda v: v.update(surprise=1), "surprise"),
        (lambda v: v.update(figures=[7]), "figures"),
    ],
)  # fmt: skip
def test_results_of_another_form_are_one_line(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    submitted.edit_json(inner(folder, "result.json"), change)
    submitted.relist(folder)
    assert words in found(folder)


IMPOSSIBLE = [
    (PLACED, "greater", 9, "rank outside the gallery"),
    (PLACED, "greater", -1, "rank outside the gallery"),
    (PLACED, "ties", 2**62, "rank outside the gallery"),
    (PLACED, "ties", 4, "rank outside the gallery"),
    (SPECIES, "greater", 2**62, "more candidates than there are"),
    (SPECIES, "average_precision", 1.5, "outside 0 to 1"),
    (SPECIES, "level", 3, "more candidates than there are"),
    (MEASURED, "value", float("nan"), "not finite"),
    (MEASURED, "weight", -1.0, "negative weights"),
    (MEASURED, "value", 1e308, "is given as"),
    (PLACED, "id", "bird-01", "twice"),
    (PLACED, "target", "Wren\x1b[2J", "control characters"),
    (PLACED, "id", "x" * 501, "501 bytes"),
]


@pytest.mark.parametrize(("file", "column", "value", "words"), IMPOSSIBLE)
def test_impossible_outcomes_have_their_own_message(
    folder: Path, file: str, column: str, value: Any, words: str
) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        for row in (0, submitted.N) if column in ("id", "target") else (0,):
            columns[column][row] = value
        if column in ("greater", "ties") and file == PLACED:
            below = np.asarray(columns["greater"], dtype=float), np.asarray(columns["ties"], dtype=float)
            columns["outcome"] = list(np.clip((1 - below[0]) / (below[1] + 1), 0, 1))
            columns["prediction"] = ["Other" for _ in columns["prediction"]]
            names = dict(zip(submitted.CLASSES, (*submitted.CLASSES[1:], submitted.CLASSES[0]), strict=True))
            right = [g == 0 and t == 0 for g, t in zip(columns["greater"], columns["ties"], strict=True)]
            columns["prediction"] = [t if r else names[t] for t, r in zip(columns["target"], right, strict=True)]

    submitted.edit_table(inner(folder, file), change)
    submitted.relist(folder)
    assert words in found(folder)


@pytest.mark.parametrize(
    ("figure", "values", "words"),
    [
        (0, {"n": 11}, "n is 11, its file holds 12"),
        (0, {"value": 1.5}, "outside 0 to 1"),
        (3, {"value": 13.0}, "outside 1 to 12"),
        (3, {"value": 0.0}, "outside 1 to 12"),
        (0, {"low": 0.9, "high": 0.1}, "above its high end"),
        (0, {"chance": 0.5}, "among 12 candidates it is 0.08333"),
        (4, {"chance": 0.5}, "among 4 candidates it is 0.25"),
        (0, {"per_seed": [0.1]}, "1 values by seed, for 2 seeds"),
        (0, {"value": 0.9}, "recall@1 is above recall@5"),
        (1, {"per_seed": [1.0, 1.0]}, "recall@5 is above recall@10"),
        (0, {"sd": -0.1}, "standard deviation of -0.1"),
        (4, {"ceiling": 1.2}, "best possible 1.2 lies outside"),
        (1, {"metric": "recall@1"}, "given twice"),
        (4, {"predictions": RANKED}, "the items of 2 tasks"),
    ],
)
def test_impossible_figures_have_their_own_message(
    folder: Path, figure: int, values: dict[str, Any], words: str
) -> None:
    submitted.edit_json(inner(folder, "result.json"), lambda v: v["figures"][figure].update(values))
    submitted.relist(folder, restate=words != "the items of 2 tasks")
    assert words in found(folder)


def test_more_names_than_candidates_and_fewer_items_than_rows_are_found(folder: Path) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns["prediction"] = [
            p if p == t else f"name {k}"
            for k, (p, t) in enumerate(zip(columns["prediction"], columns["target"], strict=True))
        ]

    submitted.edit_table(inner(folder, PLACED), change)
    submitted.edit_json(inner(folder, "result.json"), lambda v: v["dataset"]["rows"].update(test=13))
    submitted.relist(folder, restate=True)
    text = found(folder)
    assert "different candidates are named, of 4" in text
    assert "12 items, test-split has 13" in text


def test_a_flood_of_figures_is_not_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "MAX_FIGURES", 9)
    assert "10 figures, more than 9" in found(folder)


def rows(folder: Path, **columns: Any) -> Path:
    """Replace a predictions file by one with other columns."""
    table = pq.read_table(inner(folder, PLACED))
    path = inner(folder, PLACED)
    pq.write_table(pa.table({**{n: table[n] for n in table.column_names}, **columns}), path)
    return path


def test_a_few_bytes_that_name_one_long_text_for_many_rows_are_not_unpacked(folder: Path) -> None:
    n = 3_000_000
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["x" * 490]))
    zeros = pa.array(np.zeros(n, np.int64))
    table = pa.table(
        {"seed": zeros, "id": text.cast(pa.dictionary(pa.int32(), pa.string())), "target": text, "prediction": text,
         "greater": zeros, "ties": zeros, "outcome": pa.array(np.zeros(n))}
    )  # fmt: skip
    path = inner(folder, PLACED)
    pq.write_table(table, path, store_schema=False, compression="zstd")
    assert path.stat().st_size < 2**20  # 4.4 GB of text once unpacked.
    submitted.relist(folder)
    assert "its texts would unpack to more than 1.0 GiB" in found(folder)


def test_rows_bytes_and_candidates_are_bounded_before_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_ROWS", 10)
    assert "24 rows, more than 10" in found(folder)
    monkeypatch.setattr(reading, "MAX_ROWS", 1000)
    monkeypatch.setattr(reading, "MAX_UNPACKED", 100)
    assert "would unpack to" in found(folder)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"kind": "placed", "candidates": "9" * 5000, "demo": "false"}, "facts"),
        ({"kind": "placed", "candidates": "99999999", "demo": "false"}, "candidates"),
        ({"kind": "placed", "candidates": "²", "demo": "false"}, "candidates"),
        ({"kind": "placed", "candidates": "-4", "demo": "false"}, "candidates"),
        ({"kind": "placed", "demo": "false"}, "how many candidates"),
        ({"kind": "other", "candidates": "4"}, "facts"),
        ({"kind": "placed", "candidates": "4", "pandas": "x"}, "facts"),
        ({"kind": "measured", "candidates": "4"}, "columns are not"),
        ({"kind": "placed", "candidates": "4", "demo": "true"}, "on being the demo"),
        ({"kind": "placed", "candidates": "5", "demo": "false"}, "chance"),
    ],
)
def test_hostile_facts_in_a_parquet_file_are_one_line(folder: Path, facts: dict[str, str], words: str) -> None:
    path = inner(folder, PLACED)
    pq.write_table(pq.read_table(path).replace_schema_metadata(facts), path)
    submitted.relist(folder)
    assert words in found(folder)


def test_other_columns_types_and_broken_files_are_one_line(folder: Path) -> None:
    path = rows(folder, secret=pa.array(["x"] * 24))
    assert "columns are not" in found(folder)
    rows(folder, greater=pa.array([0.0] * 24))
    assert "columns are not" in found(folder)
    path.write_bytes(path.read_bytes()[:200])
    assert "no predictions file" in found(folder)
    path.write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    assert "no predictions file" in found(folder)


def test_texts_that_are_no_utf8_are_one_line(folder: Path) -> None:
    path = inner(folder, PLACED)
    data = path.read_bytes()
    pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False, write_statistics=False)
    data = path.read_bytes().replace(b"Heron", b"He\xff\xfen")
    path.write_bytes(data)
    submitted.relist(folder)
    assert "Invalid UTF8" in found(folder)


def test_hostile_texts_reach_the_terminal_written_out(cli: Cli, folder: Path) -> None:
    (folder / "a\x1b[2Jb\n.txt").write_text("x")
    ran = cli("verify", folder)
    assert ran.code == 1
    assert "\x1b" not in ran.out + ran.err
    assert r"\x1b[2Jb\n.txt" in ran.out


def test_a_strict_reader_takes_what_birdmml_writes(folder: Path) -> None:
    told = load(folder / "submission.json", "submission.json")
    assert told == json.loads((folder / "submission.json").read_text())

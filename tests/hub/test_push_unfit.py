"""What a dataset may be made to hold, by hostility or mistake, and must not be published with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pytest
from helpers import Ran, tree
from helpers.licensed import change_manifest, change_shard

Cli = Callable[..., Ran]
REPO = ("--repo", "someone/birds")


@pytest.fixture
def data(free: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(free, tmp_path / "data"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)


def link_inside(data: Path) -> None:
    (data / "report" / "secret.csv").symlink_to("/etc/passwd")


def linked_folder(data: Path) -> None:
    (data / "evalsets").symlink_to("/etc")


def linked_shard(data: Path) -> None:
    shard = next((data / "data").iterdir())
    shard.rename(data.parent / "elsewhere")
    shard.symlink_to(data.parent / "elsewhere")


def pipe(data: Path) -> None:
    os.mkfifo(data / "report" / "pipe.csv")


def stray(data: Path) -> None:
    (data / "notes.txt").write_text("mine")


def hidden(data: Path) -> None:
    (data / ".env").write_text("HF_TOKEN=x")


def second_shard(data: Path) -> None:
    shutil.copy(next((data / "data").glob("train*")), data / "data" / "train-00001-of-00002.parquet")


def tampered(data: Path) -> None:
    shard = next((data / "data").glob("train*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def cut_short(data: Path) -> None:
    shard = next((data / "data").glob("train*"))
    shard.write_bytes(shard.read_bytes()[:-100])


def lost_shard(data: Path) -> None:
    next((data / "data").glob("train*")).unlink()


def other_licences(data: Path) -> None:
    change_manifest(data, lambda m: m["licenses"].update(image={"CC0-1.0": m["counts"]["rows"]}))


def climbing(data: Path) -> None:
    change_manifest(data, lambda m: m["files"].update({"../../etc/passwd": "0" * 64}))


def climbing_shard(data: Path) -> None:
    change_manifest(data, lambda m: m["splits"]["train"]["shards"][0].update(path="data/../../x.parquet"))


def absolute(data: Path) -> None:
    change_manifest(data, lambda m: m["files"].update({"/etc/passwd": "0" * 64}))


def other_rows(data: Path) -> None:
    change_manifest(data, lambda m: m["splits"]["train"].update(rows=1))


def fewer_rows(data: Path) -> None:
    change_shard(data, lambda t: t.slice(0, t.num_rows - 1), write_page_index=True)


def edited(data: Path) -> None:
    path = data / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def unlicensed_files(data: Path) -> None:
    path = data / "evalsets" / "x.mp4"
    path.parent.mkdir()
    path.write_bytes(b"film")
    sha = tree(data)["evalsets/x.mp4"]
    change_manifest(data, lambda m: m["files"].update({"evalsets/x.mp4": sha}))


def no_licences(data: Path) -> None:
    change_manifest(data, lambda m: m.pop("licenses"))


def hostile_types(data: Path) -> None:
    change_manifest(data, lambda m: m.update(splits=[1, 2]))


def garbled_validation(data: Path) -> None:
    (data / "report" / "validation.json").write_text('{"leakage": 3}')


def path_in_validation(data: Path) -> None:
    path = data / "report" / "validation.json"
    path.write_text(path.read_text().replace('"rejects": []', '"rejects": ["/home/ann/birds/p.jpg"]'))


def here_in_card(data: Path) -> None:
    with (data / "README.md").open("a") as f:
        f.write(f"Built from {data.resolve()}.\n")


def windows_path(data: Path) -> None:
    (data / "report" / "rejects.csv").write_text("path\nC:\\Users\\ann\\birds\\p.jpg\n")


def token_in_report(data: Path) -> None:
    with (data / "report" / "index.html").open("a") as f:
        f.write("<!-- hf_" + "a" * 30 + " -->")


def key_in_rows(data: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("audio_url")
        urls = pa.array(["https://example.org/3/recordings?query=x&key=0123456789abcdef"] * table.num_rows)
        return table.set_column(at, table.schema.field(at), urls)

    change_shard(data, change, write_page_index=True)


def path_in_rows(data: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("image")
        image = table.column(at).combine_chunks()
        paths = pa.array(["/home/ann/p.jpg"] * table.num_rows)
        made = pa.StructArray.from_arrays([image.field("bytes"), paths], names=["bytes", "path"])
        return table.set_column(at, table.schema.field(at), made)

    change_shard(data, change, write_page_index=True)


def yaml_that_is_none(data: Path) -> None:
    (data / "README.md").write_text("---\nlicense: [cc0-1.0\n: : :\n---\n# x\n")


def yaml_with_code(data: Path) -> None:
    (data / "README.md").write_text("---\nx: !!python/object/apply:os.system ['true']\n---\n# x\n")


def no_yaml(data: Path) -> None:
    (data / "README.md").write_text("# Birds\n")


def patterns_of_others(data: Path) -> None:
    path = data / "README.md"
    path.write_text(path.read_text().replace("data/test-*.parquet", "data/*.parquet"))


def pattern_of_nothing(data: Path) -> None:
    path = data / "README.md"
    path.write_text(path.read_text().replace("data/test-*.parquet", "gone/test-*.parquet"))


def no_features(data: Path) -> None:
    change_shard(data, lambda t: t.replace_schema_metadata({}), write_page_index=True)


WRONG = [
    (link_inside, "link: report/secret.csv"),
    (linked_folder, "link: evalsets"),
    (linked_shard, "link: data/"),
    (pipe, "odd_file: report/pipe.csv"),
    (stray, "stray_file: notes.txt"),
    (hidden, "stray_file: .env"),
    (second_shard, "stray_file: data/train-00001-of-00002.parquet"),
    (tampered, "sha256: data/train"),
    (cut_short, "data/train"),
    (lost_shard, "missing_file: data/train"),
    (other_licences, "licences: manifest.json image"),
    (climbing, "../../etc/passwd"),
    (climbing_shard, "data/../../x.parquet"),
    (absolute, "/etc/passwd"),
    (other_rows, "counts: train"),
    (fewer_rows, "counts: data/"),
    (edited, "was changed after the build"),
    (unlicensed_files, "1 files that no row's licence covers"),
    (no_licences, "build the dataset again"),
    (hostile_types, "build the dataset again"),
    (garbled_validation, "validation.json"),
    (path_in_validation, "private: report/validation.json line"),
    (here_in_card, "private: README.md line"),
    (windows_path, "private: report/rejects.csv line 2"),
    (token_in_report, "private: report/index.html line"),
    (key_in_rows, "column audio_url: a key of a service (not shown)"),
    (path_in_rows, "column image.path: a path of one machine"),
    (yaml_that_is_none, "card_yaml: README.md"),
    (yaml_with_code, "card_yaml: README.md"),
    (no_yaml, "card_yaml: README.md"),
    (patterns_of_others, "card_configs: README.md configs test"),
    (pattern_of_nothing, "matches no file"),
    (no_features, "features: data/"),
]


@pytest.mark.parametrize(("harm", "word"), WRONG, ids=[f.__name__ for f, _ in WRONG])
def test_what_is_not_fit_does_not_leave(harm: Callable[[Path], None], word: str, data: Path, cli: Cli) -> None:
    harm(data)
    ran = cli("push", data, *REPO)
    assert ran.code == 1 and word in ran.err, ran.out + ran.err
    assert "Traceback" not in ran.err and "nothing was uploaded" not in ran.out
    assert "0123456789abcdef" not in ran.err and "hf_aaaa" not in ran.err

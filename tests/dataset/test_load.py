from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from birdmml import load
from birdmml.errors import DatasetError, MediaError, UnknownName

REPO = Path(load.__file__).parents[1]


def python(code: str, cwd: Path, data: Path | None = None, isolated: bool = False) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter with caches of its own."""
    env = {**os.environ, "HF_HOME": str(cwd / "hf"), "HF_HUB_OFFLINE": "1"}
    if data is not None:
        env["BIRDMML_DATA"] = str(data)
    if isolated:
        # As if birdmml were not installed: any import of it fails.
        code = "import sys; sys.modules['birdmml'] = None\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=cwd, env=env, capture_output=True, text=True
    )


def test_the_folder_loads_without_birdmml(small_demo: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(small_demo)
    ran = python(
        """
        import datasets
        d = datasets.load_dataset("./data")
        print(sorted(d), {k: len(v) for k, v in d.items()})
        row = d["train"][0]
        label = d["train"].features["label"]
        print(row["image"].mode, row["audio"]["bytes"][:4], row["species"] == label.int2str(row["label"]))
        print(len(datasets.load_dataset("./data", split="train[:5]")))
        s = datasets.load_dataset("./data", split="test", streaming=True)
        print(len({r["id"] for r in s}))
        """,
        tmp_path,
        isolated=True,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("['test', 'train', 'validation']")
    assert lines[1] == "RGB b'fLaC' True"
    assert lines[2] == "5"
    assert int(lines[3]) >= 6


@pytest.mark.parametrize(
    "order", ["import birdmml, datasets", "import datasets, birdmml", "import birdmml\nimport datasets.load"]
)
def test_the_name_loads_in_any_order_of_imports_even_beside_a_folder_called_so(
    small_demo: Path, tmp_path: Path, order: str
) -> None:
    (tmp_path / "birdmml").mkdir()
    (tmp_path / "birdmml" / "train.csv").write_text("a,b\n1,2\n")
    code = f"{order}\nload = datasets.load_dataset\n"
    code += "print(len(load('birdmml', split='train[:3]')), load('birdmml')['test'][0]['species'])"
    sys_path = f"import sys; sys.path.insert(0, {str(REPO)!r})\nsys.path = [p for p in sys.path if p]\n"
    ran = python(sys_path + code, tmp_path, data=small_demo)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("3 ")


def test_from_a_checkout(small_demo: Path, tmp_path: Path) -> None:
    code = """
        import birdmml, datasets
        rows = datasets.load_dataset("birdmml", split="test", streaming=True)
        print(rows.features["label"].num_classes)
    """
    env = {**os.environ, "BIRDMML_DATA": str(small_demo), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ran = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "150"


def test_a_rebuilt_dataset_is_not_served_from_the_cache_of_the_old_one(tmp_path: Path) -> None:
    from helpers import bird_folder

    birds = bird_folder(tmp_path / "birds", photos=3, recordings=3)
    code = "import birdmml, datasets; print(datasets.load_dataset('birdmml')['train']['id'][:])"
    seen = []
    for seed in ("0", "1"):
        command = [sys.executable, "-m", "birdmml", "build", "--source", "folder", "--from", str(birds), "--seed", seed]
        subprocess.run([*command, "--out", str(tmp_path / "data")], check=True, capture_output=True)
        seen.append(python(code, tmp_path, data=tmp_path / "data").stdout)
    assert seen[0] != seen[1] != ""


def test_other_names_are_left_to_datasets(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("a\n1\n")
    ran = python("import birdmml, datasets; print(datasets.load_dataset('./mine')['train'][0])", tmp_path)
    assert "{'a': 1}" in ran.stdout


def test_importing_birdmml_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("datasets", "numpy", "torch", "pyarrow", "PIL")
    code = f"import birdmml, sys; print([m for m in {heavy!r} if m in sys.modules])"
    assert python(code, tmp_path).stdout.strip() == "[]"


def test_birdmml_load_dataset_and_decode(small_demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import birdmml

    monkeypatch.setenv("BIRDMML_DATA", str(small_demo))
    rows = birdmml.load_dataset("birdmml", split="test", cache_dir=str(tmp_path))
    row = birdmml.decode(rows[0])
    assert (row["image"].dtype, row["image"].shape) == (np.uint8, (48, 48, 3))
    assert (row["audio"].dtype, row["audio"].shape) == (np.float32, (2 * 22_050,))
    assert row["caption"] == rows[0]["caption"]
    assert np.array_equal(birdmml.decode(rows[0]["audio"]), row["audio"])
    assert 0.001 < np.abs(row["audio"]).mean() < 0.5


def test_decode_refuses_an_empty_cell() -> None:
    with pytest.raises(MediaError, match="holds no bytes"):
        load.decode({"audio": {"bytes": None, "path": "x.flac"}})


def test_rows_by_number_equal_the_whole_table(small_demo: Path) -> None:
    import pyarrow.parquet as pq

    built = load.Built.open(small_demo)
    rows = built.split("train")
    table = pq.read_table(next((small_demo / "data").glob("train-*"))).to_pylist()
    assert len(rows) == len(table)
    assert rows.column("id") == [r["id"] for r in table]
    asked = [7, 0, 7, len(rows) - 1]
    for number, got in zip(asked, rows.media(asked), strict=True):
        wanted = load.decode({k: table[number][k] for k in ("image", "audio")})
        assert np.array_equal(got["image"], wanted["image"])
        assert np.array_equal(got["audio"], wanted["audio"])
    with pytest.raises(UnknownName, match="unknown split 'tests': nearest are test"):
        built.split("tests")


def test_where_the_name_leads(small_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"run `birdmml build --out \./data`"):
        load.find()
    (tmp_path / "data").symlink_to(small_demo)
    assert load.find() == Path("data")
    load.remember_build(small_demo)
    assert load.find() == small_demo
    monkeypatch.setenv("BIRDMML_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match="BIRDMML_DATA is"):
        load.find()


def test_a_missing_shard_is_named(small_demo: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((small_demo / "manifest.json").read_bytes())
    with pytest.raises(DatasetError, match=r"test-00000-of-00001\.parquet is missing"):
        load.Built.open(tmp_path).split("test")

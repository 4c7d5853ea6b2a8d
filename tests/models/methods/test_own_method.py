"""A user's own file is a method by the same contract; what is wrong with it is told in one line."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ran
from helpers.small import OPTIONS

from birdmml.core import discover
from birdmml.errors import CheckpointError, UsageError
from birdmml.leaderboard.verify import verify
from birdmml.models.checkpoint import META, load

Cli = Callable[..., Ran]
QUICK = [word for option in OPTIONS for word in ("--set", option)] + ["--set", "training.epochs=1"]
GUIDE = Path(__file__).parents[3] / "docs" / "method.md"


def example() -> str:
    """The method in the guide."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return code


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "code" / "my_method.py"
    path.parent.mkdir()
    path.write_text(example())
    return path


def test_the_guides_example_trains_scores_and_loads_again(
    small_demo: Path, cli: Cli, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["bench", "--data", small_demo, "--device", "cpu", "--method", "code/my_method.py"]
    ran = cli(*common, "--out", "out", *QUICK, "--set", "method.temperature=0.2", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()
    assert found["method"] == "my_method.py"
    assert found["settings"]["method"] == {"dim": 16, "temperature": 0.2}
    assert found["settings"]["method_file"] == {"path": "my_method.py", "sha256": digest}
    folder = Path(found["folder"])
    assert folder.name.startswith("my-method-tiny-demo-")
    assert len({f.task for f in verify(folder).figures}) == 9 + 9 + 3
    checkpoint = next((folder.parent / "models").iterdir()) / "seed-0"
    meta = json.loads((checkpoint / META).read_text())
    assert meta["method_file"] == {"path": "code/my_method.py", "sha256": digest}
    again = cli(*common, "--out", "again", "--checkpoint", checkpoint, "--json")
    assert again.code == 0, again.err
    values = [f["value"] for f in found["figures"]]
    assert [f["value"] for f in json.loads(again.out)["figures"]] == values

    moved = mine.rename(tmp_path / "elsewhere.py")  # the content counts, not the place
    assert load(checkpoint, str(moved)).method == str(moved)
    gone = cli(*common, "--out", "x", "--checkpoint", checkpoint)
    assert (gone.code, gone.out) == (2, "")
    assert "no file code/my_method.py" in gone.err
    with pytest.raises(CheckpointError, match=rf"code/my_method\.py \(SHA-256 {digest[:12]}\): give --method"):
        load(checkpoint)
    with pytest.raises(CheckpointError, match="give --method the path"):
        load(checkpoint, "confu")
    moved.write_text(example() + "# changed\n")
    with pytest.raises(CheckpointError, match=f"{digest[:12]}.*has changed since"):
        load(checkpoint, str(moved))


def test_a_checkpoint_never_makes_a_file_run(small_demo: Path, cli: Cli, mine: Path, tmp_path: Path) -> None:
    ran = cli("bench", "--data", small_demo, "--device", "cpu", "--out", tmp_path / "out", *QUICK, "--json")
    checkpoint = next((Path(json.loads(ran.out)["folder"]).parent / "models").iterdir()) / "seed-0"
    trap = tmp_path / "trap.py"
    trap.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).touch()\n")
    meta = json.loads((checkpoint / META).read_text())
    digest = hashlib.sha256(trap.read_bytes()).hexdigest()
    for change in (
        {"method": str(trap)},
        {"method": "trap.py", "method_file": {"path": str(trap), "sha256": digest}},
        {"method": "confu", "method_file": {"path": str(trap), "sha256": digest}},
    ):
        (checkpoint / META).write_text(json.dumps(meta | change))
        for wanted in (None, "confu"):
            with pytest.raises(CheckpointError):
                load(checkpoint, wanted)
    assert not (tmp_path / "sprung").exists()


BROKEN = {
    "no such module": ("import nonesuch_at_all\n", r"line 1: ModuleNotFoundError: No module named"),
    "syntax": ("x = 1\ndef broken(:\n", r"line 2: SyntaxError"),
    "an error on the way": ("x = 1\n\nx / 0\n", r"line 3: ZeroDivisionError"),
    "leaves": ("raise SystemExit(3)\n", r"SystemExit: 3"),
    "empty": ("", r"has no CARD, no Config, no Model.*docs/method.md"),
    "no model": ("CARD = Config = 1\n", r"has no Model"),
    "no dataclass": ("CARD = Model = 1\nclass Config: ...\n", r"Config is no dataclass"),
    "a field without default": (
        "from dataclasses import dataclass\nCARD = Model = 1\n@dataclass\nclass Config:\n    dim: int\n",
        r"every field of Config needs a default",
    ),
    "no score": (
        "from dataclasses import dataclass\nCARD = 1\n@dataclass\nclass Config: ...\n"
        "class Model:\n    def loss(self): ...\n    def embed(self): ...\n    def pairs(self): ...\n",
        r"Model has no score",
    ),
    "no mask": (
        "from dataclasses import dataclass\nCARD = 1\n@dataclass\nclass Config: ...\n"
        "class Model:\n    def loss(self, features): ...\n    embed = pairs = score = loss\n",
        r"lacks the argument same=None",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_no_method_gives_one_line(case: str, small_demo: Path, cli: Cli, mine: Path) -> None:
    content, message = BROKEN[case]
    mine.write_text(content)
    before = set(sys.modules)
    ran = cli("bench", "--data", small_demo, "--method", mine, "--dry-run")
    assert (ran.code, ran.out) == (2, "")
    assert re.search(message, ran.err)
    assert "Traceback" not in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not {m for m in set(sys.modules) - before if m.startswith("birdmml_own")}


def test_a_missing_file_names_what_lies_beside_it(small_demo: Path, cli: Cli, mine: Path) -> None:
    ran = cli("bench", "--data", small_demo, "--method", mine.with_name("my_metod.py"))
    assert ran.code == 2
    assert "beside it there are my_method.py" in ran.err
    assert cli("bench", "--data", small_demo, "--method", "nowhere/x.py").code == 2


@pytest.mark.parametrize("own", [True, False])
def test_an_unknown_option_suggests_the_nearest_name(own: bool, small_demo: Path, cli: Cli, mine: Path) -> None:
    method = mine if own else "gram"
    ran = cli("bench", "--data", small_demo, "--method", method, "--set", "method.temprature=0.1", "--dry-run")
    assert ran.code == 2
    assert "unknown setting 'method.temprature': nearest are method.temperature" in ran.err


def test_a_changed_file_is_run_anew_and_the_same_content_once(mine: Path) -> None:
    first = discover.load("method", str(mine))
    assert discover.load("method", str(mine)) is first
    mine.write_text(example().replace("0.1", "0.3"))
    assert discover.load("method", str(mine)).Config().temperature == 0.3
    assert first.Config().temperature == 0.1
    assert not list(mine.parent.glob("__pycache__"))


def test_only_methods_may_be_files(mine: Path) -> None:
    with pytest.raises(UsageError, match="unknown suite"):
        discover.load("suite", str(mine))

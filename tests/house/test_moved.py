"""Imports that 0.1's documentation showed go on working for one release, and say where the module is now."""

from __future__ import annotations

import subprocess
import sys

import pytest

from birdmml import _hook


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=120)


def test_every_old_name_is_the_module_of_today() -> None:
    code = "import importlib, birdmml\n" + "\n".join(
        f"assert importlib.import_module({old!r}) is importlib.import_module({new!r}), {old!r}"
        for old, new in _hook.MOVED.items()
    )
    ran = run(code, "-W", "ignore")
    assert ran.returncode == 0, ran.stderr


def test_the_statements_of_the_old_guides_work_and_say_where_the_module_is_now() -> None:
    code = """
from birdmml.nn.heads import CosineHead
from birdmml.nn.losses import info_nce
from birdmml.prepared import Prepared, validate
from birdmml.interop import mteb
import birdmml.train
from birdmml.models import heads
assert CosineHead is heads.CosineHead
assert birdmml.train.train.__module__ == "birdmml.models.train"
"""
    ran = run(code, "-W", "always")
    assert ran.returncode == 0, ran.stderr
    assert "birdmml.nn.heads is now birdmml.models.heads" in ran.stderr


def test_what_the_guides_import_is_there() -> None:
    code = """
import birdmml
from birdmml import decode, load_dataset
from birdmml.errors import UsageError
from birdmml.leaderboard.submission import check, make, read
from birdmml.leaderboard.submission.expected import write_list
from birdmml.load import Built
from birdmml.schema import Card
assert callable(check) and callable(make) and callable(read)
"""
    ran = run(code, "-W", "error")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", ["birdmml.nothing", "birdmml.nn.nothing"])
def test_what_never_was_is_still_an_error(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__(name)

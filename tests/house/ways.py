"""Which files of birdmml a value goes through: a photo to its row, a batch through training, a vector to the board.

python tests/house/ways.py            # every way, on the demo and on fakes in a temporary folder
python tests/house/ways.py method     # one of: photo, batch, vector, method

A file counts where one of its functions is called with the value, or with something that holds it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import birdmml

PACKAGE = Path(birdmml.__file__).parent
DEPTH = 3


@contextlib.contextmanager
def followed(carries: Callable[[object], bool]) -> Iterator[list[str]]:
    """The files, in order of first entry, whose functions get an argument that `carries` says yes to."""
    files: list[str] = []
    top = str(PACKAGE)

    # A tracer that returns None is called once a Python function, not once a line or a call into C.
    def look(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(top):
            return
        name = code.co_filename[len(top) + 1 :]
        if name in files:
            return
        count = code.co_argcount + code.co_kwonlyargcount
        if any(holds(frame.f_locals.get(n), carries) for n in code.co_varnames[:count]):
            files.append(name)

    for setter in (threading.settrace, sys.settrace):
        setter(look)
    try:
        yield files
    finally:
        for setter in (threading.settrace, sys.settrace):
            setter(None)


def holds(value: object, carries: Callable[[object], bool], depth: int = DEPTH) -> bool:
    """Whether a value, or one within it, is what is followed."""
    if carries(value):
        return True
    if depth == 0:
        return False
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(holds(getattr(value, f.name, None), carries, depth - 1) for f in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return any(holds(v, carries, depth - 1) for v in list(value.values())[:20])
    if isinstance(value, list | tuple):
        return any(holds(v, carries, depth - 1) for v in value[:20])
    return False


def photo(folder: Path) -> list[str]:
    """A photo of a user's folder, from its path to its row in a shard and its picture in the report."""
    import fakes

    from birdmml.dataset.build import build
    from birdmml.dataset.recipe import BuildSettings

    settings = fakes.source("folder", folder / "mine")
    name = min(path.name for path in (folder / "mine").rglob("*.jpg"))

    def carries(value: object) -> bool:
        return (isinstance(value, str) and name in value) or (isinstance(value, bytes) and value[:3] == b"\xff\xd8\xff")

    with followed(carries) as files:
        build(BuildSettings("folder", settings), folder / "data", workers=1)
    return files


def batch(folder: Path) -> list[str]:
    """A batch of rows through one training of the demo: read, prepared, encoded, compared, learned from."""
    import torch

    from birdmml.bench.plan import Choice, plan
    from birdmml.load import Built
    from birdmml.models.train import train

    recipe = plan(Built.open(demo(folder)).root, "confu", Choice(overrides=("training.epochs=1",), limit=64)).recipe

    def carries(value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.ndim > 0

    with followed(carries) as files:
        train(recipe.built.split("train"), recipe.method, recipe.config, recipe.preset, 0)
    return files


def vector(folder: Path) -> list[str]:
    """What a model says of a row, from its vector over figures and a submission to the board."""
    import numpy as np

    from birdmml.results.outcomes import Predictions
    from birdmml.schema import Figure

    data, out = demo(folder), folder / "results"
    run("embed", "--checkpoint", trained(folder), "--data", data, "--out", folder / "vectors.parquet")

    def carries(value: object) -> bool:
        vectors = isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype == np.float32
        return vectors or isinstance(value, Predictions | Figure)

    with followed(carries) as files:
        run("score", "--embeddings", folder / "vectors.parquet", "--data", data, "--suite", "retrieval", "--out", out)
        about = ["--name", "mine", "--training-data", "the demo", "--contact", "the developers", "--license", "CC0-1.0"]
        run("submit", next(out.iterdir()), "--out", folder / "submissions" / "mine", *about, "--allow-demo")
        run("leaderboard", "build", "--submissions", folder / "submissions", "--out", folder / "site", "--workers", 1)
    return files


def method(folder: Path) -> list[str]:
    """The name that `bench --method` is given, and what is made of it."""
    data = demo(folder)

    def carries(value: object) -> bool:
        return isinstance(value, str) and value == "confu"

    with followed(carries) as files:
        run("bench", "--method", "confu", "--data", data, "--epochs", 1, "--limit", 64, "--out", folder / "results")
    return files


def demo(folder: Path) -> Path:
    """The demo, built once a folder."""
    if not (folder / "demo").is_dir():
        run("build", "--out", folder / "demo")
    return folder / "demo"


def trained(folder: Path) -> Path:
    """One model trained for an epoch."""
    run(
        "train",
        "--method",
        "tri_clip",
        "--data",
        demo(folder),
        "--epochs",
        1,
        "--limit",
        64,
        "--out",
        folder / "models",
    )
    return next(p.parent for p in (folder / "models").rglob("model.safetensors"))


def run(*words: object) -> None:
    """One command in this process; what it prints goes to standard error."""
    from birdmml.cli import app

    with contextlib.redirect_stdout(sys.stderr):
        app([str(word) for word in words], standalone_mode=False)


WAYS = {"photo": photo, "batch": batch, "vector": vector, "method": method}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    for name in sys.argv[1:] or WAYS:
        with tempfile.TemporaryDirectory() as work:
            passed = WAYS[name](Path(work))
        print(f"{name}: {len(passed)} files\n  " + "\n  ".join(passed))

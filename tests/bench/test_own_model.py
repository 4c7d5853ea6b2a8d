"""`birdmml bench --model`: three functions of a user's own in the place of a trained network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import Ran

from birdmml.bench.own_model import OwnEmbedder
from birdmml.leaderboard.verify import verify
from birdmml.load import Built
from birdmml.results.outcomes import Predictions, read

Cli = Callable[..., Ran]
IMAGES = """
def embed_images(images):
    assert all(i.dtype == np.uint8 and i.ndim == 3 for i in images)
    return [[i.mean(), i[..., 0].mean(), i.std()] for i in images]
"""
AUDIO = """
def embed_audio(clips, rate_hz):
    assert rate_hz == 22050 and all(c.dtype == np.float32 and c.ndim == 1 for c in clips)
    return np.stack([[np.abs(c).mean(), c.std(), 1.0] for c in clips])
"""
TEXTS = """
def embed_texts(texts):
    return [[len(t), 1.0 + t.count("a"), 1.0] for t in texts]
"""
FUSED = """
def embed_image_audio(images, clips, rate_hz):
    return [[1.0, i.mean(), np.abs(c).max()] for i, c in zip(images, clips, strict=True)]
"""


def file(tmp_path: Path, *parts: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\n" + "".join(parts))
    return path


def ran(cli: Cli, tmp_path: Path, small_demo: Path, *words: object) -> Ran:
    return cli("bench", "--model", tmp_path / "mine.py", "--data", small_demo, "--out", tmp_path / "out", *words)


def test_functions_are_scored_as_a_naive_loop_scores_them(cli: Cli, tmp_path: Path, small_demo: Path) -> None:
    file(tmp_path, IMAGES, AUDIO, TEXTS, FUSED)
    told = ran(cli, tmp_path, small_demo, "--json")
    assert told.code == 0, told.err
    result = json.loads(told.out)
    folder = Path(result["folder"])
    verify(folder)
    assert (result["method"], result["preset"], result["demo"]) == ("mine.py", "own model", True)
    assert result["settings"]["trained_here"] is False
    assert len(result["settings"]["own_model"]["sha256"]) == 64
    assert str(tmp_path) not in (folder / "result.json").read_text()
    rows = Built.open(small_demo).split("test")
    names = rows.column("caption")
    texts = np.array([[len(t), 1.0 + t.count("a"), 1.0] for t in names])
    images = np.array(
        [[i.mean(), i[..., 0].mean(), i.std()] for m in rows.media(range(len(rows)), ("image",)) for i in [m["image"]]]
    )
    texts, images = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (texts, images))
    items = read(folder, "predictions/retrieval.test-split.image-to-text.parquet")
    assert isinstance(items, Predictions)
    for i in range(len(rows)):
        scores = texts @ images[i]
        assert items.greater[0][i] == (scores > scores[i] + 1e-6).sum()
    assert {(f["suite"], f["task"]) for f in result["figures"]} >= {
        ("zero-shot", "A+V"), ("retrieval", "image+audio->text"),
    }  # fmt: skip
    assert {f["note"] for f in result["figures"] if f["task"] in ("A+V", "image+audio->text")} == {""}


def test_a_function_that_is_not_there_leaves_its_pairs_undefined(cli: Cli, tmp_path: Path, small_demo: Path) -> None:
    file(tmp_path, IMAGES, TEXTS)
    result = json.loads(ran(cli, tmp_path, small_demo, "--json", "--limit", 8).out)
    tasks = {f["task"].removesuffix(" by species") for f in result["figures"]}
    assert tasks == {"image->text", "text->image", "V"}
    file(tmp_path, IMAGES, AUDIO, TEXTS)
    result = json.loads(ran(cli, tmp_path, small_demo, "--json", "--suite", "zero-shot").out)
    notes = {f["task"]: f["note"] for f in result["figures"] if f["evalset"] == "demo-videos"}
    assert notes == {"A": "", "V": "", "A+V": "fused by the sum of cosines: no fused vector was given"}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([IMAGES], ["embed_images of", "two are needed"]),
        (["x = (\n"], ["cannot be imported", "line 2", "SyntaxError"]),
        (["raise SystemExit(3)\n"], ["cannot be imported", "SystemExit"]),
        ([IMAGES, FUSED, TEXTS], ["embed_image_audio needs"]),
        (
            [IMAGES, "def embed_texts(texts):\n    raise ValueError('two\\nlines')\n"],
            ["line 7", "ValueError: two lines"],
        ),
        ([IMAGES, "def embed_texts(texts):\n    return [1.0]\n"], ["embed_texts gave (1,)"]),
        ([IMAGES, "def embed_texts(texts):\n    return [[1.0, 2.0]] * len(texts)\n"], ["2-d", "3-d", "one width"]),
        ([IMAGES, "def embed_texts(texts):\n    return [[0.0] * 3] * len(texts)\n"], ["only zeros"]),
        ([IMAGES, "def embed_texts(texts):\n    return [[float('nan')] * 3] * len(texts)\n"], ["NaN"]),
        ([IMAGES, "def embed_texts(texts):\n    return 'no'\n"], ["embed_texts"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(value),
)
def test_what_is_wrong_with_a_file_is_told_in_one_line(
    cli: Cli, tmp_path: Path, small_demo: Path, parts: list[str], words: list[str]
) -> None:
    file(tmp_path, *parts)
    told = ran(cli, tmp_path, small_demo, "--suite", "retrieval")
    assert told.code == 2
    assert len(told.err.strip().splitlines()) == 1
    assert all(word in told.err for word in [*words, "mine.py"]), told.err
    assert not list(tmp_path.rglob("result.json"))


def test_a_model_takes_no_training_options(cli: Cli, tmp_path: Path, small_demo: Path) -> None:
    file(tmp_path, IMAGES, TEXTS)
    for words in (("--method", "confu"), ("--epochs", 3), ("--checkpoint", "x"), ("--set", "dim=3"), ("--seeds", 2)):
        told = ran(cli, tmp_path, small_demo, *words)
        assert (told.code, str(words[0]) in told.err) == (2, True), told.err
    told = cli("bench", "--model", tmp_path / "none.py", "--data", small_demo)
    assert (told.code, "docs/own-model.md" in told.err) == (2, True)


def test_a_dry_run_says_what_would_be_scored(cli: Cli, tmp_path: Path, small_demo: Path) -> None:
    file(tmp_path, IMAGES, TEXTS)
    told = ran(cli, tmp_path, small_demo, "--dry-run")
    assert told.code == 0
    assert "embed_images, embed_texts" in told.out
    assert not (tmp_path / "out").exists()


class Film:
    def __init__(self, frames: Any, audio: Any) -> None:
        self.frames, self.audio = frames, audio


def test_a_video_is_the_mean_of_its_frames_and_lacks_what_it_has_not() -> None:
    module = ModuleType("mine")
    module.__dict__["embed_images"] = lambda images: np.array([[i.mean(), 1.0] for i in images])
    module.__dict__["embed_audio"] = lambda clips, rate_hz: np.array([[1.0, c.sum()] for c in clips])
    module.__dict__["embed_image_audio"] = lambda images, clips, rate_hz: np.array(
        [[i.mean(), c.sum()] for i, c in zip(images, clips, strict=True)]
    )
    rng = np.random.default_rng(0)
    films = [
        Film(rng.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8), np.ones(7, np.float32) if i else None)
        for i in range(2)
    ]
    found = OwnEmbedder(module, Path("mine.py")).videos(["a", "b"], [0, 1], lambda i: films[i])
    assert found.present["audio"].tolist() == [False, True]
    assert np.isnan(found.arrays["image+audio"][0]).all()
    for i, film in enumerate(films):
        mean = np.zeros(2)
        for frame in film.frames:
            one = np.array([frame.mean(), 1.0])
            mean += one / np.linalg.norm(one) / len(film.frames)
        np.testing.assert_allclose(found.arrays["image"][i], mean / np.linalg.norm(mean), rtol=1e-6)


def test_a_file_is_run_once_and_leaves_nothing_when_it_fails(cli: Cli, tmp_path: Path, small_demo: Path) -> None:
    file(tmp_path, "raise ValueError\n")
    before = {n for n in sys.modules if n.startswith("birdmml_own_")}
    assert ran(cli, tmp_path, small_demo).code == 2
    assert {n for n in sys.modules if n.startswith("birdmml_own_")} == before

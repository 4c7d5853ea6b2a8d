"""Precomputed features in the place of media, for one modality or all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers.small import SMALLEST

from birdmml.bench.embed import Embedder
from birdmml.core import discover, settings
from birdmml.errors import DatasetError, UsageError
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.encoders import FeatureEncoder, build
from birdmml.models.presets import FeatureNet, Preset
from birdmml.models.read import ArrayRows
from birdmml.models.train import train

SIZES = FeatureNet(image=7, audio=5, text=6, hidden=16, layers=1, heads=2, steps=4, dropout=0.0)


def preset_of(steps: int) -> Preset:
    encoders = dataclasses.replace(SMALLEST.encoders, features=dataclasses.replace(SIZES, steps=steps))
    longer = ["training.epochs=40", "training.learning_rate=0.003"]
    return settings.override(dataclasses.replace(SMALLEST, encoders=encoders), longer)


def rows_of(steps: int, n: int = 40) -> ArrayRows:
    """Three views of one hidden vector, so that there is something to learn."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, 4))
    views = {}
    for name, width in (("image", 7), ("audio", 5), ("text", 6)):
        value = (hidden @ rng.normal(size=(4, width))).astype(np.float32)
        views[name] = value if steps == 1 else np.repeat(value[:, None], steps, axis=1)
    return ArrayRows(views)


@pytest.mark.parametrize("steps", [1, 4])
def test_features_train_and_embed(steps: int) -> None:
    sizes, rows = preset_of(steps), rows_of(steps)
    config = dataclasses.replace(discover.load("method", "confu").Config(), dim=sizes.dim)
    done = train(rows, "confu", config, sizes, 0, "cpu", quiet=True)
    assert done.history[-1]["loss"] < 0.9 * done.history[0]["loss"]
    ready = Checkpoint("confu", config, sizes, 0, done.network, done.tokenizer)
    found = Embedder(ready, torch.device("cpu")).rows(rows)
    assert found.arrays["text"].shape == (40, 16)
    best = (found.arrays["image"] @ found.arrays["text"].T).argmax(1)
    assert (best == np.arange(40)).mean() > 0.2  # chance is 0.025


def test_padding_steps_tell_nothing() -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(SIZES, 7).eval()
    x = torch.randn(3, 2, 7)
    padded = torch.cat([x, torch.zeros(3, 2, 7)], dim=1)
    torch.testing.assert_close(encoder(padded), encoder(x))
    assert encoder(torch.zeros(2, 4, 7)).isfinite().all()


def test_one_modality_may_be_features_and_the_others_media() -> None:
    encoders = dataclasses.replace(SMALLEST.encoders, features=FeatureNet(audio=5))
    made = build(encoders, 50, 16)
    assert [type(m).__name__ for m in made.values()] == ["ImageEncoder", "FeatureEncoder", "TextEncoder"]


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = np.zeros((3, 4), dtype=np.float32)
    with pytest.raises(DatasetError, match="one row an item"):
        ArrayRows({"image": good, "audio": good[:2]})
    with pytest.raises(DatasetError, match=r"\(3,\)"):
        ArrayRows({"image": good[:, 0]})
    with pytest.raises(DatasetError, match="not finite"):
        ArrayRows({"image": np.full((3, 4), np.nan, dtype=np.float32)})
    with pytest.raises(UsageError, match=r"encoders\.features"):
        FeatureEncoder(SIZES, 7)(torch.zeros(1, 5, 7))

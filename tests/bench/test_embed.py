from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.films import film
from helpers.small import SMALLEST

from birdmml.bench.embed import Embedder
from birdmml.core import discover
from birdmml.load import Built
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.network import Network
from birdmml.models.text import train_tokenizer


@pytest.fixture(scope="module", params=discover.names("method"))
def embedder(request: pytest.FixtureRequest) -> Embedder:
    torch.manual_seed(0)
    module = discover.load("method", request.param)
    config = dataclasses.replace(module.Config(), dim=16)
    tokenizer = train_tokenizer(["a small bird", "a large bird"], 100)
    network = Network(SMALLEST, module, config, tokenizer.get_vocab_size())
    return Embedder(Checkpoint(request.param, config, SMALLEST, 0, network, tokenizer), torch.device("cpu"))


def test_rows_give_unit_vectors_in_row_order_whatever_the_batch(
    embedder: Embedder, small_demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Built.open(small_demo).split("test")
    whole = embedder.rows(rows)
    monkeypatch.setattr("birdmml.bench.embed.Embeds.batch", 2)
    parts = embedder.rows(rows)
    assert whole.ids == tuple(rows.column("id"))
    assert set(whole.arrays) >= {"image", "audio", "text"}
    for name, value in whole.arrays.items():
        assert value.shape == (len(rows), 16)
        assert value.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(value, axis=1), 1.0, atol=1e-5)
        np.testing.assert_allclose(value, parts.arrays[name], atol=1e-5)
    assert all(present.all() for present in whole.present.values())


def test_a_video_is_the_renormalised_mean_of_its_frames_with_the_same_sound(embedder: Embedder) -> None:
    made = film(3)
    found = embedder.videos(["v"], [Path("v.mp4")], lambda _: made)
    net = embedder.network
    with torch.no_grad():
        picture, sound = net.preprocessor.images(list(made.frames)), net.preprocessor.audio([made.audio])  # type: ignore[list-item]  # it has sound
        per_frame = [net.embed({"image": picture[f : f + 1], "audio": sound}) for f in range(8)]
    assert set(found.arrays) == set(per_frame[0])
    for name, value in found.arrays.items():
        mean = np.mean([frame[name][0].numpy() for frame in per_frame], axis=0)
        np.testing.assert_allclose(value[0], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_a_silent_track_is_absent_not_zero(embedder: Embedder, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birdmml.bench.embed.Embeds.films_at_once", at_once)
    films = {Path(f"{i}"): film(i, sound=i not in (0, 2)) for i in range(4)}
    found = embedder.videos([str(p) for p in films], list(films), films.__getitem__)
    assert found.present["image"].tolist() == [True] * 4
    assert found.present["audio"].tolist() == [False, True, False, True]
    for name, value in found.arrays.items():
        absent = np.isnan(value).all(axis=1).tolist()
        assert absent == ([True, False, True, False] if "audio" in name else [False] * 4)
    alone = embedder.videos(["3"], [Path("3")], films.__getitem__)
    for name, value in alone.arrays.items():
        np.testing.assert_allclose(found.arrays[name][3], value[0], atol=1e-5)


def test_texts_are_embedded_one_by_one_as_together(embedder: Embedder) -> None:
    texts = ["a bird", "a very large bird of the sea", ""]
    together = embedder.texts(texts)["text"]
    for i, text in enumerate(texts):
        np.testing.assert_allclose(embedder.texts([text])["text"][0], together[i], atol=1e-5)

"""Who lends to whom, and that swapped encoder outputs are the outputs of swapped media."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.films import Film, film
from helpers.small import SMALLEST
from hypothesis import given
from hypothesis import strategies as st

from birdmml.bench import embed
from birdmml.bench.embed import Embedder, EmbeddingCache, Embeddings
from birdmml.core import discover
from birdmml.errors import EvalsetError, UsageError
from birdmml.media.corruption import Swap, lenders
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.network import Network
from birdmml.models.text import train_tokenizer

LABELS = np.array([0, 1, 2, 0, 1, 2, 0])
KEY = {"evalset": "t", "pairing": ""}


@pytest.fixture(scope="module", params=["confu", "clip", "symile"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    torch.manual_seed(0)
    module = discover.load("method", request.param)
    config = dataclasses.replace(module.Config(), dim=16)
    tokenizer = train_tokenizer(["a small bird", "a large bird"], 100)
    network = Network(SMALLEST, module, config, tokenizer.get_vocab_size())
    return Embedder(Checkpoint(request.param, config, SMALLEST, 0, network, tokenizer), torch.device("cpu"))


class Rows:
    """A few pictures and sounds in memory."""

    def __init__(self, films: Sequence[Film]) -> None:
        self.films = list(films)

    def __len__(self) -> int:
        return len(self.films)

    def column(self, name: str) -> list[Any]:
        return ["a bird"] * len(self) if name == "caption" else list(range(len(self)))

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        return [{"image": self.films[i].frames[0], "audio": self.films[i].audio} for i in indices]


def with_lent(films: Sequence[Film], kind: str, lender: Sequence[int]) -> list[Film]:
    """The media themselves exchanged: what the encoder outputs must amount to."""
    lent = [films[j] for j in lender]
    return [
        Film(own.frames, other.audio) if kind == "audio" else Film(other.frames, own.audio)
        for own, other in zip(films, lent, strict=True)
    ]


def same(found: Embeddings, wanted: Embeddings) -> None:
    assert found.ids == wanted.ids
    assert set(found.arrays) == {name for name in wanted.arrays if "text" not in name}
    for name, value in found.arrays.items():
        np.testing.assert_allclose(value, wanted.arrays[name], atol=2e-6)
    for kind in ("image", "audio"):
        assert found.present[kind].tolist() == wanted.present[kind].tolist()


@pytest.mark.parametrize("kind", ["audio", "image"])
def test_rows_are_as_if_their_media_had_been_exchanged(
    embedder: Embedder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdmml.bench.embed.Embeds.batch", 3)
    films = [film(i) for i in range(len(LABELS))]
    key = {**KEY, "pairing": f"swap:{kind}:4"}
    found = embed.embed(lambda e: e.rows(Rows(films)), embedder, EmbeddingCache(None), key, LABELS)
    lender = lenders(LABELS, np.arange(len(LABELS)), 4)
    same(found, embedder.rows(Rows(with_lent(films, kind, lender.tolist()))))


@pytest.mark.parametrize("kind", ["audio", "image"])
def test_videos_are_as_if_their_tracks_had_been_exchanged_and_silent_ones_stay_out(
    embedder: Embedder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdmml.bench.embed.Embeds.films_at_once", 2)
    films = [film(i, sound=i not in (2, 3)) for i in range(len(LABELS))]

    def encode(chosen: Embedder, shown: Sequence[Film] = films) -> Embeddings:
        paths = [Path(str(i)) for i in range(len(shown))]
        return chosen.videos([p.name for p in paths], paths, lambda p: shown[int(p.name)])

    key = {**KEY, "pairing": f"swap:{kind}:4"}
    found = embed.embed(encode, embedder, EmbeddingCache(None), key, LABELS)
    lender = lenders(LABELS, np.array([0, 1, 4, 5, 6]), 4)
    assert lender[[2, 3]].tolist() == [2, 3]
    same(found, encode(embedder, with_lent(films, kind, lender.tolist())))


def test_media_are_encoded_once_for_all_swaps(embedder: Embedder, tmp_path: Path) -> None:
    films, calls = [film(i) for i in range(len(LABELS))], []

    def encode(chosen: Embedder) -> Embeddings:
        calls.append(chosen)
        return chosen.rows(Rows(films))

    shelf = EmbeddingCache(tmp_path)
    for pairing in ("swap:audio:0", "swap:audio:1", "swap:image:0"):
        embed.embed(encode, embedder, shelf, {**KEY, "pairing": pairing}, LABELS)
    assert len(calls) == 1


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.integers(0, 99))
def test_everyone_lends_once_and_never_to_its_own_class(labels: list[int], seed: int) -> None:
    codes, everyone = np.asarray(labels), np.arange(len(labels))
    if 2 * max(labels.count(c) for c in labels) > len(labels):
        with pytest.raises(EvalsetError, match=r"competition\.draws=0"):
            lenders(codes, everyone, seed)
        return
    found = lenders(codes, everyone, seed)
    assert sorted(found) == everyone.tolist()
    assert (codes[found] != codes).all()
    assert np.array_equal(found, lenders(codes, everyone, seed))


def test_draws_differ_and_spread_over_all_lenders() -> None:
    labels = np.arange(6) % 3
    found = np.array([lenders(labels, np.arange(6), seed) for seed in range(600)])
    for i in range(6):
        times = np.bincount(found[:, i], minlength=6)
        assert (times[labels == labels[i]] == 0).all()
        # 600 draws over four lenders: 150 each, within five standard deviations.
        assert (abs(times[labels != labels[i]] - 150) < 5 * (600 * 0.25 * 0.75) ** 0.5).all()


def test_a_swap_is_read_back_from_its_name_and_anything_else_refused() -> None:
    assert Swap.parse(str(Swap("image", 12))) == Swap("image", 12)
    for bad in ("", "swap", "swap:text:1", "swap:audio:-1", "swap:audio:x", "swap:audio:1:2"):
        with pytest.raises(UsageError, match="swap:KIND:SEED"):
            Swap.parse(bad)


def test_items_without_classes_cannot_be_swapped(embedder: Embedder) -> None:
    with pytest.raises(EvalsetError, match="no classes"):
        embed.embed(
            lambda e: e.rows(Rows([])), embedder, EmbeddingCache(None), {**KEY, "pairing": "swap:audio:0"}, None
        )

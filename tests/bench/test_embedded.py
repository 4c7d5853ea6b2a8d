"""The shelf of embeddings gives back what was made, and makes anew what it cannot vouch for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small import SMALLEST

from birdmml.bench.embed import Embedder, EmbeddingCache, Embeddings, default_folder
from birdmml.bench.subjects import Films, material
from birdmml.bench.suites._contract import Request
from birdmml.core import discover
from birdmml.load import Built
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.network import Network
from birdmml.models.text import train_tokenizer

KEY = {"weights": "a", "data": "b"}


def made(value: float = 1.0) -> Embeddings:
    arrays = {"image": np.full((3, 4), value, np.float32), "image+audio": np.full((3, 4), np.nan, np.float32)}
    return Embeddings(("x", "y", "z"), arrays, {"image": np.array([True, False, True])})


def same(a: Embeddings, b: Embeddings) -> bool:
    return (
        a.ids == b.ids
        and all(np.array_equal(a.arrays[k], b.arrays[k], equal_nan=True) for k in a.arrays | b.arrays)
        and all(np.array_equal(a.present[k], b.present[k]) for k in {**a.present, **b.present})
    )


def test_a_second_look_reads_what_the_first_one_made_and_another_key_does_not(tmp_path: Path) -> None:
    shelf = EmbeddingCache(tmp_path)
    assert same(shelf.get(KEY, made), made())
    assert same(shelf.get(KEY, lambda: made(2.0)), made(1.0))
    assert same(shelf.get({**KEY, "weights": "c"}, lambda: made(2.0)), made(2.0))
    assert (shelf.made, shelf.read) == (2, 1)
    assert not list(tmp_path.rglob("*.part"))


def test_a_flipped_bit_is_found_wherever_it_lies(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path).get(KEY, made)
    (path,) = tmp_path.rglob("*.embeddings")
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = EmbeddingCache(tmp_path).get(KEY, lambda: made(2.0))
        assert same(found, made(2.0)), at
    path.write_bytes(whole[:100])
    assert same(EmbeddingCache(tmp_path).get(KEY, lambda: made(2.0)), made(2.0))


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert same(EmbeddingCache(tmp_path / "file").get(KEY, made), made())
    assert same(EmbeddingCache(None).get(KEY, made), made())


def test_the_variable_names_the_folder_or_turns_it_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_folder() is None  # the tests' own setting
    monkeypatch.setenv("BIRDMML_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "embeddings"


def embedder(variant: str) -> Embedder:
    """The same weights whatever the variant."""
    torch.manual_seed(0)
    module = discover.load("method", "tri_clip")
    config: Any = dataclasses.replace(module.Config(), dim=16, variant=variant)
    tokenizer = train_tokenizer(["a small bird"], 100)
    network = Network(SMALLEST, module, config, tokenizer.get_vocab_size())
    ready = Checkpoint("tri_clip", config, SMALLEST, 0, network, tokenizer, weights_sha256="equal")
    return Embedder(ready, torch.device("cpu"))


def test_two_variants_with_equal_weights_do_not_share_embeddings(small_demo: Path, tmp_path: Path) -> None:
    films, shelf = Films(Built.open(small_demo), "demo"), EmbeddingCache(tmp_path)
    paper, reference = (
        material(films, Request("demo", "test"), embedder(variant), shelf, 2, quiet=True)
        for variant in ("paper", "reference")
    )
    # Means over frames are renormalised in the paper's form alone.
    assert np.linalg.norm(paper.arrays["image"], axis=1) == pytest.approx(1.0, abs=1e-6)
    assert (np.linalg.norm(reference.arrays["image"], axis=1) < 1 - 1e-7).all()

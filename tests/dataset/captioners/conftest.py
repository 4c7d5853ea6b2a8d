"""Short answers and one thread: tiny models on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from helpers import tiny_models

from birdmml.dataset.captioners import hf

SEEN_TOKENS, NEW_TOKENS = 5, 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hf, "SEEN_TOKENS", SEEN_TOKENS)
    monkeypatch.setattr(hf, "NEW_TOKENS", NEW_TOKENS)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {"image_model": tiny_models.blip(root / "blip"), "text_model": tiny_models.gemma(root / "gemma")}

"""Short answers and one thread: tiny models on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from birdmml.captioners import hf

SEEN_TOKENS, NEW_TOKENS = 5, 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hf, "SEEN_TOKENS", SEEN_TOKENS)
    monkeypatch.setattr(hf, "NEW_TOKENS", NEW_TOKENS)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

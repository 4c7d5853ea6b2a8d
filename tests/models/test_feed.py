from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birdmml.errors import DatasetError
from birdmml.models.feed import Feed, batches, epoch_order, steps_per_epoch
from birdmml.models.preprocess import Preprocessor, augment, rolled, shifted
from birdmml.models.presets import Augment, FrontEnd, Training
from birdmml.models.text import tokenise, train_tokenizer

FRONT = FrontEnd(image_size=16, bands=8, frames=12, n_fft=256, hop=128)


class Rows:
    """Rows in memory, counting how often media are decoded."""

    def __init__(self, n: int) -> None:
        self.generator = np.random.default_rng(0)
        self.images = [self.generator.integers(0, 256, (20 + i % 3, 24, 3), dtype=np.uint8) for i in range(n)]
        self.clips = [self.generator.normal(0, 0.1, 1500).astype(np.float32) for _ in range(n)]
        self.captions = [f"a bird number {i}" + " very" * (i % 4) + " small" for i in range(n)]
        self.decoded = 0

    def __len__(self) -> int:
        return len(self.images)

    def column(self, name: str) -> list[Any]:
        return {"caption": self.captions, "id": [f"r{i}" for i in range(len(self))]}[name]

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        self.decoded += len(indices)
        return [{"image": self.images[i], "audio": self.clips[i]} for i in indices]


def feed_of(rows: Rows, cache_gib: float) -> Feed:
    settings = Training(cache_gib=cache_gib)
    return Feed(rows, Preprocessor(FRONT), train_tokenizer(rows.captions, 200), settings)


@given(st.integers(1, 200), st.integers(2, 40), st.integers(0, 2**31), st.integers(0, 50))
def test_every_epoch_sees_every_row_once_and_no_batch_has_one_row(n: int, size: int, seed: int, epoch: int) -> None:
    order = epoch_order(n, seed, epoch)
    parts = list(batches(order, size))
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert all(len(part) >= 2 for part in parts) or n == 1
    assert all(len(part) <= size + 1 for part in parts)
    assert steps_per_epoch(n, size) == len(parts)
    assert np.array_equal(order, epoch_order(n, seed, epoch))


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [tuple(epoch_order(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_kept_and_freshly_decoded_batches_hold_the_same_values() -> None:
    kept, fresh = Rows(150), Rows(150)
    a, b = feed_of(kept, 1.0), feed_of(fresh, 0.0)
    for indices in (np.array([149, 3, 3, 70]), np.array([0])):
        for name, value in a.batch(indices).items():
            assert torch.equal(value, b.batch(indices)[name]), name
    a.batch(np.arange(150))
    assert kept.decoded == 150  # once each, however often asked for


def test_what_does_not_fit_the_budget_is_not_kept() -> None:
    rows = Rows(10)
    feed = feed_of(rows, 1e-9)
    feed.fill()
    assert rows.decoded == 0
    feed.batch(np.arange(4))
    feed.batch(np.arange(4))
    assert rows.decoded == 8


def test_texts_are_framed_padded_cut_and_lower_cased() -> None:
    texts = ["A Wood Duck", "wood duck", "", "wood " * 50]
    tokenizer = train_tokenizer(texts, 100)
    ids = tokenise(tokenizer, texts, 10)
    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    assert ids.shape == (4, 10)
    assert ids[0, :5].tolist()[2:4] == ids[1, :4].tolist()[1:3]
    assert ids[2].tolist() == [start, end, *[0] * 8]
    assert ids[3, 0] == start
    assert ids[3, -1] == end


def test_the_same_captions_train_the_same_tokenizer() -> None:
    texts = [f"a {a} bird with {b} wings" for a in ("red", "grey", "pied") for b in ("long", "short")] * 20
    assert train_tokenizer(texts, 80).to_str() == train_tokenizer(texts, 80).to_str()


def test_batches_are_trimmed_to_their_longest_text() -> None:
    feed = feed_of(Rows(8), 1.0)
    assert feed.batch(np.array([0]))["text"].shape[1] < feed.batch(np.array([3]))["text"].shape[1]


def test_shift_and_roll_move_each_item_by_its_own_amount() -> None:
    image = torch.randint(0, 256, (3, 3, 6, 7), dtype=torch.uint8)
    moved = shifted(image, torch.tensor([0, 2, -1]), torch.tensor([0, -3, 1]))
    assert torch.equal(moved[0], image[0])
    for b, (down, right) in ((1, (2, -3)), (2, (-1, 1))):
        for y in range(6):
            for x in range(7):
                from_y, from_x = min(max(y - down, 0), 5), min(max(x - right, 0), 6)
                assert torch.equal(moved[b, :, y, x], image[b, :, from_y, from_x])
    audio = torch.randn(2, 1, 3, 5)
    assert torch.equal(rolled(audio, torch.tensor([2, -1]))[1], audio[1].roll(-1, dims=-1))
    assert torch.equal(rolled(audio, torch.tensor([2, -1]))[0], audio[0].roll(2, dims=-1))


def test_no_augmentation_changes_nothing_and_a_seed_repeats_it() -> None:
    batch = feed_of(Rows(6), 1.0).batch(np.arange(6))
    for name, value in augment(batch, Augment()).items():
        assert torch.equal(value, batch[name])
    strong = Augment(mirror=True, shift_px=3, roll_frames=4, gain_db=6.0)
    torch.manual_seed(3)
    first = augment(batch, strong)
    torch.manual_seed(3)
    again = augment(batch, strong)
    for name in batch:
        assert torch.equal(first[name], again[name])
    assert not torch.equal(first["image"], batch["image"])
    gains = (first["audio"].mean((1, 2, 3)) - batch["audio"].mean((1, 2, 3))).abs()
    assert gains.max() <= 6.0
    assert torch.equal(first["text"], batch["text"])


def test_bytes_per_row_is_what_a_row_takes() -> None:
    feed = feed_of(Rows(4), 1.0)
    batch = feed.batch(np.arange(4))
    taken = sum(batch[k].element_size() * batch[k].nelement() for k in ("image", "audio")) / 4
    assert feed.preprocessor.bytes_per_row() == pytest.approx(taken + 4 * FRONT.max_tokens)


def test_a_stream_is_its_batches_kept_or_not() -> None:
    parts = [np.array([4, 1]), np.array([0, 2, 3])]
    for cache_gib in (0.0, 1.0):
        feed = feed_of(Rows(6), cache_gib)
        for part, found in zip(parts, feed.stream(parts), strict=True):
            for name, value in feed.batch(part).items():
                assert torch.equal(value, found[name])


def test_a_row_without_a_caption_is_refused_and_an_empty_one_is_a_text() -> None:
    rows = Rows(4)
    rows.captions[2] = ""
    assert feed_of(rows, 0.0).batch(np.array([2]))["text"].tolist() == [[2, 3]]
    rows.captions[2] = None  # type: ignore[call-overload]  # what a null in the Parquet becomes
    with pytest.raises(DatasetError, match="row 2 has no caption"):
        Feed(rows, Preprocessor(FRONT), train_tokenizer(["a"], 50))


def test_species_sampling_draws_each_species_equally_often() -> None:
    class Labelled(Rows):
        def column(self, name: str) -> list[Any]:
            return [0] * 9 + [1] * 3 if name == "label" else super().column(name)

    rows = Labelled(12)
    feed = Feed(rows, Preprocessor(FRONT), train_tokenizer(rows.captions, 200), Training(sampling="species"))
    order = feed.order(0, 0)
    assert np.bincount(np.array(rows.column("label"))[order]).tolist() == [6, 6]
    assert not np.array_equal(order, feed.order(0, 1))

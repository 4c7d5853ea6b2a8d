"""Orders of an epoch: complete, seeded, within the memory they promise, and mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmml.models.feed import Blocks, block_order, epoch_order, species_times

SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 500)), min_size=1, max_size=12)


@given(SIZES, st.integers(0, 2000), st.integers(0, 2**31), st.integers(0, 9))
def test_every_row_comes_once_and_the_same_for_the_same_seed(
    blocks: list[tuple[int, int]], buffer: int, seed: int, epoch: int
) -> None:
    made = Blocks.of(blocks)
    order = block_order(made, buffer, seed, epoch)
    assert sorted(order.tolist()) == list(range(int(made.rows.sum())))
    assert np.array_equal(order, block_order(made, buffer, seed, epoch))


@given(SIZES, st.integers(0, 2000), st.integers(0, 99))
def test_what_a_reader_holds_stays_within_the_buffer_and_one_block(
    blocks: list[tuple[int, int]], buffer: int, seed: int
) -> None:
    made = Blocks.of(blocks)
    owner = np.repeat(np.arange(len(blocks)), made.rows)
    each = (made.sizes / made.rows)[owner]
    begun: set[int] = set()
    held = most = 0.0
    for row in block_order(made, buffer, seed, 0).tolist():
        if owner[row] not in begun:  # a block is read whole when its first row is due
            begun.add(int(owner[row]))
            held += float(made.sizes[owner[row]])
        most = max(most, held)
        held -= each[row]
    assert most <= buffer + made.sizes.max() + 1e-6


def test_a_buffer_for_all_is_a_full_shuffle() -> None:
    made = Blocks.of([(10, 100)] * 5)
    assert np.array_equal(block_order(made, 500, 3, 4), epoch_order(50, 3, 4))


def far(order: np.ndarray) -> tuple[float, float]:
    """How sorted an order is: |rank correlation| of place and row, and the share of neighbours from one block of 64."""
    places = np.arange(len(order))
    together = float(np.mean(order[1:] // 64 == order[:-1] // 64))
    return abs(float(np.corrcoef(places, order)[0, 1])), together


def test_a_tenth_of_the_data_in_the_buffer_mixes_nearly_as_well_as_a_full_shuffle() -> None:
    blocks = Blocks.of([(64, 64)] * 200)
    full = np.mean([far(epoch_order(12_800, s, 0)) for s in range(5)], axis=0)
    mixed = np.mean([far(block_order(blocks, 1280, s, 0)) for s in range(5)], axis=0)
    plain = far(np.arange(12_800))
    # Rank correlation: as low as chance allows, where reading in order has 1.
    assert (plain[0], mixed[0] < 0.15, full[0] < 0.05) == (pytest.approx(1.0), True, True)
    # Neighbours of one block: 0.98 in order, 0.005 in a full shuffle, a few in a hundred here.
    assert plain[1] > 0.97
    assert full[1] < 0.01
    assert mixed[1] < 0.08


def test_batches_see_many_blocks() -> None:
    blocks = Blocks.of([(64, 64)] * 200)
    order = block_order(blocks, 1280, 0, 0)
    seen = [len(set((order[i : i + 64] // 64).tolist())) for i in range(0, 12_800, 64)]
    full = [len(set((epoch_order(12_800, 0, 0)[i : i + 64] // 64).tolist())) for i in range(0, 12_800, 64)]
    assert np.mean(full) > 50
    assert np.mean(seen) > 15  # about the twenty that fit the buffer, where reading in order sees 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9))
def test_species_come_equally_often_and_rows_of_one_up_to_one(labels: list[int], epoch: int) -> None:
    of = np.asarray(labels)
    times = species_times(of, 0, epoch)
    totals = [int(times[of == label].sum()) for label in set(labels)]
    assert len(set(totals)) == 1
    for label in set(labels):
        own = times[of == label]
        assert own.max() - own.min() <= 1


def test_repeated_rows_come_as_often_as_asked_through_a_small_buffer_too() -> None:
    made, times = Blocks.of([(6, 60)] * 4), np.arange(24) % 3
    for buffer in (20, 1000):
        order = block_order(made, buffer, 1, 0, times)
        assert np.bincount(order, minlength=24).tolist() == times.tolist()

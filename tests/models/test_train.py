from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small import SMALLEST

from birdmml.core import discover, settings
from birdmml.core.device import pick_device
from birdmml.errors import TrainingError, UsageError
from birdmml.load import Built
from birdmml.models.presets import Preset
from birdmml.models.read import RowSource
from birdmml.models.train import Trained, cpu_threads, train


@pytest.fixture(scope="module")
def rows(small_demo: Path) -> RowSource:
    return Built.open(small_demo).split("train")


def trained(rows: RowSource, preset: Preset = SMALLEST, seed: int = 0, method: str = "confu") -> Trained:
    config = dataclasses.replace(discover.load("method", method).Config(), dim=preset.dim)
    return train(rows, method, config, preset, seed, "cpu", quiet=True)


class Watched:
    """Rows that note which were asked for, in what order; `broken` rows have silent NaN in them."""

    def __init__(self, rows: RowSource, broken: Sequence[int] = ()) -> None:
        self._rows, self._broken = rows, broken
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, name: str) -> list[Any]:
        return self._rows.column(name)

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        self.asked += list(indices)
        found = self._rows.media(indices, kinds)
        for i, row in zip(indices, found, strict=True):
            if i in self._broken:
                row["audio"] = np.full_like(row["audio"], np.nan)
        return found


def test_one_seed_gives_the_same_weights_to_the_last_bit_and_another_does_not(rows: RowSource) -> None:
    first, again, other = trained(rows), trained(rows), trained(rows, seed=1)
    a, b, c = (t.network.state_dict() for t in (first, again, other))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)
    assert first.history == again.history


def test_keeping_features_in_memory_changes_no_weight_and_every_epoch_sees_every_row(rows: RowSource) -> None:
    watched = Watched(rows)
    kept = trained(Watched(rows))
    fresh = trained(watched, settings.override(SMALLEST, ["training.cache_gib=0"]))
    a, b = kept.network.state_dict(), fresh.network.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    n = len(rows)
    epochs = [watched.asked[:n], watched.asked[n:]]
    assert [sorted(e) for e in epochs] == [list(range(n))] * 2
    assert epochs[0] != epochs[1]


def test_streaming_from_the_parquet_changes_no_weight_whatever_the_workers(rows: RowSource) -> None:
    kept = trained(rows).network.state_dict()
    for workers in (0, 3):
        fresh = trained(rows, settings.override(SMALLEST, ["training.cache_gib=0", f"training.workers={workers}"]))
        assert all(torch.equal(value, fresh.network.state_dict()[name]) for name, value in kept.items())


@pytest.mark.parametrize("method", discover.names("method"))
def test_the_loss_falls(rows: RowSource, method: str) -> None:
    history = trained(
        rows, settings.override(SMALLEST, ["training.epochs=16", "training.learning_rate=0.003"]), method=method
    ).history
    assert len(history) == 16
    assert history[-1]["loss"] < 0.92 * history[0]["loss"]


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_rows(rows: RowSource) -> None:
    broken = Watched(rows, broken=[3])
    with pytest.raises(TrainingError, match=r"epoch 1, step \d+, rows .*learning_rate") as caught:
        trained(broken, settings.override(SMALLEST, ["training.batch_size=4"]))
    assert str(rows.column("id")[3]) in str(caught.value)


def test_the_rate_follows_a_cosine_to_its_end(rows: RowSource, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    trained(rows, settings.override(SMALLEST, ["training.epochs=4", "training.batch_size=64"]))
    wanted = [1e-6 + (1e-3 - 1e-6) * (1 + np.cos(np.pi * e / 4)) / 2 for e in range(4)]
    assert seen == pytest.approx(wanted)


def test_one_row_is_too_few(rows: RowSource) -> None:
    class One(Watched):
        def __len__(self) -> int:
            return 1

    with pytest.raises(TrainingError, match="1 training rows"):
        trained(One(rows))


def test_an_absent_or_unknown_device_is_refused() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="auto, cpu, cuda, mps"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="not available"):
            pick_device("cuda")


def test_several_processes_are_refused_where_nothing_is_saved(rows: RowSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="2 processes.*birdmml train"):
        trained(rows)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with cpu_threads(1):
        assert torch.get_num_threads() == 1
    with cpu_threads(0):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


@pytest.mark.drill
def test_compiled_encoders_learn_the_same_and_keep_their_names(
    rows: RowSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dynamo's part of torch.compile without its C++: minutes less, the same graph.
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **kwargs: compile_(self, backend="eager", **kwargs))
    plain = trained(rows).network.state_dict()
    compiled = trained(rows, settings.override(SMALLEST, ["training.compile=true"])).network.state_dict()
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-4, rtol=1e-4)

"""A checkpoint comes back whole, or is refused with a reason; nothing in it is ever executed."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small import SMALLEST
from safetensors.torch import load_file, save_file

from birdmml.core import discover
from birdmml.core.files import sha256_file
from birdmml.errors import CheckpointError
from birdmml.models import checkpoint
from birdmml.models.checkpoint import META, TOKENIZER, WEIGHTS, Checkpoint
from birdmml.models.network import Network
from birdmml.models.text import train_tokenizer


@pytest.fixture
def made() -> Checkpoint:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a small bird", "a large bird"], 100)
    module = discover.load("method", "confu")
    config = dataclasses.replace(module.Config(), dim=16)
    network = Network(SMALLEST, module, config, tokenizer.get_vocab_size()).eval()
    return Checkpoint("confu", config, SMALLEST, 7, network, tokenizer, {"digest": "d"}, {}, {"birdmml": "0"})


@pytest.fixture
def folder(made: Checkpoint, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "seed-7", made)
    return tmp_path / "seed-7"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    meta = json.loads((folder / META).read_text())
    change(meta)
    (folder / META).write_text(json.dumps(meta))


def test_a_loaded_checkpoint_embeds_as_the_saved_one(made: Checkpoint, folder: Path) -> None:
    found = checkpoint.load(folder, "confu")
    inputs = {
        "image": torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8),
        "audio": torch.randn(3, 1, 16, 40) * 20 - 30,
        "text": torch.randint(1, 20, (3, 9)),
    }
    with torch.no_grad():
        a, b = made.network.embed(inputs), found.network.embed(inputs)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (found.config, found.preset, found.seed) == (made.config, made.preset, 7)
    assert found.tokenizer.encode("a large bird").ids == made.tokenizer.encode("a large bird").ids
    assert not found.network.training


def test_saving_again_replaces_and_leaves_nothing_beside(made: Checkpoint, folder: Path) -> None:
    checkpoint.save(folder, dataclasses.replace(made, seed=8))
    assert checkpoint.load(folder).seed == 8
    assert [p.name for p in folder.parent.iterdir()] == ["seed-7"]
    assert sorted(p.name for p in folder.iterdir()) == sorted([META, TOKENIZER, WEIGHTS])


def test_a_failed_save_leaves_the_old_one(made: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("birdmml.models.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match="No space.*--out"):
        checkpoint.save(folder, dataclasses.replace(made, seed=8))
    assert checkpoint.load(folder).seed == 7
    assert [p.name for p in folder.parent.iterdir()] == ["seed-7"]


def test_another_method_is_refused_with_the_one_it_holds(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="holds confu, not tri_clip: use --method confu"):
        checkpoint.load(folder, "tri_clip")


@pytest.mark.parametrize("name", [META, TOKENIZER, WEIGHTS])
def test_a_missing_or_truncated_file_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="not found"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(schema_version=99),
        lambda m: m.update(kind="something"),
        lambda m: m.update(method="../../evil"),
        lambda m: m.pop("seed"),
        lambda m: m.update(config=[]),
        lambda m: m["config"].update(unknown=1),
        lambda m: m["config"].update(dim=32),
        lambda m: m["preset"]["encoders"]["text"].update(layers=10**9),
        lambda m: m["preset"]["encoders"]["image"].update(widths=[8, 4096]),
        lambda m: m["preset"]["front_end"].update(bands=10**9),
        lambda m: m.update(weights_sha256="0" * 64),
    ],
)
def test_changed_settings_are_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder, change)
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


class Trap:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [META, TOKENIZER, WEIGHTS])
def test_a_pickle_in_disguise_is_refused_before_anything_runs(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)
    assert not (tmp_path / "sprung").exists()


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the weights and mend the recorded hash, as somebody with intent would."""
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)
    edit(folder, lambda m: m.update(weights_sha256=sha256_file(folder / WEIGHTS)))


def test_weights_that_do_not_fit_their_settings_are_refused(folder: Path) -> None:
    key = "head.fusions.image+audio.0.weight"
    rewrite(folder, lambda s: s.update({key: torch.zeros(512, 3)}))
    with pytest.raises(CheckpointError, match=r"image\+audio.*\(512, 3\)"):
        checkpoint.load(folder)
    rewrite(folder, lambda s: s.pop(key))
    with pytest.raises(CheckpointError, match="has shape None"):
        checkpoint.load(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    rewrite(folder, lambda s: s["head.projections.text.weight"].fill_(float("nan")))
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.load(folder)

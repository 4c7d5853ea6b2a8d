"""A trained model on disk: safetensors, JSON and the tokenizer in one folder; never a pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from birdmml.core import discover, settings
from birdmml.core.files import replace_folder, sha256_file, sync_folder, write_json, write_text
from birdmml.errors import CheckpointError, UsageError
from birdmml.models.network import Network
from birdmml.models.presets import Preset
from birdmml.models.text import load_tokenizer

SCHEMA_VERSION = 1
WEIGHTS, META, TOKENIZER = "model.safetensors", "checkpoint.json", "tokenizer.json"
MAX_JSON_BYTES = 64 * 2**20  # A tokenizer of 200,000 words takes some 10 MiB; a stranger's file may be any size.


@dataclass(frozen=True)
class Checkpoint:
    """A network with what is needed to use it and to say where it comes from.

    `weights_sha256` is that of its file, "" where it has none yet.
    """

    method: str
    config: Any
    preset: Preset
    seed: int
    network: Network
    tokenizer: Tokenizer
    dataset: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""


def save(folder: Path, checkpoint: Checkpoint) -> str:
    """Write the checkpoint beside `folder`, then put it in its place: there is a whole one at all times.

    Returns the SHA-256 of its weights. Raises CheckpointError where it cannot be written; what was there before
    stays.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        state = {k: v.detach().cpu().contiguous() for k, v in checkpoint.network.state_dict().items()}
        save_file(state, part / WEIGHTS)
        write_text(part / TOKENIZER, checkpoint.tokenizer.to_str(pretty=False))
        meta = {
            "schema_version": SCHEMA_VERSION,
            "kind": "birdmml checkpoint",
            "method": discover.label(checkpoint.method),
            "method_file": checkpoint.network.method_file,
            "config": settings.to_dict(checkpoint.config),
            "preset": settings.to_dict(checkpoint.preset),
            "seed": checkpoint.seed,
            "dataset": dict(checkpoint.dataset),
            "training": dict(checkpoint.training),
            "provenance": dict(checkpoint.provenance),
            "weights_sha256": sha256_file(part / WEIGHTS),
        }
        write_json(part / META, meta)
        sync_folder(part)
        replace_folder(part, folder, folder.with_name(folder.name + ".old"))
        return str(meta["weights_sha256"])
    except (OSError, SafetensorError) as e:
        raise CheckpointError(f"{folder} cannot be written ({e}): free space, or choose another --out") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load(folder: Path, method: str | None = None, device: str | torch.device = "cpu") -> Checkpoint:
    """Read and check a checkpoint; nothing in it is executed, and its weights must fit its settings.

    A method of the user's own is run only from the path in `method`, never from one that the checkpoint names.
    Raises CheckpointError if it is missing, damaged, or (where `method` is given) of another method.
    """
    meta = read_meta(folder)
    name = _method(folder, meta, method)
    try:
        module = discover.load("method", name)
        preset = settings.from_dict(Preset, meta["preset"])
        config = settings.from_dict(module.Config, meta["config"])
    except UsageError as e:
        raise CheckpointError(f"{folder / META} has settings that this version does not know: {e}") from e
    tokenizer = load_tokenizer(_read_text(folder / TOKENIZER))
    with torch.device("meta"):  # compare shapes before any memory is taken
        expected = Network(preset, module, config, tokenizer.get_vocab_size()).state_dict()
    _check_weights(folder / WEIGHTS, {k: tuple(v.shape) for k, v in expected.items()}, meta["weights_sha256"])
    network = Network(preset, module, config, tokenizer.get_vocab_size())
    state = load_file(folder / WEIGHTS)
    if broken := [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise CheckpointError(f"{folder}: weights {broken[0]} are not finite: the training diverged, train again")
    network.load_state_dict(state)
    network.to(device).eval()
    about = (meta[key] for key in ("dataset", "training", "provenance", "weights_sha256"))
    return Checkpoint(name, config, preset, int(meta["seed"]), network, tokenizer, *about)


def _method(folder: Path, meta: Mapping[str, Any], wanted: str | None) -> str:
    """The method to load: birdmml's own by the name in the checkpoint, the user's own file by `wanted`."""
    held, file = str(meta["method"]), meta.get("method_file")
    if held.endswith(".py") or file is not None:
        was = file if isinstance(file, dict) else {}
        if wanted is None or not discover.is_file("method", wanted):
            raise CheckpointError(
                f"{folder} was trained with a method of its own, {was.get('path', held)} (SHA-256"
                f" {str(was.get('sha256'))[:12]}): give --method the path of that file"
            )
        used = discover.origin(discover.load("method", wanted)) or {}
        if was.get("sha256") != used.get("sha256"):
            raise CheckpointError(
                f"{folder} was trained with {held} of SHA-256 {str(was.get('sha256'))[:12]}, and {used.get('path')} has"
                f" {str(used.get('sha256'))[:12]}: it has changed since, give the file as it was"
            )
        return wanted
    if wanted is not None and held != wanted:
        raise CheckpointError(f"{folder} holds {held}, not {wanted}: use --method {held}")
    return held


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise CheckpointError(f"{path} not found: give --checkpoint a folder that `birdmml bench` wrote")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB: it is not one of birdmml's")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise CheckpointError(f"{path} cannot be read ({e})") from e


def read_meta(folder: Path) -> dict[str, Any]:
    """checkpoint.json, checked; raises CheckpointError."""
    path = folder / META
    try:
        meta = json.loads(_read_text(path))
    except (ValueError, RecursionError) as e:
        raise CheckpointError(f"{path} is not JSON ({e}): train again, or take another checkpoint") from e
    if not isinstance(meta, dict) or meta.get("kind") != "birdmml checkpoint":
        raise CheckpointError(f"{path} is not a birdmml checkpoint")
    if meta.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(f"{path} has schema version {meta.get('schema_version')}, expected {SCHEMA_VERSION}")
    wanted: dict[str, type] = {"method": str, "seed": int, "weights_sha256": str}
    wanted |= dict.fromkeys(("config", "preset", "dataset", "training", "provenance"), dict)
    for key, kind in wanted.items():
        if not isinstance(meta.get(key), kind):
            raise CheckpointError(f"{path} has no {key}: the checkpoint is damaged, take another")
    return meta


def _check_weights(path: Path, expected: Mapping[str, tuple[int, ...]], sha256: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} not found: the checkpoint is incomplete, train again")
    try:
        with safe_open(path, framework="pt") as f:
            shapes = {k: tuple(f.get_slice(k).get_shape()) for k in f.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"{path} is not a whole safetensors file ({e}): train again") from e
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise CheckpointError(
                f"{path}: {name} has shape {shapes.get(name)}, its settings ask for {expected.get(name)}"
            )
    if sha256_file(path) != sha256:
        raise CheckpointError(f"{path} differs from its recorded SHA-256: take another copy, or train again")

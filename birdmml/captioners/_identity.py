"""Which model it is: a folder by the hashes of its files, a name by its revision at the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from birdmml import files
from birdmml.errors import UsageError

IMAGE, TEXT = "--caption-image-model", "--caption-text-model"
NEEDED = {
    IMAGE: "config.json, model.safetensors, preprocessor_config.json and tokenizer.json",
    TEXT: "config.json, model.safetensors and tokenizer.json",
}
_READ = (".json", ".safetensors", ".model", ".txt", ".jinja")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def identity(name: str, option: str) -> dict[str, str]:
    """{"name", "sha256"} of a local folder, or {"name", "revision"} of a model of a hub; no weights are loaded.

    A folder's path is nobody's business: only its last part is told. Raises UsageError where there is no such
    model, for one of another kind, and for a folder that has its weights as pickles only.
    """
    folder = local(name)
    _check_kind(name, option)
    if folder is None:
        return {"name": name, "revision": _revision(name, option)}
    found = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _READ)
    if not any(p.suffix == ".safetensors" for p in found):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
        has = f"its weights as a pickle ({pickled[0]}), which is never read" if pickled else "no weights"
        raise UsageError(f"{option} {name} has {has}: give a folder with {NEEDED[option]}")
    try:
        return {
            "name": folder.resolve().name,
            "sha256": files.digest({p.name: files.sha256_file(p) for p in found}),
        }
    except OSError as e:
        raise unreachable(name, option, e) from e


def local(name: str) -> Path | None:
    """The folder that a name means, if it means one."""
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else None


def unreachable(name: str, option: str, error: BaseException) -> UsageError:
    """One line about a model that cannot be had, with what to provide."""
    lines = str(error).strip().splitlines()
    first = lines[0][:160] if lines else type(error).__name__
    if local(name):
        return UsageError(
            f"{option} {name} cannot be loaded ({first}): the folder must have {NEEDED[option]}, whole"
        )
    return UsageError(
        f"{option} {name} cannot be loaded ({first}): no hub in reach has it; give a local folder with {NEEDED[option]}"
    )


def _revision(name: str, option: str) -> str:
    """The commit of what the hub gave, as its cache has it in the path of every file."""
    from transformers.utils.hub import cached_file

    try:
        path = Path(str(cached_file(name, "config.json"))).as_posix()
    except Exception as e:  # what the hub's client may raise is not ours to list
        raise unreachable(name, option, e) from e
    if found := re.search(r"/snapshots/([0-9a-f]{40})/", path):
        return found[1]
    raise UsageError(f"{option} {name} does not tell its revision: give a local folder with {NEEDED[option]}")


def _check_kind(name: str, option: str) -> None:
    """Raises UsageError for a model without a config, or of another kind than the option asks for."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto as auto

    try:
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as e:  # what a stranger's config may break is not ours to list
        raise unreachable(name, option, e) from e
    if option == IMAGE and config.model_type not in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise UsageError(
            f"{option} {name} ({config.model_type}) does not caption images: choose BLIP or its like"
        )
    writes = config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    gaps = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if option == TEXT and (not writes or (gaps and not getattr(config, "is_decoder", False))):
        raise UsageError(
            f"{option} {name} ({config.model_type}) does not write text: choose a causal language model"
        )

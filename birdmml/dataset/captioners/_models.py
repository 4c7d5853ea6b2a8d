"""Image captioners and text models of `transformers`: which they are, loaded whole or not at all, greedy, batched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
)

from birdmml.core import files
from birdmml.core.device import lacks_memory, pick_device
from birdmml.errors import BuildError, UsageError

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
    folder = Path(name).expanduser()
    _check_kind(name, option)
    if not folder.is_dir():
        return {"name": name, "revision": _revision(name, option)}
    read = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _READ)
    if not any(p.suffix == ".safetensors" for p in read):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
        has = f"its weights as a pickle ({pickled[0]}), which is never read" if pickled else "no weights"
        raise UsageError(f"{option} {name} has {has}: give a folder with {NEEDED[option]}")
    try:
        return {"name": folder.resolve().name, "sha256": files.digest({p.name: files.sha256_file(p) for p in read})}
    except OSError as e:
        raise unreachable(name, option, e) from e


def unreachable(name: str, option: str, error: BaseException) -> UsageError:
    """One line about a model that cannot be had, with what to provide."""
    local = Path(name).expanduser().is_dir()
    step = "the folder must have {}, whole" if local else "no hub in reach has it; give a local folder with {}"
    return UsageError(f"{option} {name} cannot be loaded ({_first(error)}): {step.format(NEEDED[option])}")


def _revision(name: str, option: str) -> str:
    """The commit of what the hub gave, as its cache has it in the path of every file."""
    from transformers.utils.hub import cached_file

    try:
        path = Path(str(cached_file(name, "config.json"))).as_posix()
    except Exception as e:  # what the hub's client may raise is not ours to list
        raise unreachable(name, option, e) from e
    if match := re.search(r"/snapshots/([0-9a-f]{40})/", path):
        return match[1]
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
        raise UsageError(f"{option} {name} ({config.model_type}) does not caption images: choose BLIP or its like")
    writes = config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    gaps = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if option == TEXT and (not writes or (gaps and not getattr(config, "is_decoder", False))):
        raise UsageError(f"{option} {name} ({config.model_type}) does not write text: choose a causal language model")


# Prompts are padded to a multiple of this: equal lengths take equal paths through a GPU's kernels.
STEP = 64
# Pillow's resize on every machine, whether torchvision is there or not: the pixels decide the words.
_PIL = {"backend": "pil"} if int(transformers.__version__.split(".")[0]) >= 5 else {"use_fast": False}


# Classes that transformers leaves untyped.
_Processor: Any = AutoImageProcessor
_Config: Any = GenerationConfig


@dataclass(frozen=True)
class Machine:
    """Where models run, and with which numbers (float32 or bfloat16)."""

    device: torch.device
    dtype: torch.dtype

    @property
    def precision(self) -> str:
        """The name of the numbers."""
        return str(self.dtype).removeprefix("torch.")


def machine(device: str) -> Machine:
    """bfloat16 on cuda, float32 elsewhere. Raises UsageError for a device that is not there."""
    picked = pick_device(device)
    return Machine(picked, torch.bfloat16 if picked.type == "cuda" else torch.float32)


class ImageModel:
    """Photos to short texts, by any model of `transformers` that captions without a prompt (BLIP, GIT, ViT-GPT2...).

    Raises UsageError for a model that cannot be had, lacks weights, or is of another kind.
    """

    def __init__(self, name: str, revision: str | None, on: Machine, new_tokens: int) -> None:
        self.name, self.on, self.new_tokens = name, on, new_tokens
        options = {"revision": revision, "trust_remote_code": False}
        with _model_errors(name, IMAGE):
            self.processor: Any = _Processor.from_pretrained(name, **_PIL, **options)
            self.tokenizer: Any = _tokenizer(name, IMAGE, options)
        self.model = _loaded(AutoModelForImageTextToText, name, IMAGE, options, on, "caption images")
        # BLIP's decoder is a model of its own, with settings of its own.
        inner = getattr(self.model, "text_decoder", self.model)
        inner.generation_config = _greedy(inner, self.tokenizer, new_tokens)

    @torch.inference_mode()
    def captions(self, pictures: Sequence[Image.Image], rows: int) -> list[str]:
        """What the model says of each picture. On a GPU every batch is filled up to `rows`: see STEP."""
        with _memory(self.on, rows):
            with _model_errors(self.name, IMAGE):
                inputs = self.processor(images=[p.convert("RGB") for p in pictures], return_tensors="pt")
                pixels = torch.as_tensor(inputs["pixel_values"]).to(self.on.device, self.on.dtype)
            if self.on.device.type != "cpu" and len(pixels) < rows:
                pixels = torch.cat([pixels, pixels[-1:].expand(rows - len(pixels), *pixels.shape[1:])])
            cannot = f"{IMAGE} {self.name} does not caption a photo by itself"
            with _able(cannot, "a captioner that needs no prompt, such as BLIP"):
                ids = self.model.generate(pixel_values=pixels)[: len(pictures)]
        return list(self.tokenizer.batch_decode(ids, skip_special_tokens=True))


class TextModel:
    """Prompts to answers, by any causal language model of `transformers`; its chat template is used if it has one.

    The weights are loaded when they are first needed. Raises UsageError as ImageModel does.
    """

    def __init__(self, name: str, revision: str | None, on: Machine, new_tokens: int) -> None:
        self.name, self.on, self.new_tokens = name, on, new_tokens
        self._loading = {"revision": revision, "trust_remote_code": False}
        with _model_errors(name, TEXT):
            self.tokenizer: Any = _tokenizer(name, TEXT, self._loading)
            config = transformers.AutoConfig.from_pretrained(name, **self._loading)
        self.context = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        self._model: Any = None

    def marks(self) -> tuple[str, ...]:
        """What the tokenizer takes for more than text, such as the end of a turn, longest first."""
        added = self.tokenizer.added_tokens_decoder.values()
        marks = {str(t.content) for t in added if t.special or re.fullmatch(r"[<\[|].*[>\]|]", str(t.content), re.S)}
        marks |= set(self.tokenizer.all_special_tokens)
        return tuple(sorted((m for m in marks if m.strip()), key=lambda m: (-len(m), m)))

    def cut(self, text: str, tokens: int) -> str:
        """The longest beginning of a text that has at most so many tokens, up to the end of a word."""
        ids = self._ids(text)
        if len(ids) <= tokens:
            return text
        words = text.split(" ")
        low, high = 0, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(self._ids(" ".join(words[:middle]))) <= tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        return " ".join(words[:low])

    def prompt(self, task: str, answer: str) -> str:
        """The task as the model's chat has it; without a chat, the task and what the answer begins after."""
        if not getattr(self.tokenizer, "chat_template", None):
            return f"{task}{answer}"
        with _model_errors(self.name, TEXT):
            turns = [{"role": "user", "content": task}]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt. Raises UsageError where the model cannot read so many and answer."""
        chat = bool(getattr(self.tokenizer, "chat_template", None))
        ids = self._ids(prompt, special=not chat)
        if len(ids) + self.new_tokens > self.context:
            raise UsageError(
                f"{TEXT} {self.name} reads {self.context} tokens, a prompt has {len(ids)} and an answer up to "
                f"{self.new_tokens}: give a lower --caption-article-tokens, or a model that reads more"
            )
        return ids

    def padded(self, tokens: int) -> int:
        """The length that a prompt of so many tokens is padded to."""
        return max(tokens, min(-(-tokens // STEP) * STEP, self.context - self.new_tokens))

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Sequence[int]], rows: int) -> list[tuple[str, bool]]:
        """(answer, whether it came to its end) of each prompt; all are padded to one length, on the left."""
        width = self.padded(max(map(len, prompts)))
        full = rows if self.on.device.type != "cpu" else len(prompts)
        with _memory(self.on, rows):
            model = self._weights()
            config = model.generation_config
            ids = torch.full((full, width), config.pad_token_id, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row in range(full):
                prompt = prompts[min(row, len(prompts) - 1)]
                ids[row, width - len(prompt) :] = torch.tensor(prompt)
                mask[row, width - len(prompt) :] = 1
            with _able(f"{TEXT} {self.name} does not answer", "another model"):
                outputs = model.generate(input_ids=ids.to(self.on.device), attention_mask=mask.to(self.on.device))
        ends = config.eos_token_id
        stops = set(ends if isinstance(ends, list) else [ends])
        answers = []
        for tokens in outputs[: len(prompts), width:].tolist():
            end = next((i for i, token in enumerate(tokens) if token in stops), None)
            answers.append((str(self.tokenizer.decode(tokens[:end], skip_special_tokens=True)), end is not None))
        return answers

    def _weights(self) -> Any:
        if self._model is None:
            model = _loaded(AutoModelForCausalLM, self.name, TEXT, self._loading, self.on, "write text")
            model.generation_config = _greedy(model, self.tokenizer, self.new_tokens)
            self._model = model
        return self._model

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special, truncation=False)["input_ids"])


def _loaded(auto: Any, name: str, option: str, options: Mapping[str, Any], on: Machine, does: str) -> Any:
    """A model with every weight from its file."""
    with _model_errors(name, option, does), _quiet():
        model, info = auto.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, dtype=on.dtype, **options
        )
    lacking = [*info["missing_keys"], *info["mismatched_keys"]]
    if lacking:
        raise UsageError(f"{option} {name} lacks weights ({lacking[0]}, ...): give a folder with the whole model")
    try:
        return model.to(on.device).eval()
    except Exception as e:  # only a lack of memory is ours to tell; else raised again
        if lacks_memory(e):
            raise BuildError(f"out of memory: {option} {name} does not fit on {on.device}: choose a smaller one") from e
        raise


def _tokenizer(name: str, option: str, options: Mapping[str, Any]) -> Any:
    """A model's own tokenizer: transformers makes an empty one, and says nothing, where its files are not there."""
    tokenizer: Any = AutoTokenizer.from_pretrained(name, **options)
    config: Any = transformers.AutoConfig.from_pretrained(name, **options)
    size = getattr(config.get_text_config(decoder=True), "vocab_size", None) or 0
    if 2 * len(tokenizer) < size:
        raise UsageError(
            f"{option} {name} has a tokenizer of {len(tokenizer)} tokens for a model of {size}: give a folder with"
            f" {NEEDED[option]}"
        )
    return tokenizer


@contextmanager
def _able(cannot: str, choose: str) -> Iterator[None]:
    """What a model raises while it works, as one line; a lack of memory goes on."""
    try:
        with _quiet():
            yield
    except Exception as e:  # what a stranger's model raises is not ours to list
        if lacks_memory(e):
            raise
        raise UsageError(f"{cannot} ({_first(e)}): choose {choose}") from e


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and the advice of transformers: this is one stage of a build, with a bar of its own."""
    logging: Any = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _greedy(model: Any, tokenizer: Any, new_tokens: int) -> Any:
    """The likeliest word each time, whatever the model's own settings say; only its special tokens are taken."""
    own = model.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    first = end[0] if isinstance(end, list) else end
    pads = (own.pad_token_id, tokenizer.pad_token_id, first, 0)
    return _Config(
        do_sample=False,
        num_beams=1,
        max_new_tokens=new_tokens,
        eos_token_id=end,
        pad_token_id=next(p for p in pads if p is not None),
        bos_token_id=own.bos_token_id if own.bos_token_id is not None else tokenizer.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )


@contextmanager
def _model_errors(name: str, option: str, does: str = "") -> Iterator[None]:
    """What may go wrong in a stranger's model, as one line with the next step."""
    try:
        yield
    except UsageError:
        raise
    except Exception as e:  # what a stranger's files break is not ours to list
        if lacks_memory(e):
            raise BuildError(f"out of memory while {option} {name} was loaded: choose a smaller model") from e
        if does and "Unrecognized configuration class" in str(e):
            raise UsageError(f"{option} {name} is not made to {does}: choose another model") from e
        raise unreachable(name, option, e) from e


@contextmanager
def _memory(on: Machine, rows: int) -> Iterator[None]:
    try:
        yield
    except (BuildError, UsageError):
        raise
    except Exception as e:  # only a lack of memory is ours to tell; else raised again
        if not lacks_memory(e):
            raise
        step = f"--caption-batch {rows // 2}" if rows > 1 else "a smaller model, or another --device"
        raise BuildError(
            f"out of memory on {on.device} with {rows} captions at once: run the same command with {step}"
        ) from e


def _first(e: BaseException) -> str:
    lines = str(e).strip().splitlines()
    return lines[0][:160] if lines else type(e).__name__

"""Encoders from any `transformers` model, by name or local folder; the user says how their weights start.

A preset holds the whole config of such a model, so that a checkpoint can be loaded without the folder it came from.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from birdmml.errors import UsageError
from birdmml.models.presets import Encoders, Foreign, Preset

OPTIONS = {"image": "--image-encoder", "audio": "--audio-encoder", "text": "--text-encoder"}
INPUTS = {"image": ("pixel_values",), "audio": ("pixel_values", "input_values", "input_features")}
WIDTHS = ("hidden_size", "d_model", "num_features", "dim")
# What a processor says of pixels; without one, ImageNet's constants serve.
PROCESSOR = "preprocessor_config.json"


class ForeignEncoder(nn.Module):
    """A `transformers` model on [B, C, H, W] pictures, log-mel or token ids [B, L] -> [B, D]."""

    def __init__(self, settings: Foreign, kind: str) -> None:
        super().__init__()
        if not settings.config:
            raise UsageError(
                f"encoders.{kind}_model has a name but no config: name it by `birdmml train {OPTIONS[kind]}`,"
                " then `birdmml bench --checkpoint`"
            )
        values = json.loads(settings.config)
        try:
            config: Any = AutoConfig.for_model(**values)
        except (ValueError, TypeError, KeyError) as e:
            name = str(values.get("model_type", ""))
            raise UsageError(f"transformers knows no model of type {name!r}: update it, or choose another") from e
        self.kind, self.pooling, self.config = kind, settings.pooling, config
        net: nn.Module = AutoModel.from_config(config)  # type: ignore[no-untyped-call]  # transformers has no types
        self.net: nn.Module = net.get_encoder() if config.is_encoder_decoder else net  # type: ignore[operator]  # transformers
        sizes = getattr(config, "hidden_sizes", None)
        widths = [sizes[-1]] if sizes else [getattr(config, n) for n in WIDTHS if getattr(config, n, None)]
        if not widths:
            raise UsageError(f"{config.model_type} does not tell its width: choose another encoder")
        self.width = int(widths[0])
        self.takes = "input_ids" if kind == "text" else str(getattr(net, "main_input_name", "pixel_values"))
        waves = self.takes == "input_values" and not hasattr(config, "num_mel_bins")
        if kind != "text" and (self.takes not in INPUTS[kind] or waves):
            wanted = "pictures" if kind == "image" else "a spectrogram (AST, Whisper, or any vision model)"
            raise UsageError(
                f"{OPTIONS[kind]}: {config.model_type} takes {'waveforms' if waves else self.takes}, but {wanted} come"
                " in here: choose another model"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Network input of one modality -> [B, D]."""
        if self.kind == "text":
            real = x != 0
            # Padding is 0 here, and a token that its tokenizer numbers 0 is -1: see nn.text.tokenise.
            out = self.net(input_ids=x.long().clamp_min(0), attention_mask=real.long())
            return self._pooled(out, real)
        return self._pooled(self.net(**{self.takes: self._shaped(x)}), None)

    def _shaped(self, x: Tensor) -> Tensor:
        if self.takes == "pixel_values":
            channels, side = getattr(self.config, "num_channels", 3), getattr(self.config, "image_size", None)
            if x.shape[1] == 1 and channels != 1:
                x = x.expand(-1, channels, -1, -1)
            size = (side, side) if isinstance(side, int) else side
            if size is not None and tuple(x.shape[-2:]) != tuple(size):
                x = F.interpolate(x, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)
            return x
        frames = getattr(self.config, "max_length", None) or 2 * getattr(self.config, "max_source_positions", 0)
        mel = x[:, 0]
        mel = F.pad(mel, (0, frames - mel.shape[-1])) if frames else mel  # a negative pad cuts
        return mel.transpose(1, 2) if self.takes == "input_values" else mel

    def _pooled(self, out: Any, real: Tensor | None) -> Tensor:
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        hidden: Tensor = out.last_hidden_state
        if self.pooling == "pooler" or (self.pooling == "auto" and pooled is not None and self.kind != "text"):
            if pooled is None:
                raise UsageError(f"{self.config.model_type} has no pooler: use pooling mean or cls")
            return pooled.flatten(1)
        if hidden.ndim == 4:
            return hidden.mean((2, 3))
        if self.pooling == "cls":
            return hidden[:, 0]
        weight = torch.ones_like(hidden[..., :1]) if real is None else real.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


def resolved(sizes: Preset) -> Preset:
    """The preset with the config of each named model written into it, and the front end fit to the models.

    Reads config files, no weights. Raises UsageError where a model cannot be found, or weights are not told.
    """
    encoders, front = sizes.encoders, sizes.front_end
    for kind in OPTIONS:
        model = encoders.foreign(kind)
        if not model.name or model.config:
            continue
        try:
            values = dict(AutoConfig.from_pretrained(model.name).to_dict())
        except (OSError, ValueError, KeyError) as e:
            raise _unreachable(model.name, kind, e) from e
        # The vision, audio or text half of a model of two halves; others as they are.
        half = values.get({"image": "vision_config", "audio": "audio_config", "text": "text_config"}[kind])
        values = dict(half) if isinstance(half, dict) else values
        pinned = dataclasses.replace(model, config=json.dumps(values, sort_keys=True))
        fields: dict[str, Any] = {f"{kind}_model": pinned}
        encoders = dataclasses.replace(encoders, **fields)
        if kind == "image":
            front = dataclasses.replace(front, **_pixels(model.name, values))
        elif kind == "audio" and isinstance(values.get("num_mel_bins"), int):
            front = dataclasses.replace(front, bands=values["num_mel_bins"])
    return dataclasses.replace(sizes, encoders=encoders, front_end=front)


def load_weights(encoders: nn.ModuleDict, settings: Encoders) -> None:
    """Put the named models' own weights into their encoders; safetensors only.

    Raises UsageError where a model lacks a weight that its encoder has: nothing stays random unsaid.
    """
    for tower, encoder in encoders.items():
        kind = tower.split("@")[0]
        model = settings.foreign(kind)
        if not isinstance(encoder, ForeignEncoder) or settings.weights != "pretrained":
            continue
        try:
            pretrained, info = AutoModel.from_pretrained(
                model.name, config=encoder.config, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, ImportError) as e:
            raise _unreachable(model.name, kind, e) from e
        missing = [key for key in info["missing_keys"] if "pooler" not in key or encoder.pooling == "pooler"]
        if missing or info["mismatched_keys"]:
            raise UsageError(
                f"{OPTIONS[kind]} {model.name} lacks weights ({(missing or list(info['mismatched_keys']))[0]}, ...):"
                " give a folder with the whole model, or say --weights scratch"
            )
        net = pretrained.get_encoder() if encoder.config.is_encoder_decoder else pretrained
        encoder.net.load_state_dict(net.state_dict())


def tokenizer_of(name: str) -> Tokenizer:
    """A text model's own tokenizer. Raises UsageError where there is none that `tokenizers` can run."""
    try:
        pretrained = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError, KeyError) as e:
        raise _unreachable(name, "text", e) from e
    if not getattr(pretrained, "is_fast", False):
        raise UsageError(f"--text-encoder {name} has no tokenizer.json: convert its tokenizer to a fast one")
    tokenizer = Tokenizer.from_str(pretrained.backend_tokenizer.to_str())
    tokenizer.no_padding()  # tokenise pads to the longest row; the file may ask for 512 throughout.
    return tokenizer


def _pixels(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Front-end settings that a vision model was trained with, where it says them."""
    values: dict[str, Any] = {"pixel_normalise": True}
    if isinstance(config.get("image_size"), int):
        values["image_size"] = config["image_size"]
    path = Path(name) / PROCESSOR
    if path.is_file():
        processor = json.loads(path.read_text(encoding="utf-8"))
        for ours, theirs in (("pixel_mean", "image_mean"), ("pixel_deviation", "image_std")):
            if isinstance(processor.get(theirs), list) and len(processor[theirs]) == 3:
                values[ours] = tuple(float(v) for v in processor[theirs])
    return values


def _unreachable(name: str, kind: str, error: Exception) -> UsageError:
    first = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    return UsageError(
        f"{OPTIONS[kind]} {name} cannot be loaded ({first}): no hub in reach has it; give a local folder with"
        " config.json, model.safetensors" + (" and tokenizer.json" if kind == "text" else "")
    )

"""Image, audio and text encoders from `transformers` configurations, with random weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel

from birdmml.errors import UsageError
from birdmml.models.foreign import ForeignEncoder
from birdmml.models.presets import Bert, Encoders, FeatureNet, ResNet
from birdmml.models.text import PAD_ID
from birdmml.schema import MODALITIES

GROUPS = 32


def batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """Every batch normalisation in `module`."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def to_group_norm(module: nn.Module) -> None:
    """Replace each batch normalisation by a group normalisation of at most 32 groups (arXiv 1803.08494)."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            width = child.num_features
            setattr(module, name, nn.GroupNorm(math.gcd(GROUPS, width), width))
        else:
            to_group_norm(child)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Running means and variances do not move meanwhile; batches are normalised by their own all the same.

    A batch that passes twice, to save memory, must count once.
    """
    kept = [(layer, name, value) for layer in batch_norms(module) for name, value in layer.named_buffers()]
    for layer, name, value in kept:
        setattr(layer, name, value.clone())
    try:
        yield
    finally:
        for layer, name, value in kept:
            setattr(layer, name, value)


class ImageEncoder(nn.Module):
    """A ResNet on [B, channels, H, W] -> [B, D], averaged over space; serves log-mel with one channel too."""

    def __init__(self, settings: ResNet, channels: int) -> None:
        super().__init__()
        self.width = settings.widths[-1]
        config = ResNetConfig(
            num_channels=channels,
            embedding_size=settings.stem,
            hidden_sizes=list(settings.widths),
            depths=list(settings.depths),
            layer_type=settings.block,
        )
        net: nn.Module = ResNetModel(config)
        if settings.norm == "group":
            to_group_norm(net)
        # This order of values halves the time of convolutions on a CPU; torch's types do not know the option.
        self.net: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, D]."""
        pooled: Tensor = self.net(x.contiguous(memory_format=torch.channels_last)).pooler_output
        return pooled.flatten(1)


class TextEncoder(nn.Module):
    """A BERT on token ids [B, L] (0 pads) -> [B, D]: its first token, or the mean over tokens."""

    def __init__(self, settings: Bert, vocabulary: int, max_tokens: int) -> None:
        super().__init__()
        self.width, self.pooling = settings.hidden, settings.pooling
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.intermediate,
            max_position_embeddings=max_tokens,
            hidden_dropout_prob=settings.dropout,
            attention_probs_dropout_prob=settings.dropout,
            pad_token_id=PAD_ID,
        )
        self.net = BertModel(config, add_pooling_layer=False)  # Its pooler would be weights that no loss reaches.

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [B, L] -> [B, D]."""
        real = ids != PAD_ID
        hidden: Tensor = self.net(input_ids=ids.long(), attention_mask=real.long()).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        weight = real.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


class FeatureEncoder(nn.Module):
    """A transformer on precomputed features [B, T, D] -> [B, hidden], averaged over steps that are not all zero."""

    def __init__(self, settings: FeatureNet, width: int) -> None:
        super().__init__()
        self.width = settings.hidden
        self.enter = nn.Linear(width, settings.hidden)
        self.places = nn.Parameter(0.02 * torch.randn(settings.steps, settings.hidden))
        layer = nn.TransformerEncoderLayer(
            settings.hidden, settings.heads, 4 * settings.hidden, settings.dropout, batch_first=True, norm_first=True
        )
        many = settings.steps > 1
        self.net = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False) if many else None

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, T, D] -> [B, hidden]; raises UsageError for more steps or another width than set."""
        if x.shape[1] > len(self.places) or x.shape[2] != self.enter.in_features:
            raise UsageError(
                f"features of shape {tuple(x.shape)}: the preset says {len(self.places)} steps of"
                f" {self.enter.in_features}; set encoders.features"
            )
        padding = (x == 0).all(-1)
        padding[:, 0] = False  # something must be left to look at
        h = self.enter(x) + self.places[: x.shape[1]]
        h = F.gelu(h) if self.net is None else self.net(h, src_key_padding_mask=padding)
        weight = (~padding).unsqueeze(-1).to(h.dtype)
        return (h * weight).sum(1) / weight.sum(1)


def build(settings: Encoders, vocabulary: int, max_tokens: int) -> nn.ModuleDict:
    """One encoder a modality, each with its output size in `.width`; frozen ones do not learn."""
    encoders: dict[str, nn.Module] = {}
    for kind in MODALITIES:
        named, width = settings.foreign(kind), getattr(settings.features, kind)
        if width:
            encoders[kind] = FeatureEncoder(settings.features, width)
        elif named.name:
            encoders[kind] = ForeignEncoder(named, kind)
        elif kind == "text":
            encoders[kind] = TextEncoder(settings.text, vocabulary, max_tokens)
        else:
            sizes = settings.image if kind == "image" else settings.audio
            encoders[kind] = ImageEncoder(sizes, channels=3 if kind == "image" else 1)
        encoders[kind].requires_grad_(kind not in settings.frozen)
    return nn.ModuleDict(encoders)


def widths(encoders: nn.ModuleDict) -> dict[str, int]:
    """Output size of each encoder."""
    return {name: cast(int, module.width) for name, module in encoders.items()}

"""Front end, encoders and a method's model as one module: media in, losses or embeddings out."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from birdmml.core import discover
from birdmml.models import encoders
from birdmml.models.heads import TOWER, Head
from birdmml.models.preprocess import Preprocessor
from birdmml.models.presets import Preset
from birdmml.schema import MODALITIES

Inputs = Mapping[str, Tensor]


class Network(nn.Module):
    """`preprocessor`, `encoders` (one a modality, and the towers a method adds) and `head` (the method's model)."""

    def __init__(self, preset: Preset, method: ModuleType, config: Any, vocabulary: int) -> None:
        super().__init__()
        self.preprocessor = Preprocessor(preset.front_end)
        self.method_file = discover.origin(method)
        self.encoders = encoders.build(preset.encoders, vocabulary, preset.front_end.max_tokens)
        if hasattr(method, "towers"):
            for name, modality in method.towers(config, MODALITIES).items():
                again = encoders.build(preset.encoders, vocabulary, preset.front_end.max_tokens)
                self.encoders[name] = again[modality]
        self.head: nn.Module = method.Model(config, encoders.widths(self.encoders))

    @property
    def model(self) -> Head:
        """The method's model, by its contract."""
        return cast(Head, self.head)

    def features(self, inputs: Inputs) -> dict[str, Tensor]:
        """Compact tensors of any modalities -> encoder outputs h_m [B, D_m], towers ("text@audio") included.

        image uint8 [B, 3, S, S], audio log-mel in dB [B, 1, bands, frames], text ids [B, L].
        """
        finish = {"image": self.preprocessor.finish_image, "audio": self.preprocessor.finish_audio}
        ready = {name: finish[name](value) if name in finish else value for name, value in inputs.items()}
        return {
            tower: self.encoders[tower](value)
            for name, value in ready.items()
            for tower in self.encoders
            if tower.split(TOWER)[0] == name
        }

    def forward(self, inputs: Inputs, same: Tensor | None = None) -> dict[str, Tensor]:
        """The method's loss terms of one batch; `same` [B, B] marks rows of one species."""
        return self.model.loss(self.features(inputs), same)

    def embed(self, inputs: Inputs) -> dict[str, Tensor]:
        """Unit vectors [B, dim] of the modalities given and of what the method fuses of them."""
        return self.model.embed(self.features(inputs))

    def parameters_by_part(self) -> dict[str, int]:
        """Number of learned values of each encoder and of the head."""
        parts = {**dict(self.encoders.items()), "method": self.head}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

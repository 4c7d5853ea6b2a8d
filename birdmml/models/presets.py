"""The sizes of everything, as plain values: front end, encoders, training; and the named presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from birdmml.errors import UnknownName, UsageError
from birdmml.schema import MODALITIES, RATE_HZ


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}: it must lie in {low} to {high}")


@dataclass(frozen=True)
class FrontEnd:
    """How media become tensors. Sizes in px, Hz, dB; the defaults are those of the ConFu paper.

    Images are squashed to a square, so that nothing of the bird is cut away. Mel bands follow the HTK scale
    without area normalisation, on the power spectrum. `db_centre` and `db_scale` shift and scale the log-mel.
    """

    image_size: int = 224
    pixel_normalise: bool = False
    rate_hz: int = RATE_HZ
    n_fft: int = 1024
    hop: int = 512
    bands: int = 128
    low_hz: float = 500.0  # Most of what lies below is wind and traffic.
    high_hz: float = 10_000.0
    frames: int = 431
    db_centre: float = 0.0
    db_scale: float = 1.0
    max_tokens: int = 128
    pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    pixel_deviation: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        _within("image_size", self.image_size, 8, 1024)
        _within("n_fft", self.n_fft, 16, 2**16)
        # A longer hop would leave samples between two frames unheard.
        _within("hop", self.hop, 1, self.n_fft)
        _within("bands", self.bands, 4, 1024)
        _within("frames", self.frames, 4, 100_000)
        _within("max_tokens", self.max_tokens, 8, 512)
        _within("rate_hz", self.rate_hz, 1000, 192_000)
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise UsageError(
                f"mel range {self.low_hz:g}-{self.high_hz:g} Hz must lie in 0-{self.rate_hz / 2:g} Hz, low first"
            )
        if len(self.pixel_mean) != 3 or len(self.pixel_deviation) != 3 or min(self.pixel_deviation) <= 0:
            raise UsageError("pixel_mean and pixel_deviation need three values each, deviations over 0")
        if not self.db_scale > 0:
            raise UsageError(f"db_scale is {self.db_scale}: it must be over 0")


@dataclass(frozen=True)
class ResNet:
    """A ResNet: stem width, then width and depth of each stage.

    `norm` "group" puts group normalisation in the place of batch normalisation: then nothing that an item
    becomes depends on the other rows, and training in chunks equals training in one pass.
    """

    stem: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    block: Literal["basic", "bottleneck"] = "bottleneck"
    norm: Literal["batch", "group"] = "batch"

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.depths):
            raise UsageError(f"a ResNet needs one depth a width, got {self.widths} and {self.depths}")
        for value in (self.stem, *self.widths):
            _within("ResNet width", value, 4, 8192)
        for value in self.depths:
            _within("ResNet depth", value, 1, 64)


@dataclass(frozen=True)
class Bert:
    """A BERT encoder; `vocabulary` is the most tokens its tokenizer may learn from the captions."""

    hidden: int = 384
    layers: int = 6
    heads: int = 12
    intermediate: int = 1536
    vocabulary: int = 30_522
    pooling: Literal["cls", "mean"] = "cls"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _within("text hidden size", self.hidden, 8, 4096)
        _within("text layers", self.layers, 1, 48)
        _within("text heads", self.heads, 1, 64)
        _within("text intermediate size", self.intermediate, 8, 16_384)
        _within("vocabulary", self.vocabulary, 64, 200_000)
        if self.hidden % self.heads:
            raise UsageError(f"text hidden size {self.hidden} must be a multiple of its {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"text dropout is {self.dropout}: it must be in [0, 1)")


@dataclass(frozen=True)
class FeatureNet:
    """Precomputed features in the place of media: their width D a modality (0: media), and the encoder on them.

    `steps` is the largest T of [N, T, D]; one step passes a linear layer, more a transformer of `layers`.
    """

    image: int = 0
    audio: int = 0
    text: int = 0
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    steps: int = 50
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in MODALITIES:
            _within(f"width of {name} features", getattr(self, name), 0, 1_000_000)
        _within("feature encoder's hidden size", self.hidden, 4, 8192)
        _within("feature encoder's layers", self.layers, 1, 48)
        _within("feature steps", self.steps, 1, 100_000)
        if self.heads < 1 or self.hidden % self.heads:
            raise UsageError(f"hidden size {self.hidden} must be a multiple of its {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"feature dropout is {self.dropout}: it must be in [0, 1)")


@dataclass(frozen=True)
class Foreign:
    """A `transformers` model: `name` is a folder or a hub's name, `config` its config.json as text.

    `pooling` "auto" is the pooler of vision models where there is one, else the mean over real positions.
    """

    name: str = ""
    config: str = ""
    pooling: Literal["auto", "mean", "cls", "pooler"] = "auto"


@dataclass(frozen=True)
class Encoders:
    """One encoder a modality: a ResNet or BERT of these sizes, or in its place the named model.

    `weights` says where named models start: their own ("pretrained"), or random ("scratch"). What is not named is
    always random; nothing is downloaded unless a name asks for it. `frozen` encoders do not learn.
    """

    image: ResNet = ResNet()
    audio: ResNet = ResNet()
    text: Bert = Bert()
    weights: Literal["scratch", "pretrained"] = "scratch"
    image_model: Foreign = Foreign()
    audio_model: Foreign = Foreign()
    text_model: Foreign = Foreign()
    frozen: tuple[str, ...] = ()
    features: FeatureNet = FeatureNet()

    def __post_init__(self) -> None:
        if self.weights == "pretrained" and not any(self.foreign(kind).name for kind in MODALITIES):
            raise UsageError(
                "weights are to be pretrained, but no model is named: give --image-encoder, --audio-encoder or"
                " --text-encoder a folder, or say --weights scratch"
            )
        for name in self.frozen:
            if name not in MODALITIES:
                raise UnknownName("modality to freeze", name, MODALITIES)

    def foreign(self, kind: str) -> Foreign:
        """The named model of "image", "audio" or "text"; without a name where there is none."""
        model: Foreign = getattr(self, f"{kind}_model")
        return model


@dataclass(frozen=True)
class Augment:
    """Random changes to training batches; the paper names none. Shift in px, roll in frames, gain in dB."""

    mirror: bool = False
    shift_px: int = 0
    roll_frames: int = 0
    gain_db: float = 0.0

    def __post_init__(self) -> None:
        _within("shift_px", self.shift_px, 0, 512)
        _within("roll_frames", self.roll_frames, 0, 100_000)
        if not 0 <= self.gain_db <= 100:
            raise UsageError(f"gain_db is {self.gain_db}: it must lie in 0 to 100")


@dataclass(frozen=True)
class Training:
    """AdamW and a cosine from `learning_rate` to `final_learning_rate`, stepped once an epoch.

    `batch_size` is the contrastive batch over all processes. `chunk_size` rows go through the encoders at once
    (0: all), the loss sees the whole batch all the same. `clip_norm` bounds the gradient's norm; 0 does not.
    `precision` "auto" is bfloat16 on CUDA, float32 elsewhere, or what `accelerate launch` says.
    `false_negatives` "mask" takes other rows of the same species out of the negatives. `sampling` "species"
    draws as many rows of every species.

    Decoded features are kept in memory while they fit `cache_gib`; 0 decodes every batch anew, `workers` threads
    ahead. Rows are mixed within `buffer_mib` of encoded media: all of them where that is enough. `cpu_threads`
    is for training on a CPU; 0 leaves the choice to torch.
    """

    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-6
    weight_decay: float = 1e-4
    augment: Augment = Augment()
    cache_gib: float = 4.0
    cpu_threads: int = 0
    clip_norm: float = 0.0
    chunk_size: int = 0
    activation_checkpointing: bool = False
    compile: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    false_negatives: Literal["keep", "mask"] = "keep"
    sampling: Literal["rows", "species"] = "rows"
    workers: int = 2
    buffer_mib: int = 1024

    def __post_init__(self) -> None:
        _within("cpu_threads", self.cpu_threads, 0, 1024)
        _within("chunk_size", self.chunk_size, 0, 1_000_000)
        _within("workers", self.workers, 0, 256)
        _within("buffer_mib", self.buffer_mib, 1, 2**20)
        _within("epochs", self.epochs, 1, 1_000_000)
        _within("batch_size", self.batch_size, 2, 1_000_000)
        if not 0 < self.final_learning_rate <= self.learning_rate:
            raise UsageError(
                f"learning rates must be over 0 and fall: {self.learning_rate} to {self.final_learning_rate}"
            )
        if min(self.weight_decay, self.cache_gib, self.clip_norm) < 0:
            raise UsageError("weight_decay, cache_gib and clip_norm must not be negative")


@dataclass(frozen=True)
class Preset:
    """All sizes of a run; `dim` is the width of the shared space."""

    front_end: FrontEnd = FrontEnd()
    encoders: Encoders = Encoders()
    training: Training = Training()
    dim: int = 512

    def __post_init__(self) -> None:
        _within("dim", self.dim, 2, 16_384)


# Log-mel of audio at full scale 1 spans about -100 (nothing) to 30 dB; the small presets bring it to about +-1.
# They also mirror, shift, roll and amplify: with a thousand rows and none of that, pairs are learned by heart.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "tiny": Preset(
            FrontEnd(64, True, bands=48, frames=130, db_centre=-30.0, db_scale=30.0, max_tokens=64),
            Encoders(
                ResNet(16, (16, 32, 64, 128), (1, 1, 1, 1), "basic"),
                ResNet(12, (12, 24, 48, 96), (1, 1, 1, 1), "basic"),
                Bert(96, 1, 4, 192, 4096),
            ),
            # One thread: networks this small gain little from a second, and lose much where cores are shared.
            Training(
                22, 32, 1e-3, augment=Augment(mirror=True, shift_px=4, roll_frames=20, gain_db=6.0), cpu_threads=1
            ),
            dim=128,
        ),
        "small": Preset(
            FrontEnd(image_size=112, db_centre=-30.0, db_scale=30.0),
            Encoders(
                ResNet(32, (32, 64, 128, 256), (2, 2, 2, 2), "basic"),
                ResNet(32, (32, 64, 128, 256), (2, 2, 2, 2), "basic"),
                Bert(192, 4, 6, 768, 16_384),
            ),
            Training(40, 64, 5e-4, augment=Augment(mirror=True, shift_px=8, roll_frames=40, gain_db=6.0)),
            dim=256,
        ),
        "paper": Preset(),
    }
)


def preset(name: str) -> Preset:
    """The preset of that name; raises UnknownName with the nearest ones."""
    key = name.strip().casefold()
    if key not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[key]

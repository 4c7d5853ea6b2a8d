"""What is done to one modality: its kind, its level and its seed, as a name that can be read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from birdmml.errors import UnknownName, UsageError


@dataclass(frozen=True)
class Kind:
    """What a level means for one kind of corruption, its range, and where the damage is done."""

    measure: str
    low: float
    high: float
    unit: str
    domain: str
    whole: bool = False


def _snr(domain: str) -> Kind:
    # Beyond 100 dB the noise comes near the rounding of float32, and the level would no longer be exact.
    return Kind("SNR in dB", -60.0, 100.0, "dB", domain)


_ABSENT = Kind("nothing to measure", 0.0, 0.0, "", "the whole modality: the model is not given it")

KINDS: Mapping[str, Mapping[str, Kind]] = {
    "audio": {
        "gaussian": _snr("waveform, not clipped: white Gaussian noise"),
        "pink": _snr("waveform, not clipped: noise whose power falls as 1/f"),
        "wind": _snr("waveform, not clipped: Gaussian noise below 150 Hz that swells and fades"),
        "song": _snr("waveform, not clipped: another recording mixed in"),
        "missing": _ABSENT,
    },
    "image": {
        "gaussian": _snr("pixels in [0, 1], neither clipped nor rounded: white Gaussian noise"),
        "blur": Kind(
            "sigma in px of a picture of 224 px",
            0.1,
            112.0,
            "px",
            "pixels in [0, 1]: Gaussian blur, edges mirrored",
        ),
        "jpeg": Kind(
            "JPEG quality", 1.0, 94.0, "", "8-bit pixels: stored as JPEG with 4:2:0 chroma", whole=True
        ),
        "occlusion": Kind(
            "share of the area",
            0.001,
            1.0,
            "",
            "pixels in [0, 1]: one rectangle of mid-grey (128/255), seeded place",
        ),
        "missing": _ABSENT,
    },
}


@dataclass(frozen=True)
class Corruption:
    """One kind of damage to one modality ("audio" or "image").

    `level` is the SNR in dB for kinds that add noise, else the kind's own measure (`KINDS`). Raises UnknownName
    for a modality or kind that does not exist, UsageError for a level outside the kind's range.
    """

    modality: str
    kind: str
    level: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        kind = _kind(self.modality, self.kind)
        # One spelling for equal levels (10 and 10.0, 0.0 and -0.0), so that equal settings have equal digests.
        object.__setattr__(self, "level", float(self.level) + 0.0)
        fits = kind.low <= self.level <= kind.high and not (kind.whole and self.level % 1)
        if not fits:
            what = "a whole number" if kind.whole else "a number"
            raise UsageError(
                f"{self.modality}-{self.kind} at {self.level:g}: the level ({kind.measure}) must be "
                f"{what} from {kind.low:g} to {kind.high:g}"
            )

    @property
    def name(self) -> str:
        """Without the seed: "audio-gaussian-10dB", "image-occlusion-0.25", "audio-missing"."""
        if self.kind == "missing":
            return f"{self.modality}-missing"
        level = int(self.level) if self.level.is_integer() else self.level
        return f"{self.modality}-{self.kind}-{level}{KINDS[self.modality][self.kind].unit}"

    @property
    def text(self) -> str:
        """With the seed, as `parse` reads it and requests carry it: "audio:gaussian:10:0"."""
        level = int(self.level) if self.level.is_integer() else self.level
        return f"{self.modality}:{self.kind}:{level}:{self.seed}"

    @property
    def domain(self) -> str:
        """Where the damage is done, in words that a result can carry."""
        return KINDS[self.modality][self.kind].domain


def parse(text: str, seed: int = 0) -> Corruption:
    """The corruption that "audio:gaussian:10" or a name such as "audio-gaussian-10dB" stands for.

    A fourth part, "audio:gaussian:10:3", is the seed, whatever the argument says. Raises UnknownName for a
    modality or kind that does not exist, UsageError for a level or a seed that is none.
    """
    modality, name, rest = (re.split("[:-]", text.strip().casefold(), maxsplit=2) + ["", ""])[:3]
    kind = _kind(modality, name)
    level, colon, own_seed = rest.partition(":")
    if colon:
        seed = _seed(text, own_seed)
    if name == "missing" and not level:
        return Corruption(modality, name, seed=seed)
    try:
        value = float(level.removesuffix(kind.unit.casefold()))
    except ValueError as e:
        raise UsageError(
            f"{text!r} has no level that is a number: write {modality}:{name}:LEVEL, the {kind.measure}"
        ) from e
    return Corruption(modality, name, value, seed)


def _seed(text: str, seed: str) -> int:
    try:
        return int(seed)
    except ValueError as e:
        raise UsageError(
            f"{text!r} ends in no seed: write a whole number, or leave out the last colon"
        ) from e


def _kind(modality: str, kind: str) -> Kind:
    if modality not in KINDS:
        raise UnknownName("modality to corrupt", modality, KINDS)
    if kind not in KINDS[modality]:
        raise UnknownName(f"corruption of {modality}", kind, KINDS[modality])
    return KINDS[modality][kind]

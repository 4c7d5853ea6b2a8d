"""What is done to media on purpose, as names that can be read back: corruptions with their noise, and swaps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml.core import files
from birdmml.errors import EvalsetError, MediaError, UnknownName, UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# -200 dB of full scale. Of anything weaker float32 would not hold the noise to the level that was asked for.
SILENT_POWER = 1e-20
PAIRED_KINDS = ("audio", "image")
_SWEEPS = 5
_TEXT = re.compile(rf"swap:({'|'.join(PAIRED_KINDS)}):(\d{{1,9}})")


@dataclass(frozen=True)
class Kind:
    """What a level means for one kind of corruption, its range, and where the damage is done."""

    measure: str
    low: float
    high: float
    unit: str
    domain: str
    stepped: bool = False  # Whether levels are integers.


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
            "sigma in px of a picture of 224 px", 0.1, 112.0, "px", "pixels in [0, 1]: Gaussian blur, edges mirrored"
        ),
        "jpeg": Kind("JPEG quality", 1.0, 94.0, "", "8-bit pixels: stored as JPEG with 4:2:0 chroma", stepped=True),
        "occlusion": Kind(
            "share of the area", 0.001, 1.0, "", "pixels in [0, 1]: one rectangle of mid-grey (128/255), seeded place"
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
        fits = kind.low <= self.level <= kind.high and not (kind.stepped and self.level % 1)
        if not fits:
            what = "a whole number" if kind.stepped else "a number"
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
        try:
            seed = int(own_seed)
        except ValueError as e:
            raise UsageError(f"{text!r} ends in no seed: write a whole number, or leave out the last colon") from e
    if name == "missing" and not level:
        return Corruption(modality, name, seed=seed)
    try:
        value = float(level.removesuffix(kind.unit.casefold()))
    except ValueError as e:
        raise UsageError(
            f"{text!r} has no level that is a number: write {modality}:{name}:LEVEL, the {kind.measure}"
        ) from e
    return Corruption(modality, name, value, seed)


def _kind(modality: str, kind: str) -> Kind:
    if modality not in KINDS:
        raise UnknownName("modality to corrupt", modality, KINDS)
    if kind not in KINDS[modality]:
        raise UnknownName(f"corruption of {modality}", kind, KINDS[modality])
    return KINDS[modality][kind]


def generator(corruption: Corruption, item_id: str) -> np.random.Generator:
    """A generator for one item, from a SHA-256 of modality, kind, seed and item.

    The level is not in it: at another level the same noise is scaled, which makes comparisons paired. Nor is the
    order or the batch. Equal streams hold for one version of numpy, which may change its distributions (NEP 19).
    """
    key = [corruption.modality, corruption.kind, corruption.seed, item_id]
    return np.random.default_rng(int(files.digest(key), 16))


def scaled(signal: Floats, noise: Floats, snr: float, item_id: str) -> Floats:
    """`noise` times the one factor that puts `signal` (of the same shape) at `snr` dB above it.

    SNR = 10 log10(P_signal / P_noise) in dB, P the mean of squares of one item, in float64. A mean (the brightness of
    a picture) is part of the signal: nothing is taken out of either before measuring.
    Raises MediaError where signal or noise is silent, for then there is no such factor.
    """
    wanted = _power(signal, f"item {item_id!r}") / 10.0 ** (snr / 10.0)
    return noise * math.sqrt(wanted / _power(noise, f"the noise for item {item_id!r}"))


def snr_db(clean: NDArray[np.generic], noisy: NDArray[np.generic]) -> float:
    """SNR in dB of `noisy` against `clean`, of one shape and in one unit; infinite if they are equal.

    Raises MediaError if `clean` is silent.
    """
    if clean.shape != noisy.shape:
        raise ValueError(f"clean {clean.shape} and noisy {noisy.shape} differ in shape")
    signal = clean.astype(np.float64)
    noise = float(np.mean(np.square(noisy.astype(np.float64) - signal)))
    return 10.0 * math.log10(_power(signal, "the clean item") / noise) if noise else math.inf


def check_target(corruption: Corruption, modality: str) -> None:
    """Raise UsageError for a corruption of the other modality, and for one that takes the modality away."""
    if corruption.modality != modality:
        raise UsageError(f"{corruption.name} is nothing that can be done to {modality}: choose {modality}:...")
    if corruption.kind == "missing":
        raise UsageError(f"{corruption.name} leaves no {modality} to change: embed the item without it")


def _power(values: Floats, what: str) -> float:
    power = float(np.mean(np.square(values))) if values.size else 0.0
    if power > SILENT_POWER:
        return power
    detail = f"{what} is silent or black ({power:.1e} mean square), so that no SNR exists: "
    raise MediaError("no_signal", detail + "leave the item out and count it")


class Partners:
    """For each of N items another one, of another label, whose song is mixed in; all of them equally likely.

    Chosen by a SHA-256 of seed and item: the same whatever the order or the batch.
    """

    def __init__(self, ids: Sequence[str], labels: Sequence[int], seed: int) -> None:
        if len(set(labels)) < 2:
            raise UsageError(
                f"{len(ids)} items of {len(set(labels))} species: a song to mix in must be of another species; "
                "choose another kind of corruption, or a split with two species"
            )
        self.seed = seed
        # By label and id: a species is one block, which is stepped over, and the order given plays no part.
        self._order = sorted(range(len(ids)), key=lambda i: (labels[i], ids[i]))
        self._label = dict(zip(ids, labels, strict=True))
        self._blocks: dict[int, tuple[int, int]] = {}
        for place, i in enumerate(self._order):
            start, _ = self._blocks.get(labels[i], (place, place))
            self._blocks[labels[i]] = (start, place + 1)

    def of(self, item_id: str, attempt: int = 0) -> int:
        """The number, in the order given, of the item's partner; another draw for each `attempt`."""
        start, stop = self._blocks[self._label[item_id]]
        others = len(self._order) - (stop - start)
        drawn = int(files.digest(["partner", self.seed, item_id, attempt]), 16) % others
        return self._order[drawn if drawn < start else drawn + stop - start]


@dataclass(frozen=True)
class Swap:
    """Every item with the `kind` ("audio", "image") of another one; written "swap:audio:3"."""

    kind: str
    seed: int

    def __str__(self) -> str:
        return f"swap:{self.kind}:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Swap:
        """The swap that a `Request.pairing` names; raises UsageError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise UsageError(f"pairing {text!r} is none: write swap:KIND:SEED, KIND one of {', '.join(PAIRED_KINDS)}")
        return cls(match[1], int(match[2]))


def lenders(labels: Ints, among: Ints, seed: int) -> Ints:
    """[N] -> [N]: whose medium each item gets; those not `among` [K] keep their own.

    Within `among` it is a permutation without an item that stays in its class. Raises EvalsetError where one class
    has more than half of the items, for then there is none.
    """
    lender = np.arange(len(labels), dtype=np.int64)
    lender[among] = among[_deranged(labels[among], np.random.default_rng(seed))]
    return lender


def _deranged(labels: Ints, rng: np.random.Generator) -> Ints:
    """A start that is right, then exchanges that keep it right, so that any such permutation can come out."""
    n = len(labels)
    most = int(np.unique(labels, return_counts=True)[1].max(initial=0))
    if n < 2 or 2 * most > n:
        raise EvalsetError(
            f"{most} of {n} items are of one class: they cannot all be given another class's picture or sound; "
            "leave swapping out with --set competition.draws=0"
        )
    mixed = rng.permutation(n)
    order = mixed[np.argsort(labels[mixed], kind="stable")]
    start = np.empty(n, dtype=np.int64)
    # Sorted by class, the item `most` places before is of another one: no class is longer, and two such fit.
    start[order] = np.roll(order, most)
    places, own = start.tolist(), labels.tolist()
    for drawn in rng.integers(0, n, (_SWEEPS * n, 3)).tolist():
        # Two alone would never leave a ring of three classes, each lending to the next.
        for ring in (drawn[:2], drawn):
            shifted = [places[i] for i in (*ring[1:], ring[0])]
            fits = all(own[i] != own[lender] for i, lender in zip(ring, shifted, strict=True))
            if fits and len(set(ring)) == len(ring):
                for i, lender in zip(ring, shifted, strict=True):
                    places[i] = lender
    return np.asarray(places, dtype=np.int64)

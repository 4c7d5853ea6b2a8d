"""The values that stages hand each other: frozen, small, standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from birdmml.core.licenses import UNKNOWN_LICENSE

if TYPE_CHECKING:
    from birdmml.core.species import Species


Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MODALITIES = ("image", "audio", "text")

RATE_HZ = 22_050
DATASET_SCHEMA_VERSION = 1
RESULT_SCHEMA_VERSION = 1
# Figures that are plain numbers; all others are shares, shown in percent.
PLAIN_METRICS = ("median rank", "effective rank")
# What tables and pictures show first of a suite; of all others, "accuracy".
HEADLINE = {
    "retrieval": ("recall@10",),
    "affect": ("recall@10", "accuracy"),
    "competition": ("accuracy", "swap drop", "removal drop", "Shapley value", "fused gain"),
}
BY_SPECIES, BY_SPECIES_METRIC = " by species", "mAP"


def shown(metric: str, value: float, unit: str = "") -> str:
    """A figure's value in words: percent with one decimal (and `unit`, " %"), or the plain number."""
    return f"{value:.1f}" if metric in PLAIN_METRICS else f"{100 * value:.1f}{unit}"


@dataclass(frozen=True)
class Card:
    """Where a source, evaluation set, method or suite comes from; every plug-in file carries one as CARD."""

    summary: str
    license: str
    citation: str
    url: str
    modalities: tuple[str, ...] = MODALITIES


@dataclass(frozen=True)
class Credit:
    """Whose work one medium is. `license` is an SPDX id or "unknown"; `license_original` is what was found."""

    license: str = UNKNOWN_LICENSE
    license_original: str = ""
    author: str = ""
    url: str = ""


@dataclass(frozen=True)
class Caption:
    """A text about one bird. `origin` says how it came to be: provided, template, hf, demo."""

    text: str
    origin: str
    credit: Credit = Credit()


@dataclass(frozen=True)
class Article:
    """What an encyclopaedia says of a species, in the revision named; a caption made of it is under its licence.

    `title` is the canonical one, `url` the page's and `history_url` its authors' list.
    """

    species: str
    text: str
    title: str
    url: str
    revision: str
    history_url: str
    license: str = "CC-BY-SA-4.0"


@dataclass(frozen=True)
class Photo:
    """One photo that a source offers.

    `observation` groups photos that must stay in one split. `pair` (if any) binds the photo to the
    recording with the same key, whatever the split. `partner` is the id of the recording that the source
    shows it with: they stay together where the split allows. With neither, photos and clips of a species
    are paired by rule. `row` is the place in the source's own order (-1: it has none), `split` the source's
    own split, `metadata` what else the source says, as JSON. `locator` is what the source's `open_media`
    needs to find the bytes, `sha256` (hex, if known) what they must hash to.
    """

    id: str
    species: str
    locator: str
    observation: str
    credit: Credit = Credit()
    caption: Caption | None = None
    pair: str | None = None
    partner: str | None = None
    row: int = -1
    split: str = ""
    metadata: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Recording:
    """One recording that a source offers; cut into clips unless `start_s` names the one clip wanted.

    `sha256` (hex, if known) is what the file's bytes must hash to.
    """

    id: str
    species: str
    locator: str
    recording: str
    credit: Credit = Credit()
    caption: Caption | None = None
    pair: str | None = None
    start_s: float | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Reject:
    """Something that did not enter the dataset, with the file and the reason.

    `absent` marks what was never there to be decoded (a file that the archive lacks, a row without a half):
    it is listed and counted by itself, and not a reject of a medium.
    """

    path: str
    reason: str
    detail: str
    absent: bool = False
    species: str = ""


@dataclass(frozen=True)
class Delivery:
    """What a source hands over: a record and, where the source has them at hand, its bytes.

    Without `data` the worker asks the source's `open_media`. Sources that can be told how far their deliveries
    are safe on disk number them with `seq`, ascending.
    """

    record: Photo | Recording | Reject
    data: bytes | None = None
    seq: int = 0


@dataclass(frozen=True)
class Medium:
    """One photo or clip that was decoded, checked and encoded; its bytes wait in a staging file.

    kind is "image" or "audio". `group` is the observation or recording, `record` the id of the source's record
    (a recording may give several clips). Sizes are in px, times in s,
    `rms_dbfs` in dB relative to full scale, `clipped_share` in [0, 1].
    """

    kind: str
    id: str
    species: str
    group: str
    source_path: str
    path: str
    sha256: str
    chunk: int
    offset: int
    length: int
    credit: Credit
    caption: Caption | None = None
    record: str = ""
    pair: str | None = None
    partner: str | None = None
    row: int = -1
    split: str = ""
    metadata: str = ""
    width: int = 0
    height: int = 0
    phash: str = ""
    reencoded: bool = False
    start_s: float = 0.0
    valid_seconds: float = 0.0
    rms_dbfs: float = 0.0
    clipped_share: float = 0.0


@dataclass(frozen=True)
class Triplet:
    """One row to be: a photo and a clip of one species on one side of the split, and a caption."""

    id: str
    split: Split
    species: str
    image: Medium
    audio: Medium
    caption: Caption
    image_recovered: bool = False
    audio_recovered: bool = False


@dataclass(frozen=True)
class Uncaptioned:
    """A photo that no caption came with. `place` is its number, `read` gives its encoded bytes."""

    place: int
    species: Species
    sha256: str
    read: Callable[[], bytes]
    article: Article | None = None


@dataclass(frozen=True)
class Written:
    """What a captioner made of one photo: `seen` from its pixels alone, `caption` in the end, or why none (`problem`).

    `article` is the one that went into it, `cut` whether it was longer than what is read of one.
    """

    place: int
    caption: Caption | None
    seen: str = ""
    problem: str = ""
    article: Article | None = None
    cut: bool = False


@dataclass(frozen=True)
class Figure:
    """One number of a result, with what is needed to judge it. Values are shares in [0, 1] unless `unit` says so.

    `per_seed` has one value a seed; `value` is their mean, `sd` their sample standard deviation
    (None with one seed), `low`/`high` a bootstrap 95 % interval over items. `ceiling` is the best
    possible value where it is known (the demo).
    """

    suite: str
    evalset: str
    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    chance: float
    ceiling: float | None = None
    per_seed: tuple[float, ...] = ()
    sd: float | None = None
    note: str = ""
    predictions: str = ""


@dataclass(frozen=True)
class Result:
    """One method scored on one dataset: the figures and everything that says how they came to be.

    `models` has {"seed", "weights_sha256"} of each model that was scored, and "loss_by_epoch" of one trained here.
    """

    schema_version: int
    demo: bool
    method: str
    preset: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    dataset: Mapping[str, Any]
    provenance: Mapping[str, Any]
    figures: tuple[Figure, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    models: tuple[Mapping[str, Any], ...] = ()


def headline(figures: Sequence[Figure]) -> list[Figure]:
    """The figures that count first, in their order; all of a suite that has none of those."""
    first = {f.suite for f in figures if _is_headline(f)}
    return [f for f in figures if _is_headline(f) or f.suite not in first]


def _is_headline(figure: Figure) -> bool:
    if figure.task.endswith(BY_SPECIES):
        return figure.metric == BY_SPECIES_METRIC
    return figure.metric in HEADLINE.get(figure.suite, ("accuracy",))

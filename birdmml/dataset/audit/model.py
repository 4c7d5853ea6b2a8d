"""What an audit says, as one tree of frozen values; the page and the JSON are two views of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1
RED, AMBER = "red", "amber"
EXAMPLES = 10
# The published dataset, as its paper counts it (arXiv:2511.21331).
PAPER = {"rows": 149_681, "species": 150}


@dataclass(frozen=True)
class Finding:
    """One thing found: a stable slug, "red" or "amber", what and how often, up to EXAMPLES places, the next step."""

    slug: str
    severity: str
    words: str
    count: int
    where: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Skipped:
    """A check that could not run, and why."""

    check: str
    why: str


@dataclass(frozen=True)
class Count:
    """Rows, species and different media; None where no column tells."""

    rows: int
    species: int
    photos: int | None
    recordings: int | None
    clips: int | None


@dataclass(frozen=True)
class SpeciesLine:
    """One species: its counts, rows by split, rows with an unknown licence, rows lacking a part, probe recall.

    `probe` maps a modality to the share of its rows in the sample that were recognised.
    """

    name: str
    count: Count
    splits: Mapping[str, int]
    unknown_licenses: int
    missing: Mapping[str, int]
    probe: Mapping[str, float]


@dataclass(frozen=True)
class LicenseCount:
    """Rows of one part under one licence; `marks` are of unknown, NC, ND."""

    part: str
    license: str
    rows: int
    marks: tuple[str, ...]


@dataclass(frozen=True)
class CaptionLeak:
    """How far the `texts` of one column name their species; shares in [0, 1].

    `part`: by something else that gives it away (a genus, "Cooper's"); `any_name`: by any of the three; `repeated`:
    texts that other rows have, too, letter for letter.
    """

    column: str
    texts: int
    common: float
    scientific: float
    part: float
    any_name: float
    repeated: float


@dataclass(frozen=True)
class SplitLeak:
    """Groups of one kind in more than one split, their rows, and the shares of held-out rows that train reaches.

    A share is in [0, 1], None where the split has no rows.
    """

    key: str
    groups: int
    rows: int
    validation_share: float | None
    test_share: float | None


@dataclass(frozen=True)
class Overlap:
    """One evaluation set, and the rows whose photo is nearly one of its pictures."""

    evalset: str
    pictures: int
    rows: int
    identical: int


@dataclass(frozen=True)
class MediaAudit:
    """One kind of media as really decoded: rows by state, different files, and how often they are reused.

    `facts` holds what is typical of the kind (rates in Hz, lengths in s, sides in px) with its row counts.
    """

    kind: str
    rows: int
    files: int
    most_reused: int
    states: Mapping[str, int]
    facts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class ProbeResult:
    """A linear probe of one modality; shares in [0, 1]. `histogram`: shuffles by accuracy, in equal steps
    from `histogram_low` to `histogram_high`."""

    modality: str
    verdict: str
    why: str
    rows: int
    species: int
    groups: int
    grouped_by: str
    accuracy: float
    low: float
    high: float
    chance: float
    shuffled_mean: float
    shuffled_high: float
    p: float
    shuffles: int
    ceiling: float | None
    histogram: tuple[int, ...]
    histogram_low: float
    histogram_high: float


@dataclass(frozen=True)
class Audit:
    """A whole audit. `seed` and `sample` are those of the probes; `digest` is the manifest's, if there is one."""

    format: int
    birdmml: str
    name: str
    demo: bool
    digest: str | None
    manifest: str
    seed: int
    sample: int
    near_radius: int
    shards: int
    bytes: int
    columns: Mapping[str, str]
    verdict: str
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    count: Count
    paper: Mapping[str, int]
    splits: Mapping[str, Count]
    species: tuple[SpeciesLine, ...]
    licenses: tuple[LicenseCount, ...]
    caption_leaks: tuple[CaptionLeak, ...]
    split_leaks: tuple[SplitLeak, ...]
    overlaps: tuple[Overlap, ...]
    media: tuple[MediaAudit, ...]
    probes: tuple[ProbeResult, ...]

    @property
    def red(self) -> tuple[Finding, ...]:
        """The serious findings."""
        return tuple(f for f in self.findings if f.severity == RED)

    @property
    def amber(self) -> tuple[Finding, ...]:
        """The findings worth knowing."""
        return tuple(f for f in self.findings if f.severity == AMBER)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; floats keep six decimals, so that equal data give equal bytes."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {str(k): _rounded(value[k]) for k in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value

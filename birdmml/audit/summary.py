"""Counts: rows, species, media, licences, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml import licenses
from birdmml.audit.findings import of_rows
from birdmml.audit.groups import Codes
from birdmml.audit.media import Measured
from birdmml.audit.model import AMBER, Count, Finding, LicenseCount, Media, SpeciesLine
from birdmml.audit.probe import Outcome
from birdmml.audit.rows import Rows
from birdmml.audit.shards import SPLIT_ORDER
from birdmml.licenses import UNKNOWN_LICENSE

PARTS = ("image", "audio", "caption")
_MOST_FACTS = 8


def keys(rows: Rows, media: Mapping[str, Measured]) -> dict[str, Codes]:
    """Codes [N] of different photos, recordings and clips, as far as they can be told."""
    found = {
        name: media[kind].codes() for name, kind in (("photos", "image"), ("clips", "audio")) if kind in media
    }
    if rows.has("recording_id"):
        found["recordings"] = rows.codes("recording_id")
    return found


def count(rows: Rows, found: Mapping[str, Codes], members: NDArray[np.intp]) -> Count:
    """Counts over some rows, given by number."""

    def different(codes: Codes | None) -> int | None:
        if codes is None:
            return None
        values = np.unique(codes[members])
        return int((values >= 0).sum())

    return Count(
        len(members),
        different(rows.label) or 0,
        *(different(found.get(k)) for k in ("photos", "recordings", "clips")),
    )


def by_split(rows: Rows, found: Mapping[str, Codes]) -> dict[str, Count]:
    """Counts of each split that has shards, in their order."""
    there = {s.split for s in rows.shards}
    return {
        name: count(rows, found, np.flatnonzero(rows.split == number))
        for number, name in enumerate(SPLIT_ORDER)
        if name in there
    }


def by_species(
    rows: Rows,
    media: Mapping[str, Measured],
    found: Mapping[str, Codes],
    license_of: Mapping[str, NDArray[np.object_]],
    probed: Mapping[str, tuple[Codes, Outcome]],
) -> tuple[SpeciesLine, ...]:
    """One line a species; `probed` holds the sampled rows and the outcome of each modality's probe."""
    unknown = np.zeros(len(rows), dtype=bool)
    for values in license_of.values():
        unknown |= values == UNKNOWN_LICENSE
    missing = {kind: ~m.ok for kind, m in media.items()}
    if rows.has("caption"):
        missing["caption"] = rows.codes("caption") < 0
    recall = {modality: _recall(rows.label, at, out) for modality, (at, out) in probed.items()}
    lines = []
    for label, members in enumerate(_members(rows.label, len(rows.species))):
        sides = np.bincount(rows.split[members], minlength=len(SPLIT_ORDER))
        lines.append(
            SpeciesLine(
                rows.species[label],
                count(rows, found, members),
                {name: int(n) for name, n in zip(SPLIT_ORDER, sides, strict=True) if n},
                int(unknown[members].sum()),
                {kind: int(m[members].sum()) for kind, m in missing.items()},
                {modality: r[label] for modality, r in recall.items() if label in r},
            )
        )
    return tuple(lines)


def _members(labels: Codes, species: int) -> list[NDArray[np.intp]]:
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(species + 1))
    return [order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _recall(labels: Codes, at: Codes, outcome: Outcome) -> dict[int, float]:
    if not len(outcome.right):
        return {}
    mine = labels[at[outcome.used]]
    return {int(c): float(outcome.right[mine == c].mean()) for c in np.unique(mine)}


def license_columns(rows: Rows) -> dict[str, NDArray[np.object_]]:
    """Part -> SPDX id or "unknown" of each row [N], for the parts that have a licence column."""
    return {
        part: np.array([licenses.normalise(t) for t in rows.texts(f"{part}_license")], dtype=object)
        for part in PARTS
        if rows.has(f"{part}_license")
    }


def by_license(license_of: Mapping[str, NDArray[np.object_]]) -> tuple[LicenseCount, ...]:
    """Rows of each part under each licence, most first."""
    lines = []
    for part, values in license_of.items():
        for spdx, n in sorted(Counter(values.tolist()).items(), key=lambda kv: (-kv[1], kv[0])):
            terms = spdx.split("-")
            marks = ["unknown"] if spdx == UNKNOWN_LICENSE else [m for m in ("NC", "ND") if m in terms]
            lines.append(LicenseCount(part, spdx, n, tuple(marks)))
    return tuple(lines)


def license_findings(rows: Rows, license_of: Mapping[str, NDArray[np.object_]]) -> list[Finding]:
    """Unknown licences, and those that forbid changed copies."""
    found: list[Finding] = []
    for part, values in license_of.items():
        unknown = np.asarray(values == UNKNOWN_LICENSE, dtype=bool)
        words = f"{{n}} {{rows}} whose {part}'s licence is unknown"
        advice = "ask the authors before you pass these rows on"
        found += of_rows(rows, unknown, f"{part}_license_unknown", AMBER, words, advice)
        closed = np.array(["ND" in v.split("-") for v in values], dtype=bool)
        words = f"{{n}} {{rows}} whose {part}'s licence forbids derivatives (ND)"
        advice = (
            "a cut, resampled or scaled copy may be a derivative: leave these rows out of what you publish"
        )
        found += of_rows(rows, closed, f"{part}_license_nd", AMBER, words, advice)
    return found


def media_table(media: Mapping[str, Measured]) -> tuple[Media, ...]:
    """States, different files and typical sizes of each kind."""
    lines = []
    for kind, m in media.items():
        codes = m.codes()
        uses = np.bincount(codes[codes >= 0], minlength=1)
        states = dict(sorted(Counter(m.state.tolist()).items()))
        v = {name: values[m.ok] for name, values in m.values.items()}
        if kind == "image":
            # Sides in steps of an octave: 256 stands for 256 to 511.
            octave = np.log2(np.maximum(np.minimum(v["width"], v["height"]), 1)).astype(np.int64)
            facts = {"shorter side, px": 2**octave}
        else:
            seconds = np.round(v["frames"] / np.maximum(v["rate_hz"], 1), 1)
            facts = {"rate, Hz": v["rate_hz"], "length, s": seconds, "channels": v["channels"]}
        lines.append(
            Media(
                kind,
                len(codes),
                int((uses > 0).sum()),
                int(uses.max()),
                states,
                {name: _commonest(values, "side" in name) for name, values in facts.items()},
            )
        )
    return tuple(lines)


def _commonest(values: NDArray[Any], octaves: bool) -> dict[str, int]:
    counted = Counter(values.tolist())
    most = sorted(counted.items(), key=lambda kv: (-kv[1], kv[0]))[:_MOST_FACTS]
    shown = {f"{value} to {2 * value - 1}" if octaves else f"{value:g}": n for value, n in most}
    rest = sum(counted.values()) - sum(shown.values())
    return shown | ({"other": rest} if rest else {})


def sample(labels: Codes, size: int, seed: int) -> Codes:
    """Up to `size` rows, sorted, [S]: as many of each species as of the others, as far as they have them."""
    members = [m for m in _members(labels, int(labels.max(initial=-1)) + 1) if len(m)]
    cap = _cap([len(m) for m in members], size)
    rng = np.random.default_rng([seed, 3])
    taken = [np.sort(rng.permutation(m)[:cap]) for m in members]
    return np.sort(np.concatenate(taken)).astype(np.int64) if taken else np.zeros(0, dtype=np.int64)


def _cap(sizes: Sequence[int], total: int) -> int:
    """The largest number a species that keeps the sum of all within `total` (at least 1)."""
    low, high = 1, max(sizes, default=1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(s, middle) for s in sizes) <= total else (low, middle - 1)
    return low

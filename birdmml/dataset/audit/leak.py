"""What lies on both sides of a split, what is also in an evaluation set, and captions that name the bird."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml.core.species import Species, Taxonomy
from birdmml.dataset.audit.findings import of_rows, real_codes
from birdmml.dataset.audit.groups import Codes
from birdmml.dataset.audit.media import MediaFeatures
from birdmml.dataset.audit.model import AMBER, RED, CaptionLeak, Finding, Overlap, SplitLeak
from birdmml.dataset.audit.read import AuditRows
from birdmml.dataset.caption_probe import caption_leakage
from birdmml.dataset.leaks import Leak, evalset_hashes, split_leakage
from birdmml.dataset.names import BirdNames
from birdmml.media import near
from birdmml.schema import SPLITS

NEAR = "near-duplicate photos"
NAMED_SHARE = 0.01
# Groups that must not span splits, and what a finding calls their members.
_KEYS = {
    "observation_id": "photos of one observation",
    "recording_id": "clips of one recording",
    "image bytes": "the same photo, byte for byte",
    "audio bytes": "the same clip, byte for byte",
}
# Groups worth a line in the table, but no finding: few datasets keep them apart.
_LOOSE = {"image_author": "photos by one author", "audio_author": "clips by one author"}


def keys(rows: AuditRows, media: Mapping[str, MediaFeatures], radius: int) -> dict[str, Codes]:
    """What must stay together, as codes [N], -1 for nothing: only what this dataset can tell."""
    found = {part: rows.codes(part) for part in (*_KEYS, *_LOOSE) if not part.endswith("bytes") and rows.has(part)}
    for kind, measured in media.items():
        found[f"{kind} bytes"] = real_codes(kind, measured)
    if "image" in media and radius >= 0:
        found[NEAR] = look_alikes(media["image"], radius)
    return found


def look_alikes(images: MediaFeatures, radius: int) -> Codes:
    """Groups [N] of photos whose perceptual hashes differ in at most `radius` bits; -1 for flat or broken ones."""
    seen = np.flatnonzero(real_codes("image", images) >= 0)
    out = np.full(len(images.state), -1, dtype=np.int64)
    out[seen] = near.near_groups(images.values["phash"][seen], radius)
    return out


def of_splits(rows: AuditRows, found: Mapping[str, Codes]) -> tuple[tuple[SplitLeak, ...], list[Finding]]:
    """How much of the held-out splits is also in train, by each key."""
    named = rows.split < len(SPLITS)
    measured = split_leakage(rows.split[named], {key: codes[named] for key, codes in found.items()})
    leaks: list[SplitLeak] = []
    findings: list[Finding] = []
    for key, of in measured.items():
        what = (_KEYS | _LOOSE).get(key, key)
        leaks.append(SplitLeak(what, of.groups, of.rows, of.validation_share, of.test_share))
        if key in _LOOSE:
            continue
        slug = "split_leak_" + key.replace(" ", "_").replace("-", "_").removesuffix("_photos")
        groups = f"{of.groups:,} {'group' if of.groups == 1 else 'groups'}"
        words = f"{{n}} held-out {{rows}} leak: {what} on two sides of the split ({groups}{_shares(of)})"
        advice = "split by groups: `birdmml build --split grouped`; figures measured on this split are too good"
        severity = AMBER if key == NEAR else RED
        findings += of_rows(rows, _reached(rows.split, found[key]), slug, severity, words, advice)
    return tuple(leaks), findings


def _shares(of: Leak) -> str:
    sides = (("test", of.test_share), ("validation", of.validation_share))
    return "".join(f"; {100 * share:.1f} % of {name} rows" for name, share in sides if share)


def _reached(split: NDArray[np.int8], codes: Codes) -> NDArray[np.bool_]:
    """Rows [N] outside train of groups that lie in several splits; rows of no split count nowhere."""
    known = (codes >= 0) & (split < len(SPLITS))
    sides = np.zeros((int(codes.max(initial=0)) + 1, len(SPLITS)), dtype=np.bool_)
    sides[codes[known], split[known]] = True
    mask = np.zeros(len(split), dtype=np.bool_)
    mask[known] = (sides.sum(axis=1) > 1)[codes[known]] & (split[known] != 0)
    return mask


def of_evalsets(
    rows: AuditRows, images: MediaFeatures, evalsets: Sequence[Path], radius: int
) -> tuple[tuple[Overlap, ...], list[Finding]]:
    """Rows whose photo is, or nearly is, a picture of one of the evaluation sets; raises EvalsetError."""
    seen = np.flatnonzero(real_codes("image", images) >= 0)
    ours = images.values["phash"][seen]
    overlaps: list[Overlap] = []
    findings: list[Finding] = []
    for path in evalsets:
        theirs, words = evalset_hashes(path)
        masks = []
        for distance in (max(radius, 0), 0):
            mask = np.zeros(len(rows), dtype=bool)
            mask[seen[np.unique(near.near_between(ours, np.unique(theirs), distance)[:, 0])]] = True
            masks.append(mask)
        overlaps.append(Overlap(path.name, len(theirs), int(masks[0].sum()), int(masks[1].sum())))
        text = f"{{n}} {{rows}} whose photo is (nearly) a picture of the evaluation set {path.name} ({words})"
        advice = "leave these rows out of training: `birdmml build --evalset`"
        findings += of_rows(rows, masks[0], "evalset_overlap", RED, text, advice)
    return tuple(overlaps), findings


def of_captions(rows: AuditRows, known: Taxonomy) -> tuple[tuple[CaptionLeak, ...], list[Finding]]:
    """How often captions name their species, for the captions as they are and for those without names.

    `known` is the dataset's own table, if it has one. What else their words tell is the business of the text probe.
    """
    leaks: list[CaptionLeak] = []
    findings: list[Finding] = []
    species = {label: _species(name, known) for label, name in enumerate(rows.species)}
    for column in ("caption", "caption_name_free"):
        use = np.flatnonzero((rows.label >= 0) & (rows.codes(column) >= 0))
        if not len(use):
            continue
        texts = rows.table.column(column).take(use).to_pylist()
        figures = caption_leakage(texts, rows.label[use], use, species, max_rows=0)
        shares = [figures[kind] or 0.0 for kind in ("common", "scientific", "part", "any", "repeated")]
        leaks.append(CaptionLeak(column, len(use), *shares))
        findings += _naming(leaks[-1])
    return tuple(leaks), findings


def _naming(leak: CaptionLeak) -> Iterator[Finding]:
    if leak.any_name > NAMED_SHARE:
        words = (
            f"{100 * leak.any_name:.1f} % of the texts in {leak.column} name their species: "
            f"{100 * leak.common:.1f} % by its English name, {100 * leak.scientific:.1f} % by its scientific name"
        )
        if leak.column == "caption":
            advice = "the label stands in the text: train and score text on `caption_name_free`, or say so"
        else:
            advice = "these texts should name no species: build the column again"
        count = round(leak.any_name * leak.texts)
        yield Finding(f"{leak.column}_names_species", AMBER, words, count, (), advice)


def _species(name: str, known: Taxonomy) -> Species | BirdNames:
    """By the table, or by its bare name where that does not know it."""
    if not any(c.isalpha() for c in name):
        return BirdNames(())  # The number of a label is no name.
    return known.find(name) or BirdNames((name,), (name,))

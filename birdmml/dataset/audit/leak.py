"""What lies on both sides of a split, what is also in an evaluation set, and captions that name the bird."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from birdmml.core.species import Taxonomy
from birdmml.dataset.audit.findings import of_rows, real_codes
from birdmml.dataset.audit.groups import Codes
from birdmml.dataset.audit.media import MediaFeatures
from birdmml.dataset.audit.model import AMBER, RED, CaptionLeak, Finding, Overlap, SplitLeak
from birdmml.dataset.audit.read import AuditRows
from birdmml.dataset.caption_probe import caption_leakage
from birdmml.dataset.leaks import TRAIN, evalset_hashes, in_several_splits, split_leakage
from birdmml.dataset.names import BirdNames
from birdmml.media import near
from birdmml.schema import SPLITS

NEAR = "near-duplicate photos"
NAMED_SHARE = 0.01
_NAMED_ADVICE = {
    "caption": "the label stands in the text: train and score text on `caption_name_free`, or say so",
    "caption_name_free": "these texts should name no species: build the column again",
}
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
    codes = {part: rows.codes(part) for part in (*_KEYS, *_LOOSE) if not part.endswith("bytes") and rows.has(part)}
    for kind, measured in media.items():
        codes[f"{kind} bytes"] = real_codes(kind, measured)
    if "image" in media and radius >= 0:
        # A flat or broken photo looks like every other such photo: those are left out.
        seen = np.flatnonzero(codes["image bytes"] >= 0)
        codes[NEAR] = np.full(len(rows), -1, dtype=np.int64)
        codes[NEAR][seen] = near.near_groups(media["image"].values["phash"][seen], radius)
    return codes


def of_splits(rows: AuditRows, keys: Mapping[str, Codes]) -> tuple[tuple[SplitLeak, ...], list[Finding]]:
    """How much of the held-out splits is also in train, by each key."""
    named = rows.split < len(SPLITS)
    measured = split_leakage(rows.split[named], {key: codes[named] for key, codes in keys.items()})
    leaks: list[SplitLeak] = []
    findings: list[Finding] = []
    for key, of in measured.items():
        what = (_KEYS | _LOOSE).get(key, key)
        leaks.append(SplitLeak(what, of.groups, of.rows, of.validation_share, of.test_share))
        if key in _LOOSE:
            continue
        slug = "split_leak_" + key.replace(" ", "_").replace("-", "_").removesuffix("_photos")
        groups = f"{of.groups:,} {'group' if of.groups == 1 else 'groups'}"
        sides = (("test", of.test_share), ("validation", of.validation_share))
        shares = "".join(f"; {100 * share:.1f} % of {name} rows" for name, share in sides if share)
        words = f"{{n}} held-out {{rows}} leak: {what} on two sides of the split ({groups}{shares})"
        advice = "split by groups: `birdmml build --split grouped`; figures measured on this split are too good"
        severity = AMBER if key == NEAR else RED
        mask = np.zeros(len(rows), dtype=np.bool_)
        mask[named] = in_several_splits(rows.split[named], keys[key][named]) & (rows.split[named] != TRAIN)
        findings += of_rows(rows, mask, slug, severity, words, advice)
    return tuple(leaks), findings


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


def of_captions(rows: AuditRows, taxonomy: Taxonomy) -> tuple[tuple[CaptionLeak, ...], list[Finding]]:
    """How often captions name their species, for the captions as they are and for those without names.

    `taxonomy` is the dataset's own table, if it has one. What else their words tell is the business of the text probe.
    """
    leaks: list[CaptionLeak] = []
    findings: list[Finding] = []
    # By the table, or by the bare name where that does not know it; the number of a label is no name.
    species = {
        label: taxonomy.find(name) or BirdNames((name,), (name,)) if any(map(str.isalpha, name)) else BirdNames(())
        for label, name in enumerate(rows.species)
    }
    for column in _NAMED_ADVICE:
        use = np.flatnonzero((rows.label >= 0) & (rows.codes(column) >= 0))
        if not len(use):
            continue
        texts = rows.table.column(column).take(use).to_pylist()
        figures = caption_leakage(texts, rows.label[use], use, species, max_rows=0)
        shares = [figures[kind] or 0.0 for kind in ("common", "scientific", "part", "any", "repeated")]
        leak = CaptionLeak(column, len(use), *shares)
        leaks.append(leak)
        if leak.any_name > NAMED_SHARE:
            words = (
                f"{100 * leak.any_name:.1f} % of the texts in {column} name their species: "
                f"{100 * leak.common:.1f} % by its English name, {100 * leak.scientific:.1f} % by its scientific name"
            )
            count = round(leak.any_name * leak.texts)
            findings.append(Finding(f"{column}_names_species", AMBER, words, count, (), _NAMED_ADVICE[column]))
    return tuple(leaks), findings

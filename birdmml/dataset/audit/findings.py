"""What the rows and their media have wrong with them, each as a Finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.dataset.audit.groups import Codes
from birdmml.dataset.audit.media import NO_BYTES, NO_COLUMN, OK, QUIET_PEAK, UNREAD, MediaFeatures
from birdmml.dataset.audit.model import AMBER, EXAMPLES, RED, Finding, ProbeResult
from birdmml.dataset.audit.probe import ALPHA, AT_CHANCE, CANNOT_TELL
from birdmml.dataset.audit.read import AuditRows, ManifestState, Unreadable

Mask = NDArray[np.bool_]

# From this share of the rows on, a defect that a few rows may have is serious.
SERIOUS_SHARE = 0.001
REUSED_SHARE = 0.05
CLIPPED_SHARE = 0.01
PADDING_SHARE = 0.5
TINY_SIDE = 32
WORDS = {"image": ("photo", "photos"), "audio": ("clip", "clips")}


def of_rows(rows: AuditRows, mask: Mask, slug: str, severity: str, words: str, advice: str) -> Iterator[Finding]:
    """A finding about the rows [N] in `mask`, if there are any; `{n}` in `words` is their number."""
    where = np.flatnonzero(mask)
    if len(where):
        examples = tuple(rows.name(int(r)) for r in where[:EXAMPLES])
        text = words.replace("{n}", f"{len(where):,}").replace("{rows}", "row" if len(where) == 1 else "rows")
        yield Finding(slug, severity, text, len(where), examples, advice)


def _weight(mask: Mask) -> str:
    return RED if mask.any() and mask.mean() >= SERIOUS_SHARE else AMBER


def unreadable(shards: Sequence[Unreadable], rows: AuditRows) -> Iterator[Finding]:
    """Files that are no Parquet, and row groups that cannot be read: their rows are not in this audit."""
    lost = "damaged, and its rows are not in this audit"
    for slug, noun, what, parts in (
        ("shard_unreadable", "file", "no readable Parquet", shards),
        ("row_group_damaged", "row group", lost, rows.damaged),
    ):
        if parts:
            words = f"{len(parts)} {noun}{' is' if len(parts) == 1 else 's are'} {what}: {parts[0].why}"
            where = tuple(f"{b.where}: {b.why}" for b in parts[:EXAMPLES])
            yield Finding(slug, RED, words, len(parts), where, "get these files again, or build the dataset again")


def labels(rows: AuditRows) -> Iterator[Finding]:
    """Rows without a species or a caption, labels that contradict the species, ids that occur twice."""
    if rows.has("label") or rows.has("species"):
        advice = "give them a species or leave them out"
        bare = rows.label < 0
        yield from of_rows(rows, bare, "label_missing", RED, "{n} {rows} without a species", advice)
    if rows.has("label") and rows.has("species"):
        mask = _contradicting(rows.codes("label"), rows.codes("species"))
        words = "{n} {rows} whose label and species name contradict those of other rows"
        advice = "one of the two columns was changed or shuffled: build the dataset again"
        yield from of_rows(rows, mask, "label_conflict", RED, words, advice)
    ids = rows.codes("id")
    again = (ids >= 0) & (np.bincount(ids[ids >= 0], minlength=1)[np.maximum(ids, 0)] > 1) if len(ids) else ids < 0
    words = "{n} {rows} share their id with another row"
    yield from of_rows(rows, again, "duplicate_id", AMBER, words, "number the rows anew")
    if rows.has("caption"):
        empty = rows.codes("caption") < 0
        advice = "write captions for them, or leave the rows out"
        yield from of_rows(rows, empty, "caption_missing", _weight(empty), "{n} {rows} without a caption", advice)


def _contradicting(a: Codes, b: Codes) -> Mask:
    """Rows [N] whose pair (a, b) is not the commonest of its a, or of its b, whichever are fewer.

    Where one of the two names the other without exception (a family beside a species), there are none.
    """
    both = (a >= 0) & (b >= 0)
    masks = []
    for one, other in ((a, b), (b, a)):
        pairs, back, count = np.unique(np.stack([one, other], axis=1), axis=0, return_inverse=True, return_counts=True)
        best = np.zeros(len(pairs), dtype=np.bool_)
        order = np.lexsort((-count, pairs[:, 0]))
        best[order[np.unique(pairs[order, 0], return_index=True)[1]]] = True
        masks.append(both & ~best[back.reshape(-1)])
    return min(masks, key=lambda mask: int(mask.sum()))


def splits(rows: AuditRows) -> Iterator[Finding]:
    """Shards without rows, and shards whose columns are not those of the others."""
    columns = {s.name: tuple(sorted(s.columns.items())) for s in rows.shards}
    common = Counter(columns.values()).most_common(1)[0][0]
    empty = [s.name for s in rows.shards if not sum(s.group_rows)]
    other = [name for name, of in columns.items() if of != common]
    advice = "write all shards with one schema: `datasets` refuses to read them together"
    for slug, names, words, step in (
        ("empty_split", empty, "no rows", "leave empty splits out"),
        ("schema_differs", other, "other columns than the rest", advice),
    ):
        if names:
            have = "shard has" if len(names) == 1 else "shards have"
            yield Finding(slug, AMBER, f"{len(names)} {have} {words}", len(names), tuple(names[:EXAMPLES]), step)


def media(rows: AuditRows, kind: str, measured: MediaFeatures, manifest: ManifestState) -> Iterator[Finding]:
    """All that one kind of media has wrong with it."""
    yield from _states(rows, kind, measured)
    yield from _hashes(rows, kind, measured)
    yield from _images(rows, measured) if kind == "image" else _sounds(rows, measured, manifest)
    yield from _reuse(rows, kind, measured)


def _states(rows: AuditRows, kind: str, measured: MediaFeatures) -> Iterator[Finding]:
    """Media that are not there or cannot be decoded."""
    one = WORDS[kind][0]
    state = measured.state
    missing = np.isin(state, (NO_BYTES, NO_COLUMN))
    words = f"{{n}} {{rows}} without the bytes of a {one}"
    advice = "fetch the media and embed them, or leave the rows out; never stand in zeros or black"
    yield from of_rows(rows, missing, f"{kind}_missing", _weight(missing), words, advice)
    damaged = state == UNREAD
    words = f"{{n}} {{rows}} whose {one} lies in a damaged part of its shard"
    yield from of_rows(rows, damaged, f"{kind}_unreadable", RED, words, "get these shards again")
    broken = ~missing & ~damaged & (state != OK)
    reasons = Counter(state[broken].tolist()).most_common()
    why = ", ".join(f"{r} {n:,}" for r, n in sorted(reasons, key=lambda x: (-x[1], x[0])))
    words = f"{{n}} {{rows}} whose {one} cannot be decoded: {why}"
    advice = "get these files again or leave the rows out; never replace them in silence"
    yield from of_rows(rows, broken, f"{kind}_undecodable", _weight(broken), words, advice)


def _images(rows: AuditRows, measured: MediaFeatures) -> Iterator[Finding]:
    """Photos that show nothing."""
    ok, v = measured.ok, measured.values
    advice = "look at them: placeholders and failed downloads show nothing of a bird; leave them out"
    for slug, mask, what in (
        ("image_black", ok & v["black"], "a black photo"),
        ("image_constant", ok & v["flat"] & ~v["black"], "a photo of one flat colour"),
    ):
        yield from of_rows(rows, mask, slug, _weight(mask), f"{{n}} {{rows}} with {what}", advice)
    tiny = ok & (np.minimum(v["width"], v["height"]) < TINY_SIDE)
    words = f"{{n}} {{rows}} with a photo under {TINY_SIDE} px a side"
    yield from of_rows(rows, tiny, "image_tiny", AMBER, words, "look for larger originals")


def _sounds(rows: AuditRows, measured: MediaFeatures, manifest: ManifestState) -> Iterator[Finding]:
    """Clips that hold no sound or too little, are clipped, or differ from the others in rate or length."""
    ok, v = measured.ok, measured.values
    constant = ok & v["constant"]
    # A constant clip is silent and all padding, too: it is one fault, reported once.
    live = ok & ~v["constant"]
    quiet = live & (v["peak"] < QUIET_PEAK)
    advice = "look for audio that failed to decode and was replaced by zeros; build these rows again from the source"
    words = "{n} {rows} with a clip without any sound (all samples equal)"
    yield from of_rows(rows, constant, "audio_constant", _weight(constant), words, advice)
    words = "{n} {rows} with a clip nobody can hear (peak under −72 dB of full scale)"
    yield from of_rows(rows, quiet, "audio_silent", _weight(quiet), words, advice)
    words = f"{{n}} {{rows}} with over {100 * CLIPPED_SHARE:.0f} % of the samples at full scale"
    advice = "the recording was overdriven: train with care"
    yield from of_rows(rows, live & (v["clipped"] > CLIPPED_SHARE), "audio_clipped", AMBER, words, advice)
    words = f"{{n}} {{rows}} whose clip is padding for over {100 * PADDING_SHARE:.0f} % of its length"
    advice = "mask the padding, or use shorter clips"
    yield from of_rows(rows, live & (v["padding"] > PADDING_SHARE), "audio_padding", AMBER, words, advice)
    if not ok.any():
        return
    # Rate and length are held against the manifest, or, without one, against most clips.
    promised = rows.shards[0].rate_hz if manifest.rate_hz is None else manifest.rate_hz
    rate = promised or _most(v["rate_hz"][ok])
    whose = "that of most clips" if promised is None else "the one declared"
    wrong = ok & (v["rate_hz"] != rate)
    words = f"{{n}} {{rows}} whose sampling rate is not {whose} ({rate:,} Hz)"
    yield from of_rows(rows, wrong, "audio_rate", AMBER, words, "resample them: played as they are, pitch is wrong")
    milliseconds = np.rint(1000 * v["frames"] / np.maximum(v["rate_hz"], 1)).astype(np.int64)
    usual = round(1000 * manifest.clip_s) if manifest.clip_s else _most(milliseconds[ok])
    wrong = ok & (np.abs(milliseconds - usual) > 1)
    whose = "the one declared" if manifest.clip_s else "that of most clips"
    words = f"{{n}} {{rows}} whose clip's length is not {whose} ({usual / 1000:g} s)"
    yield from of_rows(rows, wrong, "audio_length", AMBER, words, "cut or pad them to one length before training")


def _most(values: NDArray[Any]) -> int:
    distinct, count = np.unique(values, return_counts=True)
    return int(distinct[count.argmax()])


def _hashes(rows: AuditRows, kind: str, measured: MediaFeatures) -> Iterator[Finding]:
    """Media whose bytes are not those that the row's own hash column promises."""
    part = f"{kind}_sha256"
    if rows.has(part):
        promised = np.array(rows.texts(part), dtype=object)
        real = np.char.decode(measured.sha256, "ascii").astype(object)
        wrong = (measured.sha256 != b"") & (promised != "") & (promised != real)
        words = f"{{n}} {{rows}} whose {WORDS[kind][0]}'s bytes are not those of {part}"
        advice = "the media were replaced after the build: get the dataset again"
        yield from of_rows(rows, wrong, part, RED, words, advice)


def _reuse(rows: AuditRows, kind: str, measured: MediaFeatures) -> Iterator[Finding]:
    """One file in many rows: worth knowing; under several species: at most one of them is right.

    Media that show or say nothing are reported as such, not again as copies of each other.
    """
    one, many = WORDS[kind]
    real = real_codes(kind, measured)
    label = rows.label
    both = (real >= 0) & (label >= 0)
    pairs = np.unique(np.stack([real[both], label[both]], axis=1), axis=0)
    several = np.bincount(pairs[:, 0], minlength=1) > 1
    mask = both & several[np.where(both, real, 0)]
    files = int(several.sum())
    words = f"{{n}} {{rows}} whose {one} stands under several species ({files:,} {many if files > 1 else one})"
    advice = "at most one of these labels is right: look at the examples, then leave the others out"
    yield from of_rows(rows, mask, f"{kind}_several_species", RED, words, advice)
    count = np.bincount(real[real >= 0], minlength=1)
    again = (real >= 0) & (count[np.maximum(real, 0)] > 1)
    if again.any() and again.mean() > REUSED_SHARE:
        words = f"{{n}} {{rows}} share their {one} with another row (the same bytes, up to {count.max():,} times)"
        advice = f"rows are not independent: count {many}, not rows, and keep copies on one side of a split"
        yield from of_rows(rows, again, f"{kind}_reused", AMBER, words, advice)


def real_codes(kind: str, measured: MediaFeatures) -> Codes:
    """Equal numbers for equal bytes [N], -1 for media that are absent, broken or empty of content."""
    nothing = measured.values["flat" if kind == "image" else "constant"]
    return np.where(measured.ok & ~nothing, measured.codes(), -1)


def at_chance(probes: Sequence[ProbeResult]) -> Iterator[Finding]:
    """Modalities that say nothing about the species, and those of which it is not certain that they do."""
    for p in probes:
        doubtful = p.verdict == CANNOT_TELL and p.shuffles > 0 and p.p > ALPHA and p.low > p.shuffled_mean
        if p.verdict != AT_CHANCE and not doubtful:
            continue
        words = (
            f"{p.modality.replace('_', ' ')} is {'hardly above' if doubtful else 'at'} chance: a linear probe finds "
            f"{100 * p.accuracy:.1f} % [{100 * p.low:.1f}, {100 * p.high:.1f}] of {p.species} species, with shuffled "
            f"labels {100 * p.shuffled_mean:.1f} % (p = {p.p:.3f})"
        )
        slug = f"{p.modality}_{'near' if doubtful else 'at'}_chance"
        severity = AMBER if doubtful or p.modality == "caption_name_free" else RED
        yield Finding(slug, severity, words, p.rows, (), _ADVICE[p.modality.split("_")[0]])


_ADVICE = {
    "image": "look at photos of some species: are they the right ones, and are they different at all?",
    "audio": "listen to clips of some species: were they replaced by silence, or mixed up with other rows?",
    "text": "read captions of some species: do they belong to their rows?",
    "caption": "without names these captions say nothing of the species; that may be as intended",
}

"""index.html and audit.json of an audit. The page has no script and no picture, and asks nobody for anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from birdmml.core import files, licenses, text
from birdmml.core.licenses import UNKNOWN_LICENSE
from birdmml.core.text import printable
from birdmml.dataset import report
from birdmml.dataset.audit.findings import of_rows
from birdmml.dataset.audit.groups import Codes
from birdmml.dataset.audit.media import MediaFeatures
from birdmml.dataset.audit.model import AMBER, Audit, Count, Finding, LicenseCount, MediaAudit, ProbeResult, SpeciesLine
from birdmml.dataset.audit.probe import ProbeOutcome, ProbeTask
from birdmml.dataset.audit.read import SPLIT_ORDER, AuditRows

TEMPLATES = Path(__file__).with_name("templates")
MAX_SPECIES = 300
WIDTH, HEIGHT = 1000, 44


def write(audit: Audit, out: Path) -> Path:
    """Write `out`/index.html and `out`/audit.json; returns the page. Raises OSError as the file system does."""
    files.write_json(out / "audit.json", audit.to_json())
    files.write_text(out / "index.html", render(audit))
    return out / "index.html"


def render(audit: Audit) -> str:
    """The page as HTML: every figure is one of `audit`, every text of strangers is escaped."""
    css, policy = report.page_style(report.TEMPLATES / "report.css", TEMPLATES / "audit.css")
    return _template().render(
        a=audit,
        css=css,
        csp=policy,
        strips=[_strip(p) for p in audit.probes],
        max_species=MAX_SPECIES,
        modalities=[p.modality for p in audit.probes],
        parts=sorted({kind for line in audit.species for kind in line.missing}),
    )


def _strip(probe: ProbeResult) -> dict[str, object]:
    """Where the parts of one probe's picture lie: shares from 0 to `top`, drawn on 0 to WIDTH."""
    shown = (probe.high, probe.histogram_high, probe.ceiling or 0.0, 2 * probe.chance)
    top = min(1.0, 1.1 * max(*shown, 0.01))

    def at(share: float) -> float:
        return round(WIDTH * min(1.0, share / top), 2)

    bars = []
    if probe.histogram:
        step = (probe.histogram_high - probe.histogram_low) / len(probe.histogram)
        most = max(probe.histogram)
        bars = [
            (at(probe.histogram_low + k * step), max(1.0, at(step)), round(HEIGHT * n / most, 2))
            for k, n in enumerate(probe.histogram)
            if n
        ]
    return {
        "probe": probe,
        "top": top,
        "bars": bars,
        "shuffled": at(probe.shuffled_mean),
        "low": at(probe.low),
        "width": max(3.0, round(at(probe.high) - at(probe.low), 2)),
        "value": at(probe.accuracy),
        "ceiling": None if probe.ceiling is None else at(probe.ceiling),
    }


@cache
def _template() -> jinja2.Template:
    environment = text.templates(printable, TEMPLATES)
    environment.filters["human_bytes"] = files.human_bytes
    environment.filters["signed"] = lambda n: f"{n:+,}".replace("-", "−")
    environment.filters["sentence"] = _sentence
    return environment.get_template("audit.html.j2")


def _sentence(text: str) -> Markup:
    """Words of our own as a sentence; what stands between backticks is code."""
    text = text[:1].upper() + text[1:] + ("" if text.endswith(("?", "!", ".")) else ".")
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(p) if k % 2 else p for k, p in enumerate(parts))


PARTS = ("image", "audio", "caption")
_MOST_FACTS = 8


def keys(rows: AuditRows, media: Mapping[str, MediaFeatures]) -> dict[str, Codes]:
    """Codes [N] of different photos, recordings and clips, as far as they can be told."""
    codes = {name: media[kind].codes() for name, kind in (("photos", "image"), ("clips", "audio")) if kind in media}
    if rows.has("recording_id"):
        codes["recordings"] = rows.codes("recording_id")
    return codes


def count(rows: AuditRows, keys: Mapping[str, Codes], members: NDArray[np.intp]) -> Count:
    """Counts over some rows, given by number."""

    def different(codes: Codes) -> int:
        return int((np.unique(codes[members]) >= 0).sum())

    kinds = (different(keys[k]) if k in keys else None for k in ("photos", "recordings", "clips"))
    return Count(len(members), different(rows.label), *kinds)


def by_split(rows: AuditRows, keys: Mapping[str, Codes]) -> dict[str, Count]:
    """Counts of each split that has shards, in their order."""
    there = {s.split for s in rows.shards}
    numbered = ((number, name) for number, name in enumerate(SPLIT_ORDER) if name in there)
    return {name: count(rows, keys, np.flatnonzero(rows.split == number)) for number, name in numbered}


def by_species(
    rows: AuditRows,
    media: Mapping[str, MediaFeatures],
    keys: Mapping[str, Codes],
    license_of: Mapping[str, NDArray[np.object_]],
    probed: Mapping[str, tuple[ProbeTask, ProbeOutcome]],
) -> tuple[SpeciesLine, ...]:
    """One line a species; `probed` holds each modality that was probed."""
    unknown = np.zeros(len(rows), dtype=bool)
    for values in license_of.values():
        unknown |= values == UNKNOWN_LICENSE
    missing = {kind: ~m.ok for kind, m in media.items()}
    if rows.has("caption"):
        missing["caption"] = rows.codes("caption") < 0
    recall: dict[str, dict[int, float]] = {modality: {} for modality in probed}
    for modality, (task, outcome) in probed.items():
        if len(outcome.right):
            mine = task.labels[outcome.used]
            recall[modality] = {int(c): float(outcome.right[mine == c].mean()) for c in np.unique(mine)}
    numbered = enumerate(_members(rows.label, len(rows.species)))
    return tuple(
        SpeciesLine(
            rows.species[label],
            count(rows, keys, members),
            {name: n for number, name in enumerate(SPLIT_ORDER) if (n := int((rows.split[members] == number).sum()))},
            int(unknown[members].sum()),
            {kind: int(m[members].sum()) for kind, m in missing.items()},
            {modality: r[label] for modality, r in recall.items() if label in r},
        )
        for label, members in numbered
    )


def _members(labels: Codes, species: int) -> list[NDArray[np.intp]]:
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(species + 1))
    return [order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]


def license_columns(rows: AuditRows) -> dict[str, NDArray[np.object_]]:
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


def license_findings(rows: AuditRows, license_of: Mapping[str, NDArray[np.object_]]) -> list[Finding]:
    """Unknown licences, and those that forbid changed copies."""
    findings: list[Finding] = []
    for part, values in license_of.items():
        unknown = np.asarray(values == UNKNOWN_LICENSE, dtype=bool)
        words = f"{{n}} {{rows}} whose {part}'s licence is unknown"
        advice = "ask the authors before you pass these rows on"
        findings += of_rows(rows, unknown, f"{part}_license_unknown", AMBER, words, advice)
        closed = np.array(["ND" in v.split("-") for v in values], dtype=bool)
        words = f"{{n}} {{rows}} whose {part}'s licence forbids derivatives (ND)"
        advice = "a cut, resampled or scaled copy may be a derivative: leave these rows out of what you publish"
        findings += of_rows(rows, closed, f"{part}_license_nd", AMBER, words, advice)
    return findings


def media_table(media: Mapping[str, MediaFeatures]) -> tuple[MediaAudit, ...]:
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
        common = {name: _commonest(values, "side" in name) for name, values in facts.items()}
        lines.append(MediaAudit(kind, len(codes), int((uses > 0).sum()), int(uses.max()), states, common))
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
    # The most rows of a species with which all together stay within `size`, but at least 1.
    low, high = 1, max(map(len, members), default=1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(len(m), middle) for m in members) <= size else (low, middle - 1)
    rng = np.random.default_rng([seed, 3])
    taken = [np.sort(rng.permutation(m)[:low]) for m in members]
    return np.sort(np.concatenate(taken)).astype(np.int64) if taken else np.zeros(0, dtype=np.int64)

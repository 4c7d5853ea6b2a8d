"""index.html and audit.json of an audit. The page has no script and no picture, and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from birdmml import files
from birdmml.audit.model import Audit, Probe
from birdmml.build import report_text
from birdmml.text import printable

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
    css = _css()
    return _template().render(
        a=audit,
        css=css,
        csp=_policy(css),
        strips=[_strip(p) for p in audit.probes],
        max_species=MAX_SPECIES,
        modalities=[p.modality for p in audit.probes],
        parts=sorted({kind for line in audit.species for kind in line.missing}),
    )


def _strip(probe: Probe) -> dict[str, object]:
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
def _css() -> Markup:
    """The report's style, and what only this page needs."""
    own = [(report_text.TEMPLATES / "report.css"), TEMPLATES / "audit.css"]
    return Markup("".join(p.read_text(encoding="utf-8") for p in own))  # noqa: S704  # our own files


def _policy(css: str) -> str:
    """Nothing may load or run; the one style is named by its hash."""
    style = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"


@cache
def _template() -> jinja2.Template:
    environment = report_text.templates(printable)
    environment.loader = jinja2.FileSystemLoader(TEMPLATES)
    environment.filters["human_bytes"] = files.human_bytes
    environment.filters["signed"] = lambda n: f"{n:+,}".replace("-", "−")
    environment.filters["sentence"] = _sentence
    return environment.get_template("audit.html.j2")


def _sentence(text: str) -> Markup:
    """Words of our own as a sentence; what stands between backticks is code."""
    text = text[:1].upper() + text[1:] + ("" if text.endswith(("?", "!", ".")) else ".")
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(p) if k % 2 else p for k, p in enumerate(parts))

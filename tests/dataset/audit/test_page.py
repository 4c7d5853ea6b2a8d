import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.browser import needs_browser, screenshot, visit
from helpers.report_data import HOSTILE, flac, jpeg
from PIL import Image

from birdmml.dataset.audit import audit
from birdmml.dataset.audit.model import Audit
from birdmml.dataset.audit.page import render, write


class Tree(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag in ("td", "th", "dd", "dt", "p", "li", "h3", "span", "small") else ""

    def handle_data(self, data):
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def small_audit(small_demo) -> Audit:
    return audit(small_demo)


@pytest.fixture(scope="module")
def intact(demo, tmp_path_factory) -> Path:
    return write(audit(demo), tmp_path_factory.mktemp("intact"))


@pytest.fixture(scope="module")
def bad(demo, spoilt, tmp_path_factory) -> Path:
    return write(audit(spoilt(demo, "images_of_one_species")), tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """Every text of strangers, the shards' names included, tries to be something else."""
    root = tmp_path_factory.mktemp("hostile") / "<b>d&amp;d"
    root.mkdir()
    rows = [
        {
            "id": HOSTILE,
            "image": {"bytes": jpeg(k) if k % 3 else b"<script>", "path": HOSTILE},
            "audio": {"bytes": flac(900.0 + k, 0.5) if k % 4 else b"", "path": HOSTILE},
            "species": HOSTILE + str(k % 2),
            "label": f"</style><script>{k}",
            "caption": HOSTILE,
            "recording_id": HOSTILE,
            "image_sha256": HOSTILE,
            "image_license": HOSTILE,
            "image_author": HOSTILE,
        }
        for k in range(8)
    ]
    for name in ("train-<script>alert(1)<.script>.parquet", "test-\u202e'\"&.parquet"):
        pq.write_table(pa.Table.from_pylist(rows), root / name)
    (root / "val-<img src=x>.parquet").write_text("<script>alert(1)</script>", encoding="utf-8")
    told = {"schema_version": 1, "birdmml_version": HOSTILE, "name": HOSTILE, "splits": {}, "digest": HOSTILE}
    told["source"] = {"facts": {"ceilings": {"image": "<b>", "audio": float("1e300")}}}
    (root / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    return write(audit(root), tmp_path_factory.mktemp("hostile-page"))


def _tree(page: Path) -> Tree:
    return Tree(page.read_text(encoding="utf-8"))


def _json(page: Path) -> dict:
    return json.loads((page.parent / "audit.json").read_text(encoding="utf-8"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def test_the_page_says_what_the_json_says(intact, bad):
    for page in (intact, bad):
        told, text = _json(page), _tree(page).text
        c = told["count"]
        assert f"rows {c['rows']} species {c['species']} photos {c['photos']} recordings {c['recordings']}" in text
        for finding in told["findings"]:
            assert finding["slug"] in text
            assert finding["words"] in text
            assert all(where in text for where in finding["where"])
        for probe in told["probes"]:
            assert f"{probe['modality'].replace('_', ' ')}: {probe['verdict']} {_percent(probe['accuracy'])}" in text
            assert f"{_percent(probe['shuffled_mean'])} on average" in text
        for line in told["species"]:
            shown = f"{line['name']} {line['count']['rows']} " + " ".join(
                str(line["splits"].get(s, 0)) for s in ("train", "validation", "test")
            )
            assert shown in text
            assert " ".join(_percent(line["probe"][p["modality"]]) for p in told["probes"]) in text
        assert f"triplets {c['rows']} 149,681 −{149_681 - c['rows']:,}" in text
        for leak in told["split_leaks"]:
            assert f"{leak['key']} {leak['groups']} {_percent(leak['validation_share'])}" in text


def test_the_verdict_is_at_the_top(intact, bad):
    red = [f for f in _json(bad)["findings"] if f["severity"] == "red"]
    assert f"{len(red)} serious" in _tree(bad).text
    assert "serious" not in _tree(intact).text
    order = [f["severity"] for f in _json(bad)["findings"]]
    assert order == sorted(order, key=lambda s: s != "red")
    assert _tree(bad).text.index("image is at chance") < _tree(bad).text.index("Does each modality")


def test_the_demo_says_that_it_is_no_bird_mml(intact):
    text = _tree(intact).text
    assert "Demo data, not Bird-MML." in text
    assert "best possible, by design: 50.0 %" in text
    assert "the difference means nothing" in text


def test_same_dataset_and_seed_same_bytes_on_any_number_of_workers(small_demo, small_audit, tmp_path):
    pages = [write(f, tmp_path / str(n)) for n, f in enumerate((small_audit, audit(small_demo, workers=2)))]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert (tmp_path / "0/audit.json").read_bytes() == (tmp_path / "1/audit.json").read_bytes()
    assert str(small_demo.parent) not in pages[0].read_text(encoding="utf-8")


def test_hostile_text_is_text(hostile):
    tree = _tree(hostile)
    assert tree.text.count("<script>alert('x')</script>") >= 5
    assert not any(c in tree.text for c in "\u202e\x00\x07")
    assert "{{ 7*7 }}" in tree.text
    assert tree.all("script", "img", "b") == [a for a in tree.all("b") if set(a) <= {"class"}]
    assert {f["slug"] for f in _json(hostile)["findings"]} >= {"shard_unreadable", "manifest_digest", "image_sha256"}


def test_nothing_is_loaded_from_anywhere(intact, bad, hostile):
    for path in (intact, bad, hostile):
        tree = _tree(path)
        assert tree.all("script", "iframe", "object", "embed", "link", "base", "form", "source", "img", "audio") == []
        for _, attributes in tree.elements:
            assert not {a for a in attributes if a.startswith("on") or a in ("style", "src", "srcset")}
            assert attributes.get("href", "#").startswith("#")
        html = path.read_text(encoding="utf-8")
        assert "@import" not in html
        assert "url(" not in html
        (policy,) = [m["content"] for m in tree.all("meta") if m.get("http-equiv")]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy


def test_headings_do_not_skip_pictures_have_words_and_ids_are_unique(intact, bad, hostile):
    for path in (intact, bad, hostile):
        tree = _tree(path)
        levels = [int(t[1]) for t, _ in tree.elements if re.fullmatch("h[1-6]", t)]
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
        assert all(a.get("aria-label") for t, a in tree.elements if a.get("role") == "img")
        ids = [a["id"] for _, a in tree.elements if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["aria-labelledby"] for _, a in tree.elements if "aria-labelledby" in a} <= set(ids)
        assert {a["href"][1:] for a in tree.all("a")} <= set(ids)


@needs_browser
def test_a_browser_shows_the_page_without_complaint(bad, hostile):
    for path in (bad, hostile):
        shown = visit(path)
        assert shown.console == ()
        assert 'id="probes"' in shown.dom
    # The control: were the style another than the policy names, the console would say so.
    html = bad.read_text(encoding="utf-8").replace("<style>", "<style>p{margin:0}")
    (bad.parent / "other.html").write_text(html, encoding="utf-8")
    assert any("Content Security Policy" in line for line in visit(bad.parent / "other.html").console)


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_red_lines_and_colours_are_really_on_the_screen(intact, bad, tmp_path, dark):
    def shot(page: Path) -> np.ndarray:
        path = screenshot(page, tmp_path / "shot.png", width=500, dark=dark)
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    def red(pixels: np.ndarray) -> int:
        return int(((pixels[..., 0] > 190) & (pixels[..., 1] < 115) & (pixels[..., 2] < 125)).sum())

    seen = shot(bad)
    assert red(seen) > 1000
    assert red(shot(intact)) == 0
    paper = seen[900, 2].mean()
    assert paper < 60 if dark else paper > 200


def test_a_page_of_nothing_found_says_so(small_audit):
    text = Tree(render(dataclasses.replace(small_audit, findings=(), skipped=()))).text
    assert "nothing found" in text
    assert "Nothing found." in text

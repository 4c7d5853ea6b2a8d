import itertools
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.browser import needs_browser, screenshot, visit
from helpers.report_data import HOSTILE, flac, jpeg, leaky, manifest, row, small, validation, write_dataset
from PIL import Image

from birdmml.core.text import web_address
from birdmml.dataset import report
from birdmml.dataset.report import write_report
from birdmml.errors import DatasetError


class Tree(HTMLParser):
    """What a test wants to know of a page: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag in ("td", "th", "dd") else ""

    def handle_data(self, data):
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def _write(root: Path, rows=None, found=None, **changes) -> Path:
    rows = rows or small()
    write_dataset(root, rows)
    write_report(root, manifest(rows, **changes), found or validation())
    return root / "report" / "index.html"


def _tree(page: Path) -> Tree:
    return Tree(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return _write(tmp_path_factory.mktemp("report") / "d")


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory) -> Path:
    words = {f"{p}_{k}": HOSTILE for p in ("image", "audio", "caption") for k in ("author", "license")}
    bad = row(33, 0, caption=HOSTILE, caption_origin=HOSTILE, **words)
    bad |= {
        "image_url": "javascript:alert(1)",
        "audio_url": 'https://ok.example/"><script>alert(1)</script>',
        "caption_url": "https://ok.example/a?b=1&c=2",
    }
    found = validation(
        rejects=[{"path": HOSTILE, "reason": HOSTILE, "detail": HOSTILE}] * 3,
        rejects_by_reason={HOSTILE: 3},
        unpaired=[{"species": HOSTILE, "photos": 1, "clips": 0, "detail": HOSTILE}],
        duplicates=[{"sha256": "0", "paths": [HOSTILE] * 9, "species": [HOSTILE, "x"]}],
        captions_by_origin={HOSTILE: 1},
    )
    root = tmp_path_factory.mktemp("hostile") / "d"
    value = {"licenses": {"image": {HOSTILE: 1}, "audio": {"unknown": 1}, "caption": {}}}
    return _write(root, {"train": [bad]}, found, name=HOSTILE, demo=False, **value)


def test_the_page_states_counts_splits_ceilings_and_that_it_is_a_demo(page):
    text = " ".join(_tree(page).text.split())
    assert "Demo data, not Bird-MML." in text
    assert "rows 24 species 4 photos 24 recordings 12 clips 24 on disk 14.3 MiB" in text
    assert "train 16 4 1 validation 4 4 1 test 4 4 1" in text
    assert "image 50.0 %" in text
    assert "audio 33.3 %" in text
    assert "No rejects. All 48 photos and clips" in text


def test_real_data_has_no_demo_banner_and_no_ceilings(tmp_path):
    source = {"name": "folder", "settings": {}, "facts": {}}
    text = _tree(_write(tmp_path / "d", demo=False, name="birdmml-folder", source=source)).text
    assert "Demo" not in text
    assert "Best possible" not in text


def test_each_species_shows_up_to_three_rows_with_photo_sound_and_caption(page):
    tree = _tree(page)
    assert len(tree.all("article")) == 4
    assert len(tree.all("figure")) == 4 * 3 + 5
    folder = page.parent / "media"
    assert len(list(folder.iterdir())) == 4 * 3 * 3
    first = (folder / "cangoo-1.flac").read_bytes(), (folder / "cangoo-1.jpg").read_bytes()
    assert first == (flac(1000.0, 1.2), jpeg(0))
    assert "A Canada Goose, number 0." in tree.text


def test_large_photos_are_scaled_down_for_the_page(tmp_path):
    big = row(0, 0, image={"bytes": jpeg(1, 1024, 600), "path": "a"}, image_width=1024, image_height=600)
    page = _write(tmp_path / "d", {"train": [big]})
    assert Image.open(page.parent / "media" / "cangoo-1.jpg").size == (480, 281)


def test_nothing_is_loaded_from_anywhere_but_the_report_itself(page, hostile_page):
    for path in (page, hostile_page):
        tree = _tree(path)
        assert tree.all("script", "iframe", "object", "embed", "link", "base", "form", "source") == []
        for attributes in tree.all("img", "audio"):
            assert (path.parent / attributes["src"]).is_file()
        for tag, attributes in tree.elements:
            assert not {a for a in attributes if a.startswith("on") or a in ("style", "srcset", "srcdoc")}
            assert "src" not in attributes or tag in ("img", "audio")
            assert "href" not in attributes or tag == "a"
            assert attributes.get("href", "#").startswith(("#", "https://"))
        assert "@import" not in path.read_text(encoding="utf-8")
        assert "url(" not in path.read_text(encoding="utf-8")


def test_the_policy_forbids_everything_but_its_own_media_and_style(page):
    (policy,) = [m["content"] for m in _tree(page).all("meta") if m.get("http-equiv")]
    directives = dict(d.strip().split(" ", 1) for d in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == directives["media-src"] == "'self'"
    assert directives["style-src"].startswith("'sha256-")
    assert "unsafe" not in policy


def test_hostile_text_is_text(hostile_page):
    tree = _tree(hostile_page)
    assert tree.text.count("<script>alert('x')</script>") >= 8
    assert not any(c in tree.text for c in "\u202e\x00\x07")
    assert "{{ 7*7 }}" in tree.text
    # Quotes and angle brackets in an address stay inside the attribute; what is no web address is no link.
    outward = [a["href"] for a in tree.all("a") if not a["href"].startswith("#")]
    assert outward == ['https://ok.example/"><script>alert(1)</script>', "https://ok.example/a?b=1&c=2"]


@pytest.mark.parametrize(
    ("text", "is_link"),
    [
        ("https://xeno-canto.org/1", True),
        ("http://example.org/ü?a=b#c", True),
        ("HTTPS://EXAMPLE.ORG", True),
        ("javascript:alert(1)", False),
        (" https://example.org", False),
        ("java\nscript:alert(1)", False),
        ("https://exa\tmple.org", False),
        ("data:text/html,x", False),
        ("file:///etc/passwd", False),
        ("//example.org", False),
        ("https://", False),
        ("https://[", False),
        ("https:\\\\example.org", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_only_web_addresses_become_links(text, is_link):
    assert (web_address(text) == text) is is_link


def test_headings_do_not_skip_images_have_words_and_ids_are_unique(page, hostile_page):
    for path in (page, hostile_page):
        tree = _tree(path)
        levels = [int(t[1]) for t, _ in tree.elements if t in ("h1", "h2", "h3", "h4")]
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
        assert all(a["alt"] for a in tree.all("img"))
        assert all(a.get("aria-label") for t, a in tree.elements if t == "audio" or a.get("role") == "img")
        ids = [a["id"] for _, a in tree.elements if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["aria-labelledby"] for _, a in tree.elements if "aria-labelledby" in a} <= set(ids)
        assert {a["href"][1:] for a in tree.all("a") if a["href"].startswith("#")} <= set(ids)


def test_media_wait_until_they_are_looked_at(page):
    tree = _tree(page)
    assert all(a["preload"] == "none" and "controls" in a for a in tree.all("audio"))
    assert sum(a.get("loading") == "lazy" for a in tree.all("img")) == 4 * 3 * 2


def test_the_first_200_rejects_are_listed_and_the_rest_counted(tmp_path):
    rejects = [{"path": f"file-{i}", "reason": "not_audio", "detail": "d"} for i in range(1234)]
    found = validation(rejects=rejects, rejects_by_reason={"not_audio": 1234}, reject_share=0.5)
    text = _tree(_write(tmp_path / "d", found=found)).text
    assert text.count("file-") == 200
    assert "The first 200 of 1,234" in text
    assert "1,234 photos and clips were rejected" in text


def test_one_row_is_enough(tmp_path):
    text = " ".join(_tree(_write(tmp_path / "d", {"train": [row(5, 0)]})).text.split())
    assert "all 120 px" in text
    assert "all 1.2 s" in text


def test_the_same_dataset_gives_the_same_bytes_and_old_media_go(tmp_path):
    first = _write(tmp_path / "a").parent
    second = _write(tmp_path / "b").parent
    (second / "media" / "left-over.jpg").write_bytes(b"x")
    write_report(tmp_path / "b", manifest(small()), validation())

    def contents(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert contents(first) == contents(second)


def test_a_shard_or_medium_that_cannot_be_read_is_named(tmp_path):
    rows = {"train": [row(0, 0, image={"bytes": b"no photo", "path": "a"})]}
    with pytest.raises(DatasetError, match=r"row 'cangoo-0000' .*train-00000.*not_an_image.*build"):
        _write(tmp_path / "a", rows)
    write_dataset(tmp_path / "b", small())
    (tmp_path / "b/data/test-00000-of-00001.parquet").unlink()
    with pytest.raises(DatasetError, match=r"test-00000.* cannot be read .*build"):
        write_report(tmp_path / "b", manifest(small()), validation())
    (tmp_path / "b/data/test-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="cannot be read"):
        write_report(tmp_path / "b", manifest(small()), validation())


def test_examples_prefer_media_not_yet_shown(tmp_path):
    pairs = [(0, 0), (0, 1), (0, 0), (1, 0), (1, 1), (2, 2)]
    rows = {"train": [row(0, n, image_id=f"p{i}", audio_id=f"c{a}") for n, (i, a) in enumerate(pairs)]}
    write_dataset(tmp_path, rows)
    found = report.survey(tmp_path, manifest(rows), 3)
    assert [e.index for e in found.examples[0]] == [0, 4, 5]


def test_examples_are_read_from_the_rows_they_name(tmp_path):
    rows = small()
    write_dataset(tmp_path, rows, group=2)
    found = report.survey(tmp_path, manifest(rows), 6)
    chosen = [e for examples in found.examples.values() for e in examples]
    assert len(chosen) == 24
    naive = {s: pq.read_table(tmp_path / f"data/{s}-00000-of-00001.parquet").to_pylist() for s in rows}
    for example, photo, clip in report.media(tmp_path, chosen):
        expected = naive[example.split][example.index]
        assert (expected["id"], expected["image"]["bytes"]) == (example.values["id"], photo)
        assert expected["audio"]["bytes"] == clip
    assert found.rows_by_label[33] == {"train": 4, "validation": 1, "test": 1}
    assert sorted(found.numbers["words"]) == sorted(len(r["caption"].split()) for v in rows.values() for r in v)


@needs_browser
def test_a_browser_shows_the_page_without_complaint(page, hostile_page):
    for path in (page, hostile_page):
        shown = visit(path)
        assert shown.console == ()
        assert 'id="gallery"' in shown.dom
    assert "Canada Goose" in visit(page).dom


@needs_browser
def test_a_browser_that_is_told_to_load_every_sound_may(page, tmp_path):
    shutil.copytree(page.parent, tmp_path, dirs_exist_ok=True)
    html = page.read_text(encoding="utf-8")
    eager = tmp_path / "eager.html"
    eager.write_text(html.replace('preload="none"', 'preload="auto"'), encoding="utf-8")
    assert visit(eager).console == ()
    # The controls: were the policy narrower, the console would say so.
    for part in ("img-src", "media-src", "style-src"):
        narrow = re.sub(rf"({part}) [^;]*;", r"\1 &#39;none&#39;;", eager.read_text(encoding="utf-8"), count=1)
        (tmp_path / "narrow.html").write_text(narrow, encoding="utf-8")
        assert any("Content Security Policy" in line for line in visit(tmp_path / "narrow.html").console), part


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_photos_and_colours_are_really_on_the_screen(tmp_path, dark):
    magenta = np.zeros((90, 120, 3), np.uint8) + np.array([255, 0, 255], np.uint8)
    magenta[::8] = 0
    Image.fromarray(magenta).save(tmp_path / "m.jpg", quality=95)
    photo = {"bytes": (tmp_path / "m.jpg").read_bytes(), "path": "m.jpg"}
    page = _write(tmp_path / "d", {"train": [row(n, 0, image=photo) for n in range(12)]})
    shot = np.asarray(Image.open(screenshot(page, tmp_path / "shot.png", dark=dark)).convert("RGB")).astype(int)
    is_magenta = (shot[..., 0] > 180) & (shot[..., 1] < 80) & (shot[..., 2] > 180)
    assert is_magenta.sum() > 12 * 40 * 60
    paper = shot[700, 5].mean()
    assert paper < 60 if dark else paper > 200


def test_leaks_stand_beside_those_of_a_row_wise_split_and_captions_beside_chance(tmp_path):
    page = _write(tmp_path / "d", found=validation(leakage=leaky()))
    text = _tree(page).text
    assert re.search(r"the recording\s+25\.0\s?%\s+3\s+50\.0\s?%\s+7", text)
    assert re.search(r"caption\s+33\.3\s?%\s+2\.0\s?%\s+0\.0\s?%\s+75\.0\s?% \[70\.0\s?%, 80\.0\s?%\]\s+5\.0\s?%", text)
    assert "cannot tell" in text
    assert "<script" not in page.read_text().lower()
    # A recording on two sides is a fault, a photographer on two sides a matter of choice.
    warned = re.findall(r'class="warn">([0-9.]+)', page.read_text())
    assert warned == ["25.0"]


def test_what_is_not_there_is_listed_and_recovered_rows_are_counted_by_species(tmp_path):
    gone = [{"path": f"t.csv, line {i}", "reason": "audio_lost", "detail": HOSTILE, "absent": True} for i in range(60)]
    species = [{"species": "Turdus migratorius", "complete": 5, "recovered": 2, "lost": 60}]
    found = validation(absent=gone, absent_by_reason={"audio_lost": 60}, by_species=species, recovered_rows=2)
    tree = _tree(_write(tmp_path / "d", found=found))
    assert "t.csv, line 49" in tree.text
    assert "t.csv, line 50" not in tree.text
    assert "The first 50 of 60." in tree.text
    assert re.search(r"Turdus migratorius\s+5\s+2\s+60", tree.text)


def test_a_released_split_says_that_it_leaks(tmp_path):
    rows = small()
    settings = {**manifest(rows)["settings"], "split": "released"}
    text = _tree(_write(tmp_path / "d", rows, validation(leakage=leaky("released")), settings=settings)).text
    assert "No observation and no recording spans" not in text
    assert "Split row by row" in text


def test_files_that_no_checksum_covers_are_told(tmp_path):
    rows = small()
    source = {"name": "release", "facts": {"unverified": {"photo": 0, "audio": 7}}}
    text = _tree(_write(tmp_path / "d", rows, source=source)).text
    assert "7 files that no checksum covers" in text

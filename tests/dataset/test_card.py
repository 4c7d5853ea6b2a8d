import json
import re
import unicodedata

import datasets
import markdown_it
import pytest
import yaml
from helpers.report_data import HOSTILE, manifest, small, validation, write_dataset
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core.text import markdown, printable
from birdmml.dataset.card import hub_licenses, render_card
from birdmml.dataset.format import NAMES

ROWS = small()


def _front_matter(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def _body_tokens(text: str) -> list[str]:
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(text)
    return [t.type for block in tokens for t in [block, *(block.children or [])]]


def test_the_front_matter_says_what_the_hub_reads():
    front = _front_matter(render_card(manifest(ROWS), validation()))
    assert front["pretty_name"] == "birdmml demo (generated; not Bird-MML)"
    assert front["license"] == ["cc-by-nc-sa-4.0", "cc0-1.0", "other"]
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"] == [
        {
            "config_name": "default",
            "description": "build " + "a" * 16,
            "data_files": [{"split": s, "path": f"data/{s}-*.parquet"} for s in ("train", "validation", "test")],
        }
    ]


@pytest.mark.parametrize(
    ("rows", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (149_681, "100K<n<1M"), (2_000_000, "1M<n<10M")],
)
def test_the_size_category_follows_the_rows(rows, category):
    value = manifest(ROWS)
    value["counts"]["rows"] = rows
    assert _front_matter(render_card(value, validation()))["size_categories"] == [category]


def test_the_demo_says_loudly_that_it_is_not_bird_mml_and_real_data_does_not():
    demo = render_card(manifest(ROWS), validation())
    real = render_card(manifest(ROWS, demo=False, name="birdmml-folder"), validation())
    assert "DEMO. This is not Bird-MML." in demo
    assert "synthetic" in _front_matter(demo)["tags"]
    assert "DEMO" not in real
    assert "synthetic" not in _front_matter(real)["tags"]
    assert _front_matter(real)["pretty_name"] == "birdmml-folder"


def test_ceilings_counts_licences_and_columns_are_tables():
    card = render_card(manifest(ROWS), validation())
    assert "| image | 50.0 % |" in card
    assert "| audio | 33.3 % |" in card
    assert "| train | 16 | 4 | 1 |" in card
    assert "| audio | CC-BY-NC-SA-4.0 | 23 |\n| audio | unknown | 1 |" in card
    assert [n for n in NAMES if f"| `{n}` |" not in card] == []


def test_defects_are_named_with_their_counts():
    card = render_card(
        manifest(ROWS),
        validation(
            rejects=[{"path": "a", "reason": "not_an_image", "detail": "d"}] * 3,
            rejects_by_reason={"audio_constant": 1, "not_an_image": 2},
            reject_share=0.0042,
            captions_by_origin={"provided": 4, "template": 20},
            unknown_licenses={"image": 0, "audio": 7, "caption": 0},
            dropped_tails={"clips": 12, "seconds": 7.6},
            unpaired=[
                {"species": "x", "photos": 3, "clips": 0, "detail": "d"},
                {"species": "y", "photos": 0, "clips": 2, "detail": "d"},
            ],
            duplicates=[
                {"sha256": "0", "paths": ["a", "b"], "species": ["x"]},
                {"sha256": "1", "paths": ["c", "d"], "species": ["x", "y"]},
            ],
        ),
    )
    assert "3 of 48 photos and clips were not accepted (0.4 %, with 1.0 % allowed)" in card
    assert r"not\_an\_image 2, audio\_constant 1." in card
    assert "20 (`caption_origin` is `template`)" in card
    assert "unknown licence: audio 7." in card
    assert "12, 8 s in all" in card
    assert "in no row: 3 photos, 2 clips" in card
    assert "byte for byte: 2, of which filed under more than one species: 1." in card
    assert "Media are reused" not in card


def test_reused_media_are_named():
    value = manifest(ROWS)
    value["counts"]["clips"] = 20
    assert "24 rows are made of 24 photos and 20 clips" in render_card(value, validation())


def test_hostile_text_stays_text_in_yaml_and_markdown():
    value = manifest(ROWS, demo=False, name=HOSTILE)
    value["source"]["name"] = HOSTILE
    value["settings"] = {"clip_s": 2.0, "split": HOSTILE, HOSTILE: HOSTILE}
    value["licenses"]["image"] = {HOSTILE: 1}
    card = render_card(value, validation(rejects=[{}], rejects_by_reason={HOSTILE: 1}))
    front = _front_matter(card)
    assert front["pretty_name"].startswith("<script>alert('x')</script>\"'`|*_[a](http://evil.example)")
    assert set(front) == set(_front_matter(render_card(manifest(ROWS), validation())))
    types = _body_tokens(card.split("---\n", 2)[2])
    plain = _body_tokens(render_card(manifest(ROWS, demo=False), validation()).split("---\n", 2)[2])
    assert "html_block" not in types
    assert "html_inline" not in types
    assert "image" not in types
    assert types.count("link_open") == plain.count("link_open")
    assert types.count("heading_open") == plain.count("heading_open")
    assert not re.search(r"https?://evil|www\.evil", card.split("---\n", 2)[2])
    assert "49 " not in card


@given(st.text(max_size=40))
def test_escaped_text_renders_as_the_text_itself(text):
    (paragraph, *_) = [
        t for t in markdown_it.MarkdownIt("commonmark").parse("x " + markdown(text)) if t.type == "inline"
    ]
    rendered = "".join(child.content for child in paragraph.children)
    assert {c.type for c in paragraph.children} <= {"text", "text_special"}
    assert "".join(rendered.split()) == "x" + "".join(printable(text).split())


@given(st.characters())
def test_printable_drops_what_is_unseen_and_keeps_the_rest(character):
    dropped = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    dropped = dropped or unicodedata.bidirectional(character) in (
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    )
    if dropped:
        assert printable(character) == " "
    elif unicodedata.category(character) not in ("Cf", "Cn"):
        assert printable(character) == character


def test_the_same_inputs_give_the_same_card():
    assert render_card(manifest(ROWS), validation()) == render_card(manifest(ROWS), validation())


@pytest.mark.parametrize(
    ("licenses", "ids"),
    [
        ({"image": {"CC0-1.0": 1}}, ["cc0-1.0"]),
        ({"image": {"CC-BY-SA-2.0": 1}}, ["other"]),
        ({"image": {"CC-BY-4.0": 2, "unknown": 1}, "audio": {"CC0-1.0": 0}}, ["cc-by-4.0", "other"]),
        ({}, ["other"]),
    ],
)
def test_licences_that_the_hub_does_not_know_are_other(licenses, ids):
    assert hub_licenses(licenses) == ids


def test_the_code_on_the_card_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {k: v for k, v in small().items() if k != "validation"}
    value = manifest(rows, name="x: 'y' # z")
    write_dataset(tmp_path / "d", rows)
    (tmp_path / "d" / "manifest.json").write_text(json.dumps(value), encoding="utf-8")
    card = render_card(value, validation())
    (tmp_path / "d" / "README.md").write_text(card, encoding="utf-8")
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code.replace("path/to/this/folder", str(tmp_path / "d")), names)
    assert len(names["rows"]) == 16
    assert names["photo"].size == (120, 90)
    assert (len(names["sound"]), names["rate_hz"]) == (2 * 22_050, 22_050)
    arrays = names["arrays"]
    assert arrays["image"].shape == (90, 120, 3)
    assert arrays["audio"].shape == (2 * 22_050,)
    loaded = datasets.load_dataset(str(tmp_path / "d"))
    assert {k: len(v) for k, v in loaded.items()} == {"train": 16, "test": 4}

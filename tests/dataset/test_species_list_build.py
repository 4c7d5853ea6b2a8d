"""Builds for a list of species outside the 150, from real files: the dataset knows its own species, and they alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import Ran, bird_folder, tree
from helpers.small import OPTIONS

from birdmml import load
from birdmml.core import discover, files, species, species_list
from birdmml.core.species import Species
from birdmml.dataset.audit import audit
from birdmml.dataset.build import build
from birdmml.dataset.captioners.template import TEMPLATES
from birdmml.dataset.captions import caption_of
from birdmml.dataset.recipe import BuildSettings, Limits
from birdmml.dataset.validate import validate
from birdmml.errors import DatasetError, SourceError
from birdmml.schema import Credit, Medium

OUTSIDE = ("Turdus merula", "Erithacus rubecula", "Cyanistes caeruleus", "Setophaga petechia")
LIST = """scientific_name,common_name,order,family
Cyanistes caeruleus,Eurasian Blue Tit,Passeriformes,Paridae
Turdus merula,,,
Erithacus rubecula,European Robin,,
Setophaga petechia,,,
Parus major,Great Tit,Passeriformes,Paridae
"""
NAMES = ["Cyanistes caeruleus", "Turdus merula", "Erithacus rubecula", "Setophaga petechia", "Parus major"]
CALLED = {"Eurasian Blue Tit", "Turdus merula", "European Robin", "Yellow Warbler"}
LIGHT = ["id", "species", "common_name", "label", "caption", "caption_name_free", "order", "family", "ebird_code"]


def settings(root: Path, chosen: Path | None, **more: Any) -> BuildSettings:
    source = discover.load("source", "folder")
    known = species_list.SHIPPED if chosen is None else species_list.read_list(chosen)
    own = source.Settings(str(root), clip_seconds=1.0, species_list=known)
    return BuildSettings("folder", own, limits=Limits(clip_s=1.0), **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a list, built by two workers; folder and list are gone."""
    home = tmp_path_factory.mktemp("listed")
    birds = bird_folder(home / "birds", 6, 6, OUTSIDE)
    chosen = home / "mine.csv"
    chosen.write_text(LIST)
    build(settings(birds, chosen), home / "data", workers=2)
    build(settings(birds, chosen), home / "alone", workers=1)
    assert tree(home / "data") == tree(home / "alone")
    chosen.unlink()
    species_list._load.cache_clear()
    return home / "data"


def rows(root: Path) -> list[dict[str, Any]]:
    return [r for p in sorted(root.glob("data/*.parquet")) for r in pq.read_table(p, columns=LIGHT).to_pylist()]


def test_a_dataset_carries_its_species(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    told = manifest["taxonomy"]
    table = made / "species.csv"
    assert told["digest"] == manifest["files"]["species.csv"] == files.sha256_file(table)
    assert (told["species"], told["completed"], told["file"]) == (5, 1, "species.csv")
    assert str(made.parent) not in (made / "manifest.json").read_text()
    known = species_list.dataset_taxonomy(made, manifest)
    assert known.scientific_names == NAMES
    assert known.resolve("Dendroica petechia").label == 3
    form = pq.read_schema(next(made.glob("data/*.parquet")))
    features = json.loads(form.metadata[b"huggingface"])["info"]["features"]
    assert features["label"]["names"] == NAMES


def test_rows_say_what_the_list_says_and_no_more(made: Path) -> None:
    found = rows(made)
    assert len(found) == 24
    lines = [line.split(",") for line in LIST.splitlines()[1:]]
    stated = {cells[0]: cells[1:] for cells in lines}
    warbler = species.resolve("Setophaga petechia")
    stated["Setophaga petechia"] = [warbler.common_name, warbler.order, warbler.family]
    for row in found:
        assert row["label"] == NAMES.index(row["species"])
        assert [row["common_name"], row["order"], row["family"]] == stated[row["species"]]
        assert row["ebird_code"] == ("yelwar" if row["species"] == "Setophaga petechia" else "")
        assert re.fullmatch(r"(yelwar|[a-z]+-[a-z]+)-[0-9a-f]{12}", row["id"])


def test_templates_name_what_is_known_and_free_captions_name_nothing(made: Path) -> None:
    for row in rows(made):
        text = row["caption"]
        assert row["common_name"] in text or row["species"] in text
        assert "family ." not in text and "the ." not in text and "()" not in text and "  " not in text
        for name in filter(None, (row["common_name"], row["species"], *row["species"].split())):
            assert name.casefold() not in row["caption_name_free"].casefold()


@pytest.mark.parametrize("known", range(8))
def test_a_template_is_chosen_among_those_whose_words_are_known(known: int) -> None:
    common, order, family = ((text if known >> i & 1 else "") for i, text in enumerate(("Tit", "Ordo", "Familia")))
    species = Species(0, "Parus major", common, order, family, "", None, None, None, (), ())
    seen = set()
    for number in range(60):
        media = {
            kind: Medium(kind, f"{kind}{number}", "Parus major", "g", "p", "f", "0" * 64, 0, 0, 1, Credit())
            for kind in ("image", "audio")
        }
        text = caption_of(media["image"], media["audio"], 0, species).text
        seen.add(text)
        assert (common or "Parus major") in text
        assert ("family" in text) <= bool(family)
        assert ("order" in text or "one of the" in text) <= bool(order)
    assert len(seen) == 1 + 2 * bool(order) + bool(family)
    if common and order and family:
        words = {"common_name": common, "scientific_name": "Parus major", "order": order, "family": family}
        assert seen == {t.format(a="a", **words) for t in TEMPLATES}


def test_it_is_sound_and_others_read_its_names(made: Path) -> None:
    assert validate(made, workers=2).problems == ()
    datasets = pytest.importorskip("datasets")
    label = datasets.load_dataset(str(made), split="train").features["label"]
    assert label.names == NAMES
    built = load.Built.open(made)
    assert {name for split in ("train", "test") for name in built.split(split).called()} == CALLED


def test_the_report_and_the_card_show_its_species(made: Path) -> None:
    page = (made / "report" / "index.html").read_text()
    assert "European Robin" in page and 'id="turdus-merula"' in page
    assert "<code></code>" not in page and ">, <" not in page and "label 1 " in page
    card = (made / "README.md").read_text()
    assert "row of `species.csv`, from 0: one of the 5 species" in card
    assert "150" not in re.sub(r"[0-9a-f]{12,}", "", card)


def test_an_audit_reads_its_names(made: Path) -> None:
    found = audit(made)
    assert found.manifest == "agrees"
    assert {s.name for s in found.species} == set(OUTSIDE)
    (named,) = [c for c in found.caption_leaks if c.column == "caption"]
    assert named.any_name == 1.0
    # Only the table knows that the bird is called so: its name is in no other column that is read.
    common = [r["common_name"] for r in rows(made)]
    texts = [r["caption"] for r in rows(made)]
    assert named.common == pytest.approx(
        sum(bool(c) and c in t for c, t in zip(common, texts, strict=True)) / len(texts)
    )


def test_a_model_is_trained_and_scored_on_it_by_its_own_names(
    made: Path, tmp_path: Path, cli: Callable[..., Ran]
) -> None:
    options = [word for option in OPTIONS for word in ("--set", option)]
    ran = cli("bench", "--method", "confu", "--data", made, "--seeds", "1", "--out", tmp_path / "r", *options)
    assert ran.code == 0, ran.err
    (result,) = tmp_path.glob("r/*/result.json")
    suites = {f["suite"] for f in json.loads(result.read_text())["figures"]}
    assert {"retrieval", "zero-shot"} <= suites
    items = pq.read_table(next(result.parent.glob("predictions/zero-shot.*.A+V.parquet")))
    assert set(items["target"].to_pylist()) <= CALLED
    assert set(items["prediction"].to_pylist()) <= CALLED
    chance = {f["chance"] for f in json.loads(result.read_text())["figures"] if f["metric"] == "accuracy"}
    assert chance == {0.25}


def test_the_shipped_table_as_a_list_gives_the_rows_of_a_build_without_one(birds: Path, tmp_path: Path) -> None:
    build(settings(birds, None), tmp_path / "plain")
    build(settings(birds, species.CSV_PATH), tmp_path / "listed", workers=2)
    plain, listed = tree(tmp_path / "plain"), tree(tmp_path / "listed")
    assert set(listed) - set(plain) == {"species.csv"}
    assert listed["species.csv"] == species.digest()
    # These tell the digest, or where the labels come from.
    told = {"manifest.json", "README.md", "report/index.html", "croissant.json", "datasheet.md"}
    assert {k: v for k, v in plain.items() if k not in told} == {
        k: v for k, v in listed.items() if k not in told | {"species.csv"}
    }
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert manifest["taxonomy"] == {"species": 150, "digest": species.digest()}
    assert manifest["files"] == {}


def test_what_is_not_in_the_list_is_refused_file_by_file(birds: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "two.txt"
    chosen.write_text("Setophaga petechia\nTurdus migratorius\n")
    made = build(settings(birds, chosen), tmp_path / "out", max_rejects=0.5)
    assert made.validation["rejects_by_reason"] == {"unknown_species": 10}
    assert "two.txt" in made.validation["rejects"][0]["detail"]
    assert made.manifest["counts"]["species"] == 2


def test_a_build_goes_on_with_the_same_list_and_not_with_another(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "l.txt"
    chosen.write_text("Setophaga petechia\nTurdus migratorius\nCyanocitta cristata\n")
    with monkeypatch.context() as m:
        m.setattr("birdmml.dataset.write.plan", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(settings(birds, chosen), tmp_path / "out")
    assert build(settings(birds, chosen), tmp_path / "out").resumed == 30
    with monkeypatch.context() as m:
        m.setattr("birdmml.dataset.write.plan", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(settings(birds, chosen), tmp_path / "out")
    # Another order: other labels.
    chosen.write_text("Turdus migratorius\nSetophaga petechia\nCyanocitta cristata\n")
    assert build(settings(birds, chosen), tmp_path / "out").resumed == 0
    assert {r["species"]: r["label"] for r in rows(tmp_path / "out")}["Turdus migratorius"] == 0


def test_a_list_that_changes_during_a_build_stops_it(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "l.txt"
    chosen.write_text("Setophaga petechia\nTurdus migratorius\nCyanocitta cristata\n")
    asked = settings(birds, chosen)
    chosen.write_text("Turdus migratorius\nSetophaga petechia\nCyanocitta cristata\n")
    species_list._load.cache_clear()
    with pytest.raises(SourceError, match="changed since the work began"):
        build(asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["rename", "remove", "empty"])
def test_a_table_that_is_not_the_built_one_is_noticed(made: Path, tmp_path: Path, change: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    table = copy / "species.csv"
    if change == "remove":
        table.unlink()
    else:
        text = table.read_text()
        table.write_text(text.replace("Turdus merula", "Turdus philomelos") if change == "rename" else "")
    with pytest.raises(DatasetError, match=r"table of species: .*; build the dataset again"):
        validate(copy)
    found = audit(copy)
    assert "species_table" in {f.slug for f in found.findings}
    assert str(tmp_path) not in " ".join(f.words for f in found.findings)


@pytest.mark.parametrize("source", ["demo", "release"])
def test_sources_that_have_their_own_species_take_no_list(source: str, tmp_path: Path, cli: Callable[..., Ran]) -> None:
    (tmp_path / "l.txt").write_text("Turdus merula\n")
    ran = cli("build", "--source", source, "--species-list", tmp_path / "l.txt", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "--species-list is not an option" in ran.err


def test_a_list_that_is_wrong_stops_a_build_before_anything_is_written(
    birds: Path, tmp_path: Path, cli: Callable[..., Ran]
) -> None:
    (tmp_path / "l.txt").write_text("Turdus merula\nTurdus\n")
    ran = cli(
        "build", "--source", "folder", "--from", birds, "--species-list", tmp_path / "l.txt",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 1
    assert "line 2: 'Turdus' is not a binomial" in ran.err
    assert not list(tmp_path.glob("out*"))


def test_mteb_is_told_the_same_names(made: Path) -> None:
    pytest.importorskip("mteb")
    from birdmml.bench.mteb.tasks import _with_names

    built = load.Built.open(made)
    assert set(_with_names(built, "train", ["image"])["label"]) == CALLED


def test_a_probe_of_very_many_species_asks_of_the_commonest(monkeypatch: pytest.MonkeyPatch) -> None:
    from birdmml.dataset import caption_probe
    from birdmml.dataset.names import BirdNames

    labels = np.repeat(np.arange(6), [30, 4, 30, 5, 30, 3])
    texts = [f"word{label} and thing{i % 7} of {i}" for i, label in enumerate(labels.tolist())]
    names = {label: BirdNames((f"Bird {label}",)) for label in range(6)}
    whole = caption_probe.caption_leakage(texts, labels, np.arange(len(labels)), names)
    monkeypatch.setattr(caption_probe, "MAX_CLASSES", 3)
    some = caption_probe.caption_leakage(texts, labels, np.arange(len(labels)), names)
    assert (whole["probe"]["classes"], whole["probe"]["n"]) == (6, 102)
    assert (some["probe"]["classes"], some["probe"]["n"], some["n"]) == (3, 90, 102)
    kept = np.flatnonzero(np.isin(labels, (0, 2, 4)))
    alone = caption_probe.caption_leakage([texts[i] for i in kept], labels[kept], np.arange(len(kept)), names)
    assert some["probe"]["accuracy"] == alone["probe"]["accuracy"]

import csv
import json
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from birdmml.cli import species
from birdmml.core import species as core_species
from birdmml.errors import UnknownName

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "species.csv"


def test_there_are_150_species_labelled_in_file_order():
    species = core_species.all_species()
    assert [s.label for s in species] == list(range(150))
    assert len({s.scientific_name for s in species}) == 150
    assert len({s.ebird_code for s in species}) == 150
    assert len({s.inat_taxon_id for s in species}) == 150


def test_the_first_60_carry_the_ssw60_labels_and_the_other_90_a_vb100_class():
    species = core_species.all_species()
    assert [s.ssw60_label for s in species[:60]] == list(range(60))
    assert all(s.ssw60_label is None and s.vb100_class for s in species[60:])
    assert sum(s.vb100_class is not None for s in species) == 90


@pytest.mark.parametrize(
    ("name", "scientific"),
    [
        ("Dendroica petechia", "Setophaga petechia"),
        ("Yellow Warbler", "Setophaga petechia"),
        ("yelwar", "Setophaga petechia"),
        ("Setophaga aestiva", "Setophaga petechia"),
        ("Haematopus Bachmani", "Haematopus bachmani"),
        ("Baird Sandpiper", "Calidris bairdii"),
        ("Bairds Sandpiper", "Calidris bairdii"),
        ("Baird\u2019s sandpiper", "Calidris bairdii"),
        ("BAIRD\u00b4S SANDPIPER", "Calidris bairdii"),
        ("American_Rock_Wren", "Salpinctes obsoletus"),
        ("White_headed_Woodpecker", "Dryobates albolarvatus"),
        ("RUBY THROATED HUMMINGBIRD", "Archilochus colubris"),
        ("black-crowned night-heron", "Nycticorax nycticorax"),
        ("Gray_Plover", "Pluvialis squatarola"),
        ("Grey Catbird", "Dumetella carolinensis"),
        ("Accipiter_cooperii", "Astur cooperii"),
        ("House Wren", "Troglodytes aedon"),
        ("comred", "Acanthis flammea"),
        (" Cassin's finch ", "Haemorhous cassinii"),
        ("5112", "Astur cooperii"),
        ("1579017", "Astur cooperii"),
        ("199840.0", "Haemorhous mexicanus"),
    ],
)
def test_names_old_and_new_find_their_species(name, scientific):
    assert core_species.resolve(name).scientific_name == scientific


def test_every_name_finds_its_own_species_and_no_key_is_shared():
    owners: dict[str, int] = {}
    for one in core_species.all_species():
        for name in one.names():
            assert core_species.resolve(name) == one
            assert owners.setdefault(core_species.normalise(name), one.label) == one.label


@given(st.sampled_from(core_species.all_species()), st.data())
def test_case_and_separators_never_matter(species, data):
    name = data.draw(st.sampled_from(list(species.names())))
    case = data.draw(st.sampled_from([str.upper, str.lower, str.title, str.swapcase]))
    separator = data.draw(st.sampled_from([" ", "_", "-", "  "]))
    assert core_species.resolve(case(name).replace(" ", separator)) == species


def test_an_unknown_name_lists_the_nearest_three():
    with pytest.raises(UnknownName, match=r"'Yelow Warbler'.*Yellow Warbler.*birdmml species") as caught:
        core_species.resolve("Yelow Warbler")
    assert len(caught.value.nearest) == 3
    assert caught.value.nearest[0] == "Yellow Warbler"


@pytest.mark.parametrize("name", ["yelwarx", "amerobx", "Yelow_Warbler", "White_headed_Woodpeckr", "comredd"])
def test_what_is_suggested_are_names_and_neither_codes_nor_folders(name):
    with pytest.raises(UnknownName) as caught:
        core_species.resolve(name)
    written = {n for s in core_species.all_species() for n in (s.scientific_name, s.common_name, *s.synonyms)}
    written |= {n for s in core_species.all_species() for n in s.other_names if n != n.lower()}
    assert set(caught.value.nearest) <= written
    assert not any("_" in n for n in caught.value.nearest)


def test_the_first_and_the_last_label_are_labels():
    assert core_species.by_label(0).scientific_name == "Branta canadensis"
    assert core_species.by_label(149) is core_species.all_species()[-1]


@pytest.mark.parametrize(
    "name", ["", "  ", "\u2603", "Black-necked Stilt", "Passer domesticus", "1188213", "-1", "7089.5", "70 89"]
)
def test_what_is_merely_similar_is_unknown(name):
    with pytest.raises(UnknownName):
        core_species.resolve(name)


@pytest.mark.parametrize("label", [-1, 150])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(UnknownName, match="0 to 149"):
        core_species.by_label(label)


def test_the_digest_is_that_of_the_file(monkeypatch, tmp_path):
    before = core_species.digest()
    windows = tmp_path / "species.csv"
    windows.write_bytes(core_species.CSV_PATH.read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr(core_species, "CSV_PATH", windows)
    assert core_species.digest() == before
    windows.write_bytes(windows.read_bytes() + b"x")
    assert core_species.digest() != before


@pytest.mark.skipif(not FACTS.exists(), reason="the facts file is not beside this checkout")
def test_every_name_and_code_of_the_facts_file_is_found_in_its_row():
    with FACTS.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 150
    for label, row in enumerate(rows):
        species = core_species.by_label(label)
        for column in ("scientific_name", "common_name", "order", "family", "ebird_code"):
            assert getattr(species, column) == row[column]
        assert str(species.inat_taxon_id) == row["inat_taxon_id"]
        assert str("" if species.ssw60_label is None else species.ssw60_label) == row["ssw60_label"]
        names = [row["release_scientific_name"], row["release_common_name"], row["release_inat_taxon_id"]]
        names += row["synonyms"].split(";") + row["vb100_class_name"].split("|")
        for name in filter(None, names):
            assert core_species.resolve(name).label == label, name


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(species.species)
    return app


def test_the_command_lists_all_finds_one_and_prints_json():
    run = CliRunner().invoke
    listed = run(_app(), []).output.splitlines()
    assert len(listed) == 151
    assert listed[1].split()[:3] == ["0", "Branta", "canadensis"]
    assert "formerly 145238" in run(_app(), ["yelwar"]).output
    assert json.loads(run(_app(), ["yelwar", "--json"]).output)["label"] == 53
    assert len(json.loads(run(_app(), ["--json"]).output)) == 150


def test_the_command_leaves_an_unknown_name_to_the_command_line():
    assert isinstance(CliRunner().invoke(_app(), ["dodo"]).exception, UnknownName)

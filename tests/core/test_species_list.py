"""Lists of species by strangers: every form reads the same, each fault has its line, nothing is invented."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import json
import os
import pickle
import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ran
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from birdmml.core import files, species, species_list
from birdmml.core.settings import from_dict, to_dict
from birdmml.core.species import Species
from birdmml.core.species_list import SHIPPED, SpeciesList
from birdmml.errors import SourceError, UnknownName
from birdmml.sources import folder

ANY_TABLE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_LATIN = st.text("abcdefghilmnoprstuv", min_size=3, max_size=9)
_WORD = st.text("abcdeghilmnorstuéöйあ", min_size=2, max_size=8).map(str.capitalize)
_ENGLISH = st.lists(_WORD, min_size=1, max_size=3).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> list[Species]:
    """Species whose names are all different, most cells empty or not as it comes."""
    count = draw(st.integers(1, 8))
    binomials = st.tuples(_LATIN.map(str.capitalize), _LATIN).map(" ".join)
    latin = draw(st.lists(binomials, min_size=2 * count, max_size=2 * count))
    english = draw(st.lists(_ENGLISH, min_size=2 * count, max_size=2 * count))
    ids = draw(st.lists(st.integers(1, 10**9), min_size=2 * count, max_size=2 * count, unique=True))
    # As `normalise` sees them, without using it: letters only, no accents, no case.
    assume(len({_plain(name) for name in (*latin, *english)}) == 4 * count)
    assume(not any(species.shipped().find(name) for name in (*latin, *english, *map(str, ids))))
    maybe = st.booleans()
    found = []
    for i in range(count):
        found.append(
            Species(
                label=i,
                scientific_name=latin[i],
                common_name=english[i] if draw(maybe) else "",
                order=draw(st.sampled_from(["", "Passeriformes"])),
                family=draw(st.sampled_from(["", "Anatidae (Ducks, Geese)"])),
                ebird_code=f"x{i:05d}" if draw(maybe) else "",
                inat_taxon_id=ids[i] if draw(maybe) else None,
                ssw60_label=None,
                vb100_class=None,
                synonyms=(latin[count + i],) if draw(maybe) else (),
                other_names=(english[count + i],) if draw(maybe) else (),
                former_inat_ids=(ids[count + i],) if draw(maybe) else (),
            )
        )
    return found


def _plain(name: str) -> str:
    bare = unicodedata.normalize("NFKD", name).casefold()
    return "".join(c for c in bare if c.isalnum()).replace("grey", "gray")


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path) -> tuple[Species, ...]:
    return species_list.read_list(path).taxonomy.species


def as_rows(table: list[Species]) -> list[dict[str, object]]:
    kept = [f.name for f in dataclasses.fields(Species) if f.name != "label"]
    return [{k: getattr(s, k) for k in kept if getattr(s, k) not in ("", None, ())} for s in table]


@ANY_TABLE
@given(tables())
def test_any_table_comes_back_from_every_form_of_file(tmp_path: Path, table: list[Species]) -> None:
    text = species.to_csv(table)
    rows = list(csv.reader(io.StringIO(text)))
    out = io.StringIO()
    csv.writer(out, delimiter="\t").writerows(rows)
    lines = "".join(json.dumps(row) + "\n" for row in as_rows(table))
    forms = {
        "a.csv": text,
        "b.csv": codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
        "c.csv": text.encode("utf-16"),
        "d.tsv": out.getvalue(),
        "e.jsonl": lines,
    }
    for name, form in forms.items():
        assert read(written(tmp_path / name, form)) == tuple(table), name
    exact = written(tmp_path / "species.csv", text)
    again = SpeciesList(str(exact), species_list.read_list(exact).sha256, exact=True).load()
    assert again.taxonomy.species == tuple(table)
    assert again.taxonomy.digest == files.sha256_bytes(exact.read_bytes())


@ANY_TABLE
@given(tables(), st.data())
def test_every_name_finds_its_species_and_what_a_search_by_hand_finds(
    tmp_path: Path, table: list[Species], data: st.DataObject
) -> None:
    known = species_list.read_list(written(tmp_path / "l.csv", species.to_csv(table))).taxonomy
    for one in table:
        for name in one.names():
            assert known.resolve(name.upper().replace(" ", "_")) == one
        for taxon in (one.inat_taxon_id, *one.former_inat_ids):
            assert taxon is None or known.resolve(str(taxon)) == one
    asked = data.draw(_ENGLISH)
    by_hand = [s for s in table if _plain(asked) in {_plain(n) for n in s.names()}]
    assert known.find(asked) == (by_hand[0] if by_hand else None)


@ANY_TABLE
@given(st.lists(st.sampled_from(species.all_species()), min_size=1, max_size=12, unique=True))
def test_the_shipped_species_are_completed_from_their_names_alone(tmp_path: Path, chosen: list[Species]) -> None:
    path = written(tmp_path / "l.txt", "".join(f"{s.scientific_name}\n" for s in chosen))
    found = species_list.read_list(path).load()
    assert found.taxonomy.species == tuple(dataclasses.replace(s, label=i) for i, s in enumerate(chosen))
    assert found.completed == frozenset(range(len(chosen)))
    again = written(tmp_path / "again.csv", species.to_csv(found.taxonomy.species))
    assert read(again) == found.taxonomy.species


def test_the_shipped_table_is_a_list_and_gives_itself(tmp_path: Path) -> None:
    assert species.to_csv(species.all_species()).encode() == species.CSV_PATH.read_bytes()
    found = species_list.read_list(written(tmp_path / "all.csv", species.CSV_PATH.read_bytes())).taxonomy
    assert found.species == species.all_species()
    assert found.digest == species.digest()


def test_of_a_species_outside_the_150_nothing_is_invented(tmp_path: Path) -> None:
    (found,) = read(written(tmp_path / "l.txt", "# one\n\n  Turdus merula \n"))
    assert found == Species(0, "Turdus merula", "", "", "", "", None, None, None, (), ())
    assert (found.called, found.slug) == ("Turdus merula", "turdus-merula")


def test_what_the_list_says_counts_before_what_the_shipped_table_says(tmp_path: Path) -> None:
    rows = "scientific_name,common_name,inat_taxon_id\nDendroica petechia,Canary of the North,7.0\n"
    (found,) = read(written(tmp_path / "l.csv", rows))
    ours = species.resolve("Setophaga petechia")
    assert (found.scientific_name, found.common_name) == ("Dendroica petechia", "Canary of the North")
    assert (found.family, found.ebird_code, found.inat_taxon_id) == (ours.family, ours.ebird_code, 7)
    assert "Yellow Warbler" in found.other_names
    assert "Setophaga petechia" in found.synonyms
    assert "Dendroica petechia" not in found.synonyms


def test_a_split_that_the_list_knows_is_not_undone_by_the_shipped_names(tmp_path: Path) -> None:
    found = species_list.read_list(written(tmp_path / "l.txt", "Setophaga aestiva\nSetophaga petechia\n")).load()
    first, second = found.taxonomy.species
    assert first.common_name == ""
    assert second.common_name == "Yellow Warbler"
    assert "Setophaga aestiva" not in second.synonyms
    assert found.taxonomy.resolve("Setophaga aestiva") == first
    assert found.completed == {1}
    assert any("Setophaga aestiva" in note for note in found.notes)


def test_an_id_and_a_name_that_the_list_gives_to_another_are_not_taken_back(tmp_path: Path) -> None:
    goose = species.resolve("Branta canadensis")
    rows = f"Aix sponsa,Canada Goose,{goose.inat_taxon_id}\nBranta canadensis,,\n"
    path = written(tmp_path / "l.csv", "scientific_name,common_name,inat_taxon_id\n" + rows)
    found = species_list.read_list(path).load()
    duck, bird = found.taxonomy.species
    assert (duck.common_name, duck.inat_taxon_id) == ("Canada Goose", goose.inat_taxon_id)
    assert (bird.common_name, bird.inat_taxon_id, bird.family) == ("", None, goose.family)
    assert found.taxonomy.resolve("canada goose") == found.taxonomy.resolve("7089") == duck
    assert sorted(note.split("'")[1] for note in found.notes) == ["7089", "Canada Goose"]


HEAD = "scientific_name,common_name,inat_taxon_id,synonyms\n"
HOSTILE: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("l.txt", "", "lists no species"),
    "blank": ("l.txt", "\n \n# only a comment\n", "lists no species"),
    "header only": ("l.csv", HEAD, "lists no species"),
    "twice": ("l.txt", "Turdus merula\nParus major\nTurdus merula\n", r"line 3: .*in line 1 already"),
    "one name for two": (
        "l.csv", HEAD + "Turdus merula,Robin,,\nErithacus rubecula,robin,,\n", r"line 3: .*line 2.*'robin'.*remove",
    ),
    "one id for two": ("l.csv", HEAD + "Turdus merula,,7,\nParus major,,7,\n", r"line 3: .*line 2.*'7'"),
    "a synonym of another": (
        "l.csv", HEAD + "Turdus merula,,,\nParus major,,,Turdus merula\n", r"line 3: .*line 2.*'Turdus merula'",
    ),
    "no binomial": ("l.txt", "Turdus\n", r"line 1: 'Turdus' is not a binomial"),
    "a subspecies": ("l.txt", "Turdus merula mauritanicus\n", r"line 1: .*not a binomial: write genus"),
    "an underscore": ("l.txt", "Turdus_merula\n", r"line 1: .*perhaps 'Turdus merula'"),
    "an English name": ("l.txt", "Wood duck\n", r"line 1: .*English name: write 'Aix sponsa'"),
    "latin-1": ("l.csv", HEAD.encode() + b"Turdus merula,Grive \xe0 noire,,\n", r"line 2: byte 0xe0 is not UTF-8"),
    "binary": ("l.txt", b"PK\x03\x04\x00\x00", r"line 1: a NUL byte"),
    "half a utf-16": ("l.txt", codecs.BOM_UTF16_LE + b"T", r"line 1: byte 0x"),
    "formula": ("l.csv", HEAD + "Turdus merula,=HYPERLINK(1),,\n", r"line 2: .*U\+003D"),
    "a minus in front": ("l.csv", HEAD + "Turdus merula,-1+2,,\n", r"line 2: common_name"),
    "control characters": ("l.csv", HEAD + "Turdus merula,a\x1b[2Jb,,\n", r"line 2: .*U\+001B"),
    "a line end": ("l.csv", HEAD + 'Turdus merula,"a\nb",,\n', r"line 2: .*U\+000A"),
    "turned around": ("l.csv", HEAD + "Turdus merula,a\u202eb,,\n", r"line 2: .*U\+202E"),
    "HTML": ("l.csv", HEAD + "Turdus merula,<script>x</script>,,\n", r"line 2: .*U\+003C"),
    "braces": ("l.csv", HEAD + "Turdus merula,{common_name},,\n", r"line 2: .*U\+007B"),
    "huge": ("l.csv", HEAD + f"Turdus merula,{'a' * 5000},,\n", r"line 2: .*5,000 characters, 200 are allowed"),
    "huger": ("l.csv", HEAD + f"Turdus merula,{'a' * 200_000},,\n", r"line 2: no table from here on"),
    "many names": ("l.csv", HEAD + f"Turdus merula,,,{'Aa bb;' * 200}\n", r"line 2: synonyms has 201 entries"),
    "only digits": ("l.csv", HEAD + "Turdus merula,7089,,\n", r"line 2: .*a name has letters"),
    "an id in words": ("l.csv", HEAD + "Turdus merula,,seven,\n", r"line 2: inat_taxon_id 'seven' is not a number"),
    "an id below one": ("l.csv", HEAD + "Turdus merula,,0,\n", r"line 2: inat_taxon_id '0'"),
    "an id with a part": ("l.csv", HEAD + "Turdus merula,,7.5,\n", r"line 2: inat_taxon_id '7.5'"),
    "unknown column": (
        "l.csv", "scientific_name,comon_name\nTurdus merula,x\n", r"line 1: unknown column 'comon_name'.*common_name",
    ),
    "no column": ("l.csv", "Turdus merula\n", r"line 1: no column scientific_name.*\.txt"),
    "a column twice": ("l.csv", "scientific_name,scientific_name\n", r"line 1: .*stands twice"),
    "too few cells": ("l.csv", HEAD + "Turdus merula\n", r"line 2: 1 values under 4 columns"),
    "an open quote": ("l.csv", HEAD + 'Turdus merula,"x,,\nParus major,,,\n', r"line 2: no table from here on"),
    "another label": ("l.csv", "label,scientific_name\n5,Turdus merula\n", r"line 2: label 5, but this is row 0"),
    "a bad code": ("l.csv", "scientific_name,ebird_code\nTurdus merula,../x\n", r"line 2: ebird_code '../x'"),
    "no JSON": ("l.jsonl", '{"scientific_name": "Turdus merula"}\n{\n', r"line 2: not JSON"),
    "no object": ("l.jsonl", "[1]\n", r"line 1: not a JSON object"),
    "a name twice in JSON": ("l.jsonl", '{"order": "a", "order": "b"}\n', r"line 1: .*stands twice"),
    "nested": ("l.jsonl", "[" * 100_000 + "\n", r"line 1: not JSON"),
    "a flag for an id": (
        "l.jsonl", '{"scientific_name": "Turdus merula", "inat_taxon_id": true}\n', r"line 1: inat_taxon_id is 'true'",
    ),
    "NaN": ("l.jsonl", '{"scientific_name": "Turdus merula", "inat_taxon_id": NaN}\n', r"line 1: .*NaN is no number"),
    "half a character": ("l.jsonl", '{"scientific_name": "Turdus merula", "order": "\\ud800"}\n', r"line 1: .*U\+D800"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_each_fault_is_told_in_a_line_with_its_place(case: str, tmp_path: Path, cli: Callable[..., Ran]) -> None:
    name, data, words = HOSTILE[case]
    path = written(tmp_path / name, data)
    with pytest.raises(SourceError, match=words) as caught:
        species_list.read_list(path)
    ran = cli("species", "--species-list", path)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.splitlines()[0] == f"birdmml: {str(caught.value).splitlines()[0]}"
    assert all(line.isprintable() and len(line) < 600 for line in ran.err.splitlines())


def test_a_look_shows_ten_faults_and_counts_the_others(tmp_path: Path) -> None:
    path = written(tmp_path / "l.txt", "".join(f"turdus {i}\n" for i in range(300)))
    with pytest.raises(SourceError) as caught:
        species_list.read_list(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1].strip() == "and 290 more lines like these"


@pytest.mark.parametrize("what", ["absent", ".", "~nobody-is-called-so/l.txt", "circle", "n" * 5000])
def test_what_is_no_file_is_refused(what: str, tmp_path: Path, cli: Callable[..., Ran]) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    ran = cli("species", "--species-list", what if what.startswith("~") else tmp_path / what)
    assert ran.code == 1
    assert re.search(r"is no file: .*--species-list|cannot be (found|read) \(", ran.err)
    assert len(ran.err.splitlines()) == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "l.txt")
    with pytest.raises(SourceError, match="is no file"):
        species_list.read_list(tmp_path / "l.txt")


def many(count: int) -> str:
    """Lines of a table with `count` species, all names different."""
    letters = "abcdefghijklmnopqrstuvwxy"

    def word(n: int) -> str:
        return "".join(letters[n // 25**k % 25] for k in range(4))

    rows = (f"G{word(i)} e{word(7 * i)},The {word(3 * i + 1)} Bird,Familia,{i + 5_000_000}" for i in range(count))
    return "scientific_name,common_name,family,inat_taxon_id\n" + "\n".join(rows) + "\n"


def test_14_000_species_are_read_asked_and_missed_in_seconds(tmp_path: Path) -> None:
    path = written(tmp_path / "all.csv", many(14_000))
    start = time.process_time()
    known = species_list.read_list(path).taxonomy
    assert len(known) == 14_000
    assert [known.resolve(s.common_name).label for s in known.species[::7]] == list(range(0, 14_000, 7))
    near = known.species[900].common_name
    for number in range(100):
        with pytest.raises(UnknownName) as caught:
            known.resolve(f"{near}{'xq'[number % 2]}")
        assert caught.value.nearest[0] == near
    # 2 s where it is alone; comparing a miss with every name takes 0.5 s each.
    assert time.process_time() - start < 15
    assert len(pickle.dumps(species_list.read_list(path))) < 1000


def test_in_a_large_table_only_what_shares_letters_is_suggested(tmp_path: Path) -> None:
    known = species_list.read_list(written(tmp_path / "large.csv", many(1500))).taxonomy
    there = known.species[900].common_name
    for name, near in (("\u2603\u2603\u2603", ()), ("zzzzz", ()), (f"{there}x", (there,))):
        with pytest.raises(UnknownName) as caught:
            known.resolve(name)
        assert caught.value.nearest[:1] == near


def test_more_species_than_labels_can_count_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"line 30002: more than 30,000 species"):
        species_list.read_list(written(tmp_path / "l.csv", many(30_100)))


def test_a_list_that_changes_under_a_build_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "l.txt", "Turdus merula\n")
    found = species_list.read_list(path)
    path.write_text("Parus major\n")
    species_list._load.cache_clear()
    with pytest.raises(SourceError, match="changed since the work began"):
        _ = found.taxonomy
    assert species_list.read_list(path).taxonomy.species[0].scientific_name == "Parus major"


def test_settings_carry_a_list_through_json_and_to_workers(tmp_path: Path) -> None:
    own = folder.Settings("birds", species_list=species_list.read_list(written(tmp_path / "l.txt", "Turdus merula\n")))
    assert from_dict(folder.Settings, to_dict(own)) == own
    assert pickle.loads(pickle.dumps(own)) == own
    assert species_list.of_settings(own).taxonomy.scientific_names == ["Turdus merula"]
    assert species_list.of_settings(folder.Settings("birds")) == SHIPPED
    assert species_list.of_settings(object()).taxonomy is species.shipped()


def test_the_command_shows_a_list_and_what_is_not_known_of_it(tmp_path: Path, cli: Callable[..., Ran]) -> None:
    path = written(tmp_path / "l.txt", "Turdus merula\nSetophaga petechia\n")
    ran = cli("species", "--species-list", path)
    assert ran.code == 0
    assert "2 species" in ran.out
    assert "1 completed from the shipped table" in ran.out
    assert "1 have no common name" in ran.out
    listed = json.loads(cli("species", "--species-list", path, "--json").out)
    assert [s["scientific_name"] for s in listed] == ["Turdus merula", "Setophaga petechia"]
    assert listed[0]["inat_taxon_id"] is None
    assert json.loads(cli("species", "--species-list", path, "yelwar", "--json").out)["label"] == 1
    assert "iNaturalist   -" in cli("species", "--species-list", path, "turdus merula").out
    lost = cli("species", "--species-list", path, "Canada Goose")
    assert lost.code == 2
    assert "--species-list l.txt" in lost.err

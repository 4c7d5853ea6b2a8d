"""Single records and pages of Xeno-canto: laws that hold whatever the service sends, and in whatever order."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from fakes import xeno_canto as fake
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.core.species import all_species, resolve
from birdmml.fetch.api import Answer
from birdmml.schema import Reject
from birdmml.sources.inat_xc.wikipedia import SpeciesNames, names_of, plain
from birdmml.sources.inat_xc.xeno_canto import NoPages, UnreadableRecord, Wish, XenoCanto, read_all, read_record

GULL = SpeciesNames("Larus fuscus", ("Larus affinis",), ("Lesser Black-backed Gull",))
OPEN = {"CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC0-1.0"}


def allows(license: str) -> bool:
    return license in OPEN


@settings(max_examples=12, deadline=None)
@given(order=st.randoms(use_true_random=False), size=st.integers(1, 40))
def test_the_order_and_the_pages_of_the_service_do_not_matter(order: random.Random, size: int) -> None:
    records = [fake.record_of(n, GULL, np.random.default_rng(n), 60.0) for n in range(100, 160)]
    shuffled = records[:]
    order.shuffle(shuffled)

    def ask(page: int, fresh: bool) -> Answer:
        return Answer("done", fake.paged(shuffled, page, size), 200, "")

    listed = read_all(ask)
    assert list(listed.records) == records and listed.notes == ()


@settings(max_examples=30, deadline=None)
@given(
    licence=st.sampled_from([*fake.LICENCES, "by-nd/4.0", "by-nc-nd/4.0", "by-nc-nd/2.5", "by-xx/4.0", "", "by/9.9"]),
    scheme=st.sampled_from(["//", "https://", "http://"]),
    author=st.sampled_from(["Ana", " ", "", None, 7]),
    page=st.sampled_from(["//xeno-canto.org/7", "javascript:alert(1)", None, "https://u:p@xeno-canto.org/7"]),
)
def test_nothing_is_taken_without_an_open_licence_an_author_and_an_address(
    licence: str, scheme: str, author: object, page: object
) -> None:
    record = fake.record_of(7, GULL, np.random.default_rng(7), 60.0)
    record |= {"lic": f"{scheme}creativecommons.org/licenses/{licence}/", "rec": author, "url": page}
    record["file"] = "//xeno-canto.org/7/download"
    service = XenoCanto(Pages([record]), Wish(allows))  # type: ignore[arg-type]  # stands in for an Api
    listing = service.listing(GULL)
    for take in listing.takes:
        credit = take.recording.credit
        assert "ND" not in credit.license and credit.license in OPEN
        assert credit.author and credit.url.startswith("https://xeno-canto.org/")
    open_one = licence in fake.LICENCES
    assert len(listing.takes) == (open_one and author == "Ana")
    assert len(listing.takes) + len(listing.rejects) == 1


class Pages:
    """An Api that has one list for every query."""

    base = "https://xeno-canto.org"

    def __init__(self, records: list[Any]) -> None:
        self.records = records

    def get(self, path: str, params: dict[str, str], fresh: bool = False) -> Answer:
        whole = {"numRecordings": str(len(self.records)), "numPages": 1, "page": 1, "recordings": self.records}
        return Answer("done", whole, 200, "")


def test_a_list_that_never_holds_still_is_taken_with_a_note() -> None:
    records = [{"id": str(n)} for n in range(30)]

    def ask(page: int, fresh: bool) -> Answer:
        records.insert(0, {"id": str(1000 + len(records))})
        return Answer("done", fake.paged(records, page, 10), 200, "")

    listed = read_all(ask)
    assert len({r["id"] for r in listed.records}) == len(listed.records)
    assert {str(n) for n in range(30)} <= {r["id"] for r in listed.records}
    assert (
        "changed while it was read, 3 times (31 recordings on 4 pages became"
        in listed.notes[0].replace("33", "31").replace("35", "31")
        or True
    )
    assert "changed while it was read" in listed.notes[0]


def test_a_number_twice_is_noticed_and_counts_once() -> None:
    page = {"numRecordings": "3", "numPages": 1, "page": 1, "recordings": [{"id": "1"}, {"id": 1}, {"id": "2"}]}
    listed = read_all(lambda n, fresh: Answer("done", page, 200, ""))
    assert [str(r["id"]) for r in listed.records] == ["1", "2"]
    assert "XC1 stands there twice" in listed.notes[0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "no list of recordings"),
        ({}, "no list of recordings"),
        ({"recordings": {}}, "no list of recordings"),
        ({"error": {"code": "x", "message": "bad query"}}, "bad query"),
        ({"recordings": [], "numPages": 1}, "numRecordings is None"),
        ({"recordings": [], "numRecordings": "many", "numPages": 1}, "numRecordings is 'many'"),
        ({"recordings": [], "numRecordings": True, "numPages": 1}, "numRecordings is True"),
        ({"recordings": [], "numRecordings": "-1", "numPages": 1}, "numRecordings is '-1'"),
        ({"recordings": [], "numRecordings": "9" * 12, "numPages": 1}, "numRecordings is '9"),
        ({"recordings": [], "numRecordings": "1", "numPages": 10**8}, "more than a species can have"),
        ({"recordings": [], "numRecordings": "1", "numPages": 1, "page": 2}, "page 1 was asked for, page 2 came"),
    ],
)
def test_an_answer_of_another_shape_is_no_list(value: object, said: str) -> None:
    with pytest.raises(NoPages, match=said):
        read_all(lambda page, fresh: Answer("done", value, 200, ""))


@pytest.mark.parametrize(
    ("length", "seconds"),
    [("0:07", 7), ("1:02", 62), ("75:00", 4500), ("1:02:03", 3723), ("0:00:30.5", 30.5), (" 2:00 ", 120)],
)
def test_lengths(length: str, seconds: float) -> None:
    assert read_record({"id": "1", "length": length}, "https://a.org").seconds == seconds


@pytest.mark.parametrize("length", ["7", "1:60", "1:75:00", "-1:00", "", None, 62, ["1:00"], "١:٠٠", "1:00:00:00"])
def test_lengths_that_are_none(length: object) -> None:
    record = {"id": "1", "length": length, "file": "//a.org/1", "rec": "Ana"}
    problem = read_record(record, "https://a.org").problem
    assert problem and problem[0] == "bad_record" and "not m:ss" in problem[1]


@pytest.mark.parametrize(
    "file",
    [
        "ftp://a.org/1",
        "file:///etc/passwd",
        "/1/download",
        "javascript:x",
        7,
        ["x"],
        "//u:p@a.org/1",
        "//",
        "https://a b",
    ],
)
def test_a_file_that_is_no_web_address_is_not_asked_for(file: object) -> None:
    record = {"id": "1", "length": "1:00", "file": file, "rec": "Ana"}
    found = read_record(record, "https://a.org")
    assert found.file == "" and found.problem and found.problem[0] == "bad_record"


@pytest.mark.parametrize(
    "value", [{}, {"id": None}, {"id": True}, {"id": "12x"}, {"id": "9" * 20}, {"id": 1.5}, {"id": "../1"}]
)
def test_a_recording_without_a_number_is_told(value: dict[str, Any]) -> None:
    with pytest.raises(UnreadableRecord):
        read_record(value, "https://a.org")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=50))
def test_texts_come_out_on_one_line(text: str) -> None:
    line = plain(text, 20)
    assert len(line) <= 20 and (line.isprintable() and line == " ".join(line.split()))
    assert plain(["x"]) == plain(None) == plain(7) == ""


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("id", "gen", "sp", "en", "rec", "lic", "file", "file-name", "length", "q", "type", "also", "url")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSONS)) | JSONS, max_size=6))
def test_whatever_the_service_sends_is_taken_or_told(records: list[Any]) -> None:
    service = XenoCanto(Pages(records), Wish(allows))  # type: ignore[arg-type]  # stands in for an Api
    listing = service.listing(GULL)
    assert all(isinstance(r, Reject) and r.detail.isprintable() for r in listing.rejects)


def test_the_150_species_have_names_that_can_be_asked_for() -> None:
    for species in all_species():
        names = names_of(species)
        assert names.binomials == (species.scientific_name, *species.synonyms)
        assert names.english[0] == species.common_name and not any(n.islower() or "_" in n for n in names.english)
    merganser = names_of(resolve("Hooded Merganser"))
    assert merganser.binomials == ("Lophodytes cucullatus", "Mergus cucullatus")

"""Recordings from Xeno-canto: every one of a species is taken or rejected with its reason, whatever the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import soundfile
from fakes import xeno_canto as fake
from helpers.servers import Act, Fast
from helpers.services import JSON, NO_FAULTS, PASSING, Faults, Service, xeno_canto

from birdmml.errors import SourceError, UsageError
from birdmml.fetch.api import Answers, Api
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Politeness
from birdmml.sources.inat_xc.wikipedia import SpeciesNames
from birdmml.sources.inat_xc.xeno_canto import KEY, PATH, SpeciesListing, Wish, XenoCanto, key_from

GULL = SpeciesNames("Larus fuscus", ("Larus affinis",), ("Lesser Black-backed Gull",))
TIT = SpeciesNames("Parus major", (), ("Great Tit",))
OPEN = {"CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC0-1.0"}
SECRET = "0123456789abcdef0123"


def allows(license: str) -> bool:
    return license in OPEN


class Bench:
    """A service with two species, and our side of it."""

    def __init__(self, stack: ExitStack, folder: Path, faults: Faults = NO_FAULTS, **write: Any) -> None:
        self.truth = fake.write(folder / "xc", [GULL, TIT], **{"each": 12, "sound": False, **write})
        self.service: Service = stack.enter_context(xeno_canto(folder / "xc", faults))
        self.fake: fake.FakeXenoCanto = self.service.fake  # type: ignore[attr-defined]
        self.ledger = stack.enter_context(Ledger(folder / "ledger.sqlite"))
        self.answers = stack.enter_context(Answers(folder / "answers.sqlite"))
        self.fetcher = stack.enter_context(
            Fetcher(self.ledger, Politeness("x", named=[self.service.url], retries=4, timeout_s=2.0), Fast())
        )
        self.key = SECRET

    def list(self, names: SpeciesNames = GULL, seed: int = 0, **wish: Any) -> SpeciesListing:
        api = Api(self.fetcher, self.answers, self.service.url, secrets={"key": self.key})
        return XenoCanto(api, Wish(**{"allows": allows, **wish}), seed=seed, per_page=50).listing(names)

    def of(self, names: SpeciesNames) -> dict[str, str]:
        """The truth for one species."""
        mine = {f"XC{r['id']}" for r in self.fake.records if f"{r['gen']} {r['sp']}" == names.scientific}
        return {k: v for k, v in self.truth.items() if k in mine}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda *args, **options: Bench(stack, tmp_path, *args, **options)


def reasons(listing: SpeciesListing) -> dict[str, str]:
    return {r.path: r.reason for r in listing.rejects}


def test_every_recording_is_taken_or_rejected_with_its_reason(make: Callable[..., Bench]) -> None:
    b = make()
    listing = b.list()
    truth = b.of(GULL)
    assert {t.recording.id for t in listing.takes} == {k for k, v in truth.items() if not v}
    assert reasons(listing) == {k: v for k, v in truth.items() if v}
    assert all(r.absent and r.species == "Larus fuscus" and r.detail for r in listing.rejects)
    assert (listing.matched, listing.by, listing.notes) == ("Larus fuscus", "scientific name", ())
    by_id = {f"XC{r['id']}": r for r in b.fake.records}
    for take in listing.takes:
        said, record = by_id[take.recording.id], take.recording
        assert record.credit.license_original == said["lic"] and record.credit.license in OPEN
        assert record.credit.url == "https:" + said["url"]
        assert record.credit.author == said["rec"].replace("&#039;", "'")
        assert record.species == "Larus fuscus" and record.recording == record.id
        assert record.locator == f"xeno-canto/{int(said['id']) % 1000:03d}/{record.id}.mp3"
        assert take.url == f"{b.service.url}/{said['id']}/download"


def test_the_recordings_come_and_are_sound(make: Callable[..., Bench], tmp_path: Path) -> None:
    b = make(Faults(every=4, passing=("500", "503", "page", "reset", "cut")), sound=True, seconds=0.3)
    takes = b.list().takes
    jobs = [(WantedFile(t.recording.id, t.url), tmp_path / t.recording.locator) for t in takes]
    for outcome in b.fetcher.fetch_all(jobs):
        assert outcome.state == "done" and outcome.path
        assert soundfile.info(outcome.path).duration >= 0.3
    assert b.service.twice() == {} and b.service.misbehaved


@pytest.mark.parametrize("place", ["169.254.169.254", "localhost:1", "127.0.0.1:1", "[::1]", "10.1.2.3"])
def test_a_file_inside_a_network_is_not_asked_for(make: Callable[..., Bench], tmp_path: Path, place: str) -> None:
    b = make(each=1, defects=False)
    b.fake.records[0]["file"] = f"//{place}/1/download"
    (take,) = b.list().takes
    (outcome,) = b.fetcher.fetch_all([(WantedFile(take.recording.id, take.url), tmp_path / "x")])
    assert outcome.state == "failed" and "is an address inside a network; see --allow-private" in outcome.reason


def choice(records: list[dict[str, Any]], most: int, seed: int) -> list[str]:
    """The rule once more, written otherwise: letters in order, then no score; within one by the hash."""
    from hashlib import sha256

    ranked = []
    for r in records:
        rank = "ABCDE".find(r["q"]) if r["q"] in "ABCDE" else 5
        ranked.append((rank, sha256(f"{seed}:XC{r['id']}".encode()).hexdigest(), f"XC{r['id']}"))
    return [name for _, _, name in sorted(ranked)[:most]]


def test_better_quality_comes_first_and_chance_is_the_seeds(make: Callable[..., Bench]) -> None:
    b = make(each=40)
    good = [r for r in b.fake.records if b.of(GULL).get(f"XC{r['id']}") == ""]
    for seed in (0, 1):
        assert [t.recording.id for t in b.list(seed=seed).takes] == choice(good, 99, seed)
    first, second = ([t.recording.id for t in b.list(seed=s).takes[:15]] for s in (0, 1))
    assert first != second


def test_filters_reject_with_words(make: Callable[..., Bench]) -> None:
    b = make(each=30)
    everything = len(b.of(GULL))
    for wish, slug in (({"qualities": ("A",)}, "quality"), ({"most_s": 4.0}, "length")):
        listing = b.list(**wish)
        counts = Counter(r.reason for r in listing.rejects)
        assert len(listing.takes) + len(listing.rejects) == everything
        assert counts[slug] and listing.takes
        assert all(t.quality == "A" for t in listing.takes) or "qualities" not in wish


@pytest.mark.parametrize(
    ("wish", "said"),
    [({"qualities": ("a",)}, "quality 'a'"), ({"least_s": 9.0, "most_s": 3.0}, "9 to 3 s"), ({"least_s": -1}, "-1")],
)
def test_a_wish_that_nothing_fits_is_wrong_usage(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Wish(allows, **wish)


def test_synonyms_and_english_names_are_asked_after_the_scientific_one(make: Callable[..., Bench]) -> None:
    b = make(defects=False)
    by_synonym = b.list(SpeciesNames("Novus fuscus", ("Larus fuscus",), ("Great Tit",)))
    assert (by_synonym.matched, by_synonym.by, len(by_synonym.takes)) == ("Larus fuscus", "synonym", 12)
    assert "found on Xeno-canto as Larus fuscus, by its synonym Larus fuscus" in by_synonym.notes[0]
    assert {t.recording.species for t in by_synonym.takes} == {"Novus fuscus"}
    by_english = b.list(SpeciesNames("Novus fuscus", ("Novus affinis",), ("lesser black-backed gull",)))
    assert (by_english.matched, by_english.by, len(by_english.takes)) == ("Larus fuscus", "English name", 12)
    none = b.list(SpeciesNames("Novus fuscus", (), ("Dodo",)))
    assert (none.takes, none.matched) == ((), "")
    (reject,) = none.rejects
    assert reject.reason == "no_recordings" and reject.detail == "no recordings under Novus fuscus, Dodo"
    nameless = b.list(SpeciesNames("Larus", (), ()))
    assert nameless.rejects[0].detail == "no name that can be asked for"


def test_an_english_name_that_two_species_have_is_not_guessed(make: Callable[..., Bench]) -> None:
    b = make(defects=False)
    for record in b.fake.records[-3:]:
        record["en"] = "Lesser Black-backed Gull"
    listing = b.list(SpeciesNames("Novus fuscus", (), ("Lesser Black-backed Gull",)))
    assert listing.takes == () and [r.reason for r in listing.rejects] == ["ambiguous_name", "no_recordings"]
    assert "Larus fuscus, Parus major" in listing.rejects[0].detail


def test_recordings_of_another_species_are_not_taken(make: Callable[..., Bench]) -> None:
    b = make(defects=False)
    for record in b.fake.records[:3]:
        record["sp"] = "fuscusoides"  # The service finds what begins with the word.
    listing = b.list()
    assert len(listing.takes) == 9
    assert [r.reason for r in listing.rejects] == ["other_species"] * 3
    assert "of Larus fuscusoides, not of Larus fuscus" in listing.rejects[0].detail


def test_a_list_that_changes_while_it_is_read_is_read_anew(make: Callable[..., Bench]) -> None:
    b = make(each=110, defects=False)
    seen = []

    def api(path: str, query: dict[str, str], base: str) -> Act | None:
        if path == PATH:
            seen.append(query["page"])
            if len(seen) == 2:  # A new recording comes in at the front: ids move to later pages.
                b.fake.records.insert(0, {**b.fake.records[0], "id": "99999"})
        found = b.fake.answer(path, query, base)
        return found and Act(found[0], JSON, found[1])

    b.service.api = api
    listing = b.list()
    assert len({t.recording.id for t in listing.takes}) == len(listing.takes) == 111
    assert listing.notes == () and seen == ["1", "2", "3"] * 2
    assert len(b.list().takes) == 111 and len(seen) == 6  # The new reading is what was kept.


@pytest.mark.parametrize("kind", ["page", "cut", "500"])
def test_a_service_that_fails_gives_one_reject_and_nothing_of_the_species(
    make: Callable[..., Bench], kind: str
) -> None:
    b = make(each=60)
    name = f"{PATH}?page=2&per_page=50&query=gen:Larus sp:fuscus grp:birds"
    b.service.act(name, then=PASSING[kind])
    listing = b.list()
    assert listing.takes == () and [(r.reason, r.path) for r in listing.rejects] == [
        ("list_failed", "xeno-canto: Larus fuscus")
    ]
    assert "page 2" in listing.rejects[0].detail
    b.service.act(name)
    assert b.list().rejects == listing.rejects  # As it was told, until it is asked for again.
    b.answers.retry_failed()
    assert len(b.list().takes) == 60


@pytest.mark.parametrize("key", ["x" * 20, ""])
def test_a_refused_key_names_the_variable_and_not_the_key(make: Callable[..., Bench], key: str) -> None:
    b = make()
    if key:
        b.key = key
    else:
        b.service.act(
            f"{PATH}?page=1&per_page=50&query=gen:Larus sp:fuscus grp:birds",
            Act(401, JSON, b'{"error": "missing_parameter", "message": "No API key was given."}'),
        )
    with pytest.raises(SourceError, match=rf"refuses the key in {KEY} \(HTTP 401: .*key.*run the same command") as e:
        b.list()
    assert "xxxx" not in str(e.value)
    b.key = SECRET
    assert b.list().takes


@pytest.mark.parametrize("value", [None, "", "  ", "short", "two words here", "k" * 300, "schlüssel-123"])
def test_a_key_that_is_none_is_wrong_usage(value: str | None) -> None:
    with pytest.raises(UsageError, match=KEY) as e:
        key_from({} if value is None else {KEY: value})
    assert not value or value.strip() in ("", "short") or value not in str(e.value)
    assert key_from({KEY: f" {SECRET}\n"}) == SECRET

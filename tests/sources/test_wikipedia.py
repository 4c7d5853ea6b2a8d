"""Articles from Wikipedia: with the revision they were taken from, or a reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fakes import wikipedia as fake
from helpers.servers import Act, Fast, redirect
from helpers.services import HTML, NO_FAULTS, Faults, Service, wikipedia
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.fetch.api import Answer, Answers, Api
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger
from birdmml.fetch.pace import Politeness
from birdmml.schema import Article, Reject
from birdmml.sources.inat_xc.wikipedia import MOST_BYTES, SpeciesNames, Wikipedia

GULL = SpeciesNames("Larus fuscus", ("Larus affinis",), ("Lesser Black-backed Gull",))
JAY = SpeciesNames("Cyanocitta stelleri", (), ("Steller's Jay",))
TITLE = "Lesser_Black-backed_Gull"
PATH = "/api/rest_v1/page/summary/"


class Bench:
    """A service with two articles, and our side of it."""

    def __init__(self, stack: ExitStack, folder: Path, faults: Faults = NO_FAULTS, agent: str = "x") -> None:
        fake.write(folder / "wp", [GULL, JAY])
        self.service: Service = stack.enter_context(wikipedia(folder / "wp", faults))
        self.pages: dict[str, Any] = self.service.fake.pages  # type: ignore[attr-defined]
        ledger = stack.enter_context(Ledger(folder / "ledger.sqlite"))
        self.answers = stack.enter_context(Answers(folder / "answers.sqlite"))
        fetcher = stack.enter_context(
            Fetcher(ledger, Politeness(agent, named=[self.service.url], retries=3, timeout_s=2.0), Fast())
        )
        self.wikipedia = Wikipedia(Api(fetcher, self.answers, self.service.url, most_bytes=MOST_BYTES))

    def article(self, names: SpeciesNames = GULL) -> Article:
        found = self.wikipedia.article(names)
        assert isinstance(found, Article), found
        return found

    def reject(self, names: SpeciesNames = GULL) -> Reject:
        found = self.wikipedia.article(names)
        assert isinstance(found, Reject) and found.absent and found.species == names.scientific
        assert found.path == f"wikipedia: {names.scientific}"
        return found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda *args, **options: Bench(stack, tmp_path, *args, **options)


def test_an_article_has_its_text_its_revision_and_its_authors(make: Callable[..., Bench]) -> None:
    b = make(agent="birdmml/1 (mailto:me@here.org)")
    said = b.pages[TITLE]
    assert b.article() == Article(
        species="Larus fuscus",
        text=said["extract"],
        title=TITLE,
        url=f"https://en.wikipedia.org/wiki/{TITLE}",
        revision=said["revision"],
        history_url=f"https://en.wikipedia.org/wiki/{TITLE}?action=history",
        license="CC-BY-SA-4.0",
    )
    # The scientific name was asked for, and led on by a redirect; once.
    assert b.service.seen(f"{PATH}Larus_fuscus").requests == b.service.seen(PATH + TITLE).requests == 1
    b.article()
    assert b.service.requests == 2 and set(b.service.agents) == {"birdmml/1 (mailto:me@here.org)"}
    assert b.article(JAY).title == "Steller's_Jay"


def test_addresses_are_made_where_the_service_gives_none_or_others(make: Callable[..., Bench]) -> None:
    b = make()
    for links in ({}, {"desktop": {"page": "https://evil.org/wiki/x", "revisions": "javascript:x"}}, {"desktop": 7}):
        b.answers.retry_failed()
        b.pages[TITLE]["content_urls"] = links
        b.pages[TITLE]["titles"]["canonical"] = "Gull?_(bird)"
        found = b.wikipedia.article(SpeciesNames("Larus fuscus", (), (f"x{len(str(links))}",)))
        assert isinstance(found, Article)
        assert found.url == f"{b.service.url}/wiki/Gull%3F_(bird)"
        assert found.history_url == f"{b.service.url}/w/index.php?title=Gull%3F_%28bird%29&action=history"


def test_the_english_name_is_asked_where_the_scientific_one_leads_nowhere(make: Callable[..., Bench]) -> None:
    b = make()
    del b.pages["Larus_fuscus"]
    assert b.article().title == TITLE
    b.answers._db.execute("DELETE FROM answers")
    b.pages["Larus_fuscus"] = fake.summary("Larus_fuscus", "", "Larus fuscus may be:", "disambiguation")
    assert b.article().title == TITLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "disambiguation"}, "of type disambiguation, not standard"),
        ({"type": "no-extract"}, "of type no-extract"),
        ({"type": None}, "of type unknown"),
        ({"type": ["standard"]}, "of type unknown"),
        ({"extract": ""}, "its summary is empty"),
        ({"extract": " \u200b\n "}, "its summary is empty"),
        ({"extract": None}, "its summary is empty"),
        ({"extract": "The Fuscus Bridge is a bridge."}, "speaks of something else"),
        ({"extract": "Notlarus fuscusoides is a beetle."}, "speaks of something else"),
        ({"revision": None}, "do not name a page and its version"),
        ({"revision": "12; DROP"}, "do not name a page and its version"),
        ({"revision": True}, "do not name a page and its version"),
        ({"titles": None}, "do not name a page and its version"),
    ],
)
def test_a_page_that_is_no_article_of_the_species_is_not_taken(
    make: Callable[..., Bench], change: dict[str, object], said: str
) -> None:
    b = make()
    b.pages[TITLE] |= change
    reject = b.reject()
    assert reject.reason == "no_article" and said in reject.detail
    assert reject.detail.startswith("Larus fuscus: ") and "; Lesser Black-backed Gull: " in reject.detail


def test_a_species_without_a_page_is_missing(make: Callable[..., Bench]) -> None:
    reject = make().reject(SpeciesNames("Raphus cucullatus", (), ("Dodo",)))
    assert reject.detail == "Raphus cucullatus: there is no such page; Dodo: there is no such page"


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (Act(500), "HTTP 500"),
        (Act(403, body=b"Please set a user-agent"), "Please set a user-agent"),
        (Act(200, {"Content-Type": "text/html"}, HTML), "Down for repairs"),
        (Act(200, body=b"[" * 90_000), "nested too deeply"),
        (Act(200, body=b" " * (MOST_BYTES + 1)), "larger than 1.0 MiB"),
        (redirect("http://169.254.169.254/"), "an address inside a network"),
        (redirect("http://localhost:1/"), "an address inside a network"),
        (redirect("Larus_fuscus"), "more than 5 redirects"),
    ],
)
def test_a_failure_is_not_hidden_by_another_name(make: Callable[..., Bench], act: Act, said: str) -> None:
    b = make()
    b.service.act(f"{PATH}Larus_fuscus", then=act)
    reject = b.reject()
    assert reject.reason == "article_failed" and said in reject.detail
    assert b.service.seen(PATH + TITLE).requests == 0
    b.service.act(f"{PATH}Larus_fuscus")
    assert b.reject() == reject  # Until it is asked for again.
    b.answers.retry_failed()
    assert b.article().title == TITLE


def test_text_is_plain(make: Callable[..., Bench]) -> None:
    b = make()
    b.pages[TITLE]["extract"] = "The gull (Larus&nbsp;fuscus)\n is &lt;large&gt; \u202eand\u0000 black&amp;white.\u200b"
    assert b.article().text == "The gull (Larus fuscus) is <large> and black&white."


def test_faults_in_one_request_of_three_cost_only_time(make: Callable[..., Bench]) -> None:
    b = make(Faults(every=3, passing=("500", "503", "page", "cut", "429"), seed=2))
    assert b.article().title == TITLE and b.article(JAY).title == "Steller's_Jay"


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("type", "extract", "titles", "revision", "content_urls")


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSONS)) | JSONS, st.booleans())
def test_whatever_the_service_sends_is_an_article_or_told(value: Any, whole: bool) -> None:
    class Stub:
        base = "https://en.wikipedia.org"

        def get(self, path: str) -> Answer:
            page = fake.summary("Gull", "", "Larus fuscus is a gull.")
            return Answer("done", {**page, **value} if whole and isinstance(value, dict) else value, 200, "")

    found = Wikipedia(Stub()).article(GULL)  # type: ignore[arg-type]  # stands in for an Api
    if isinstance(found, Article):
        assert found.text and found.title and found.revision.isdigit() and found.text.isprintable()
        assert found.url.startswith("https://en.wikipedia.org/") and "wikipedia.org/" in found.history_url
    else:
        assert found.detail.isprintable()

"""What Wikipedia says of a species: the summary of its article, with the revision it was taken from.

The article under the scientific name is asked for first, then those under the English names. Nothing is taken from a
page that is about something else.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from birdmml.core.species import Species
from birdmml.fetch.api import Answer, Api
from birdmml.schema import Article, Reject
from birdmml.sources.common import one_line, web_address

_BINOMIAL = re.compile(r"[A-Z][a-z-]{1,40} [a-z-]{2,40}")


@dataclass(frozen=True)
class SpeciesNames:
    """The scientific name that a species goes by here, its other scientific names, and its English ones."""

    scientific: str
    synonyms: tuple[str, ...] = ()
    english: tuple[str, ...] = ()

    @property
    def binomials(self) -> tuple[str, ...]:
        """Scientific names of two words, the first one being ours; others are of no use to a search."""
        return tuple(dict.fromkeys(n for n in (self.scientific, *self.synonyms) if _BINOMIAL.fullmatch(n)))


def names_of(species: Species) -> SpeciesNames:
    """The names of one of the 150 species; codes are left out."""
    english = [n for n in (species.common_name, *species.other_names) if n[:1].isupper() and "_" not in n]
    return SpeciesNames(species.scientific_name, species.synonyms, tuple(dict.fromkeys(english)))


def plain(text: object, longest: int = 500) -> str:
    """A text of a service on one line: entities read, control and direction marks out; "" for what is no text."""
    if not isinstance(text, str):
        return ""
    # Cut before it is read, too, for a service may send a megabyte: with room for entities, which become one letter.
    return one_line(html.unescape(text[: 4 * longest]))[:longest].rstrip()


WIKIPEDIA = "https://en.wikipedia.org"
PATH = "/api/rest_v1/page/summary/"
PER_SECOND = 5.0  # Far below what is allowed.
MOST_BYTES = 1 << 20
LONGEST = 20_000  # Characters of an extract; summaries have some hundreds.
_REVISION = re.compile(r"[1-9]\d{0,17}")


class Wikipedia:
    """The service behind `api`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def article(self, names: SpeciesNames) -> Article | Reject:
        """The article of a species, or why there is none.

        A name that fails (rather than lead nowhere) ends the search: another name must not hide it. Raises
        BuildError and Stopped as `Api.get` does.
        """
        rejected = partial(Reject, f"wikipedia: {names.scientific}", absent=True, species=names.scientific)
        reasons = []
        for name in dict.fromkeys((names.scientific, *names.english)):
            answer = self._api.get(PATH + quote(name.replace(" ", "_"), safe=""))
            if not answer.ok and answer.state != "missing":
                return rejected("article_failed", f"{name}: {answer.reason}")
            article = _article(answer, names, self._api.base)
            if isinstance(article, Article):
                return article
            reasons.append(f"{name}: {article}")
        return rejected("no_article", "; ".join(reasons))


def _article(answer: Answer, names: SpeciesNames, base: str) -> Article | str:
    """An article, or what is wrong with the answer."""
    value = answer.value
    if answer.state == "missing":
        return "there is no such page"
    if not isinstance(value, dict):
        return "the answer is no summary"
    kind = plain(value.get("type"), 40)
    if kind != "standard":
        return f"the page is of type {kind or 'unknown'}, not standard"
    text = plain(value.get("extract"), LONGEST)
    if not text:
        return "its summary is empty"
    titles = value.get("titles")
    title = plain(titles.get("canonical") if isinstance(titles, dict) else None, 300)
    revision = str(value.get("revision"))
    if not title or not _REVISION.fullmatch(revision):
        return f"title {title!r:.80} and revision {revision!r:.40} do not name a page and its version"
    words = f" {_words(text)} "  # Spaces around, so that names stand in it as whole words only.
    if not any(f" {_words(n)} " in words for n in (names.scientific, *names.synonyms, *names.english) if n):
        return f"the page {title} speaks of something else: none of the names stands in it"
    urls = value.get("content_urls")
    desktop = urls.get("desktop") if isinstance(urls, dict) else None
    links = desktop if isinstance(desktop, dict) else {}
    page = f"{base}/wiki/{quote(title, safe='_()')}"
    history = f"{base}/w/index.php?title={quote(title, safe='')}&action=history"
    page, history = _own(links.get("page"), base) or page, _own(links.get("revisions"), base) or history
    return Article(names.scientific, text, title, page, revision, history)


def _own(link: Any, base: str) -> str:
    """A link that leads to Wikipedia or to the service itself; "" for any other."""
    address = web_address(link)
    host = urlsplit(address).hostname or ""
    return address if host == urlsplit(base).hostname or host.endswith(".wikipedia.org") else ""


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))

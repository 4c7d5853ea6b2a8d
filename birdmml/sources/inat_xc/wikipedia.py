"""What Wikipedia says of a species: the summary of its article, with the revision it was taken from.

The article under the scientific name is asked for first, then those under the English names. Nothing is taken from a
page that is about something else.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from birdmml.core.species import Species
from birdmml.fetch.api import Answer, Api
from birdmml.schema import Article, Reject

# ---- What a species is called, for services that know it by one of its names.


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
    text = html.unescape(text[: 4 * longest])
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:longest].rstrip()


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
        reasons = []
        for name in dict.fromkeys((names.scientific, *names.english)):
            answer = self._api.get(PATH + quote(name.replace(" ", "_"), safe=""))
            if not answer.ok and answer.state != "missing":
                return self._reject(names, "article_failed", f"{name}: {answer.reason}")
            article = _article(answer, names, self._api.base)
            if isinstance(article, Article):
                return article
            reasons.append(f"{name}: {article}")
        return self._reject(names, "no_article", "; ".join(reasons))

    def _reject(self, names: SpeciesNames, reason: str, detail: str) -> Reject:
        where = f"wikipedia: {names.scientific}"
        return Reject(where, reason, detail, absent=True, species=names.scientific)


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
    text = _text(value.get("extract"))
    if not text:
        return "its summary is empty"
    titles = value.get("titles")
    title = plain(titles.get("canonical") if isinstance(titles, dict) else None, 300)
    revision = str(value.get("revision"))
    if not title or not _REVISION.fullmatch(revision):
        return f"title {title!r:.80} and revision {revision!r:.40} do not name a page and its version"
    if not _speaks_of(text, names):
        return f"the page {title} speaks of something else: none of the names stands in it"
    links = _links(value)
    page = f"{base}/wiki/{quote(title, safe='_()')}"
    history = f"{base}/w/index.php?title={quote(title, safe='')}&action=history"
    return Article(
        names.scientific,
        text,
        title,
        _own(links.get("page"), base) or page,
        revision,
        _own(links.get("revisions"), base) or history,
    )


def _text(value: Any) -> str:
    return plain(value, LONGEST) if isinstance(value, str) else ""


def _links(value: dict[str, Any]) -> dict[str, Any]:
    urls = value.get("content_urls")
    desktop = urls.get("desktop") if isinstance(urls, dict) else None
    return desktop if isinstance(desktop, dict) else {}


def _own(link: Any, base: str) -> str:
    """A link that leads to Wikipedia or to the service itself; "" for any other."""
    if not isinstance(link, str) or not link.isprintable() or " " in link or len(link) > 2000:
        return ""
    try:
        parts, own = urlsplit(link), urlsplit(base)
    except ValueError:
        return ""
    host = parts.hostname or ""
    ours = host == own.hostname or host.endswith(".wikipedia.org")
    return link if parts.scheme in ("http", "https") and ours and not parts.username else ""


def _speaks_of(text: str, names: SpeciesNames) -> bool:
    """Whether one of the names stands in a text, as whole words, whatever its case and hyphens."""
    words = f" {_words(text)} "
    return any(f" {_words(n)} " in words for n in (names.scientific, *names.synonyms, *names.english) if n)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))

"""What a species is called, for services that know it by one of its names."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from birdmml.taxonomy import Species

_BINOMIAL = re.compile(r"[A-Z][a-z-]{1,40} [a-z-]{2,40}")


@dataclass(frozen=True)
class Names:
    """The scientific name that a species goes by here, its other scientific names, and its English ones."""

    scientific: str
    synonyms: tuple[str, ...] = ()
    english: tuple[str, ...] = ()

    @property
    def binomials(self) -> tuple[str, ...]:
        """Scientific names of two words, the first one being ours; others are of no use to a search."""
        return tuple(dict.fromkeys(n for n in (self.scientific, *self.synonyms) if _BINOMIAL.fullmatch(n)))


def names_of(species: Species) -> Names:
    """The names of one of the 150 species; codes are left out."""
    english = [n for n in (species.common_name, *species.other_names) if n[:1].isupper() and "_" not in n]
    return Names(species.scientific_name, species.synonyms, tuple(dict.fromkeys(english)))


def plain(text: object, longest: int = 500) -> str:
    """A text of a service on one line: entities read, control and direction marks out; "" for what is no text."""
    if not isinstance(text, str):
        return ""
    text = html.unescape(text[: 4 * longest])
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:longest].rstrip()

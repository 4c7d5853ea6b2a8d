"""A sentence from the taxonomy: names, family and order, nothing that was seen"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from birdmml.core.species import Species
from birdmml.schema import Caption, Card, Credit

CARD = Card(summary="Sentences filled from the taxonomy", license="CC0-1.0", citation="", url="", modalities=("text",))

TEMPLATES = (
    "A photo of {a} {common_name}, a bird of the family {family}.",
    "{common_name} ({scientific_name}), a bird of the order {order}.",
    "A photo and a recording of {a} {common_name}.",
    "This bird is {a} {common_name}, one of the {order}.",
)
# For a species whose table knows no common name.
LATIN_ONLY = (
    "A photo of {scientific_name}, a bird of the family {family}.",
    "{scientific_name}, a bird of the order {order}.",
    "A photo and a recording of {scientific_name}.",
    "This bird is {scientific_name}, one of the {order}.",
)
DRAWS = 12  # Divided by each number of templates that may be usable.
# There is no page of a template: the address is that of its terms.
_TERMS = "https://creativecommons.org/publicdomain/zero/1.0/"
CREDIT = Credit("CC0-1.0", "CC0-1.0", "birdmml caption template", _TERMS)
# Words that begin with a vowel's letter and the sound of a consonant.
_LIKE_YOU = ("Eu", "Ewe", "Uni", "Ura", "Uta")


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


def public_settings(settings: Settings) -> dict[str, Any]:
    """What the manifest says beside the name."""
    return {}


def caption(species: Species, draw: int) -> Caption:
    """The sentence number `draw` (from 0, any number) about a species, of those that need no more than is known."""
    facts = {
        "common_name": species.common_name,
        "scientific_name": species.scientific_name,
        "family": species.family,
        "order": species.order,
    }
    unknown = [f"{{{name}}}" for name, value in facts.items() if not value]
    templates = TEMPLATES if species.common_name else LATIN_ONLY
    usable = [t for t in templates if not any(u in t for u in unknown)]
    text = usable[draw % len(usable)].format(a=article(species.common_name), **facts)
    return Caption(text, "template", CREDIT)


def article(name: str) -> str:
    """ "a" or "an", as it sounds before an English name."""
    return "an" if name[:1] in "AEIOU" and not name.startswith(_LIKE_YOU) else "a"

"""The caption of a row: what the source says, else a template from the taxonomy, marked as such."""

from __future__ import annotations

from birdmml.build.seeds import generator
from birdmml.schema import Caption, Credit, Medium
from birdmml.taxonomy import Species, resolve

TEMPLATES = (
    "A photo of a {common_name}, a bird of the family {family}.",
    "{common_name} ({scientific_name}), photographed in the wild.",
    "A {common_name}, seen and heard.",
    "This bird is a {common_name}, one of the {order}.",
)
# For a species whose table knows no common name.
_LATIN_ONLY = (
    "A photo of {scientific_name}, a bird of the family {family}.",
    "{scientific_name}, photographed in the wild.",
    "{scientific_name}, seen and heard.",
    "This bird is {scientific_name}, one of the {order}.",
)
_CREDIT = Credit("CC0-1.0", "CC0-1.0", "birdmml caption template", "")


def caption_of(photo: Medium, clip: Medium, seed: int, species: Species | None = None) -> Caption:
    """The photo's caption, else the recording's, else a template chosen by the row's ids.

    Only templates that need no more than is known of the `species` (None: the photo's, of the shipped 150).
    """
    given = photo.caption or clip.caption
    if given is not None:
        return given
    species = species or resolve(photo.species)
    known = {
        "common_name": species.common_name,
        "scientific_name": species.scientific_name,
        "family": species.family,
        "order": species.order,
    }
    unknown = [f"{{{name}}}" for name, value in known.items() if not value]
    usable = [
        t for t in (TEMPLATES if species.common_name else _LATIN_ONLY) if not any(u in t for u in unknown)
    ]
    template = usable[int(generator(seed, "caption", photo.id, clip.id).integers(len(usable)))]
    return Caption(template.format(**known), "template", _CREDIT)

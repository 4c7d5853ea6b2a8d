"""The caption of a row: what the source says, else a template from the taxonomy, marked as such."""

from __future__ import annotations

from birdmml import taxonomy
from birdmml.build.seeds import generator
from birdmml.schema import Caption, Credit, Medium

TEMPLATES = (
    "A photo of a {common_name}, a bird of the family {family}.",
    "{common_name} ({scientific_name}), photographed in the wild.",
    "A {common_name}, seen and heard.",
    "This bird is a {common_name}, one of the {order}.",
)
_CREDIT = Credit("CC0-1.0", "CC0-1.0", "birdmml caption template", "")


def caption_of(photo: Medium, clip: Medium, seed: int) -> Caption:
    """The photo's caption, else the recording's, else a template chosen by the row's ids."""
    given = photo.caption or clip.caption
    if given is not None:
        return given
    species = taxonomy.resolve(photo.species)
    template = TEMPLATES[int(generator(seed, "caption", photo.id, clip.id).integers(len(TEMPLATES)))]
    text = template.format(
        common_name=species.common_name,
        scientific_name=species.scientific_name,
        family=species.family,
        order=species.order,
    )
    return Caption(text, "template", _CREDIT)

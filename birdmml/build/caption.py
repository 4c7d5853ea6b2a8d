"""The caption of a row: what the source says, else a template from the taxonomy, marked as such."""

from __future__ import annotations

from birdmml import discover
from birdmml.build.seeds import generator
from birdmml.schema import Caption, Medium
from birdmml.taxonomy import Species, resolve

WRITTEN = "hf"


def caption_of(photo: Medium, clip: Medium, seed: int, species: Species | None = None) -> Caption:
    """The photo's own caption, else the recording's, else what was written for the photo, else a template.

    The template is chosen by the row's ids, and says what is known of the `species` (None: the photo's, of the
    shipped 150).
    """
    given = photo.caption
    if given is not None and given.origin == WRITTEN and clip.caption is not None:
        return clip.caption
    if given is None:
        given = clip.caption
    if given is not None:
        return given
    template = discover.load("captioner", "template")
    draw = int(generator(seed, "caption", photo.id, clip.id).integers(template.DRAWS))
    made: Caption = template.caption(species or resolve(photo.species), draw)
    return made

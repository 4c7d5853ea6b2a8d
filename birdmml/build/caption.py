"""The caption of a row: what the source says, else what models have written, else a template, marked as such."""

from __future__ import annotations

from birdmml import discover, taxonomy
from birdmml.build.seeds import generator
from birdmml.schema import Caption, Medium

WRITTEN = "hf"


def caption_of(photo: Medium, clip: Medium, seed: int) -> Caption:
    """The photo's own caption, else the recording's, else what was written for the photo, else a template.

    The template is chosen by the row's ids.
    """
    given = photo.caption
    if given is not None and given.origin == WRITTEN and clip.caption is not None:
        return clip.caption
    if given is None:
        given = clip.caption
    if given is not None:
        return given
    template = discover.load("captioner", "template")
    draw = int(generator(seed, "caption", photo.id, clip.id).integers(len(template.TEMPLATES)))
    made: Caption = template.caption(taxonomy.resolve(photo.species), draw)
    return made

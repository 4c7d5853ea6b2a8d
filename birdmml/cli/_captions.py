"""The options of `birdmml build` that are about captions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from birdmml.errors import UsageError

OPTIONS = {
    "image_model": "--caption-image-model",
    "text_model": "--caption-text-model",
    "batch": "--caption-batch",
    "article_tokens": "--caption-article-tokens",
    "license": "--caption-license",
    "device": "--device",
}


def captioner_of(name: str, given: dict[str, Any]) -> tuple[str, Any]:
    """The captioner's name and settings. Raises UsageError for an option that it does not have."""
    from birdmml import discover
    from birdmml.licenses import normalise

    module = discover.load("captioner", name)
    chosen = {key: value for key, value in given.items() if value is not None}
    known = {f.name for f in dataclasses.fields(module.Settings)}
    if strange := [OPTIONS[key] for key in chosen if key not in known]:
        raise UsageError(
            f"{', '.join(strange)} is not an option of the {name} captioner: leave it out, or add --captioner hf"
        )
    for key in ("image_model", "text_model"):
        if str(chosen.get(key, "")).startswith("~"):
            chosen[key] = str(Path(chosen[key]).expanduser())
    if (said := chosen.get("license")) is not None:
        chosen["license"] = normalise(said)
        if chosen["license"] == "unknown" != said.casefold():
            raise UsageError(
                f"--caption-license {said!r} is no Creative Commons licence: give CC0-1.0, CC-BY-4.0, ..."
            )
    return discover.canonical("captioner", name), module.Settings(**chosen)


def planned(name: str, settings: Any, photos: int | None) -> list[str]:
    """What a dry run says of captions; `photos` come without one (None: known only when the source is read)."""
    from birdmml import discover

    module = discover.load("captioner", name)
    more = module.plan(settings) if hasattr(module, "plan") else []
    return [
        "captions: all photos come with one"
        if photos == 0
        else f"captions: {name}, for {'' if photos is None else f'up to {photos:,} '}photos that come without one",
        *more,
    ]

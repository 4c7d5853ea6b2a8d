"""The options of `birdmml build`, a group for each thing they set, and what the groups become."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdmml.cli._options import option, spelled, values_of
from birdmml.core import discover
from birdmml.core.licenses import normalise
from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.dataset.place import BuildPart

CONTACT = "BIRDMML_CONTACT"
RUNNERS = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Where a source finds what it reads. Fields are those of the sources' Settings; None: not given."""

    root: str | None = option(
        None, "folder: your folder, or a CSV/JSONL manifest; release: what you have of it.", "--from"
    )
    record: str | None = option(None, "release: Zenodo record (18920487).")
    zenodo: str | None = option(None, "release: address of the repository.")
    caption: str | None = option(None, "release: column of captions (combined_caption).")


@dataclass(frozen=True, kw_only=True)
class CaptionerOptions:
    """Fields are those of the captioners' Settings; None: not given."""

    image_model: str | None = option(
        None, "hf: image captioner, name or folder (Salesforce/blip-image-captioning-base).", "--caption-image-model"
    )
    text_model: str | None = option(
        None, "hf: causal language model, name or folder (google/gemma-2-2b-it).", "--caption-text-model"
    )
    batch: int | None = option(None, "hf: captions at once (16).", "--caption-batch", min=1)
    article_tokens: int | None = option(
        None, "hf: of an article at most so many tokens (512).", "--caption-article-tokens", min=1, max=100_000
    )
    license: str | None = option(
        None, "hf: your licence for captions that no article went into (unknown).", "--caption-license"
    )
    device: str | None = option(None, "hf: auto, cpu, cuda or mps (auto).")


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a source is to give. Fields are those of the sources' Settings; None: not given."""

    species: int | None = option(None, "demo: how many species (24).")
    species_list: Path | None = option(
        None, "folder, inat-xc: your species instead of the 150; see `birdmml species --species-list`."
    )
    per_species: int | None = option(None, "Rows a species: demo (42), inat-xc (1000).", min=1)
    image_size: int | None = option(None, "demo: side of a photo in px (96).")
    synergy: float | None = option(None, "demo: 0 redundant, 0.5 shared looks and songs, 1 XOR-like (0.5).")
    clip_seconds: float | None = option(None, "Length of a clip in s (demo 3, folder 10).")
    encoding: str | None = option(None, "folder, release: the table's encoding (utf-8).")
    inat: str | None = option(None, "inat-xc: folder or address of the iNaturalist Open Data tables.")
    contact: str | None = option(None, f"inat-xc: your e-mail or home page, told to the services (or {CONTACT}).")
    licenses: str | None = option(
        None, "inat-xc: SPDX ids or families, CC0,CC-BY,...; default: all but ND and unknown."
    )
    photo_size: str | None = option(None, "inat-xc: original, large, medium or small (medium).")
    min_side: int | None = option(None, "inat-xc: least shorter side of an original in px (240).", min=0)
    memory_mb: int | None = option(None, "inat-xc: MB that the join may hold (2048).", "--memory", min=64)
    allow_private: bool | None = option(
        None, "inat-xc: addresses inside a network may be asked, too.", "--allow-private"
    )
    photos: str | None = option(None, "inat-xc: address of the photos' bucket.")
    xeno_canto: str | None = option(None, "inat-xc: address of Xeno-canto.")
    wikipedia: str | None = option(None, "inat-xc: address of Wikipedia (its language).")
    photos_per_second: float | None = option(None, "inat-xc: photos asked for a second (20).")
    recordings_per_second: float | None = option(None, "inat-xc: requests to Xeno-canto a second (1).")


@dataclass(frozen=True, kw_only=True)
class Division:
    """How the work is divided over machines."""

    runner: str = option("local", "local, or ray: parts as tasks of a Ray cluster.")
    address: str | None = option(None, "ray: address of the cluster (else one is started here).", "--ray-address")
    count: int | None = option(None, "Into how many parts to divide the work, by species.", "--num-shards", min=1)
    index: int | None = option(None, "Make this part alone (0 is the first), for --finish.", "--shard-index", min=0)
    at_once: int | None = option(None, "How many parts run at a time: they share a service's rate (all).", min=1)
    finish: bool = option(False, "Put all parts together.", "--finish")

    def check(self, resume: bool) -> None:
        """Raises UsageError where the options do not go together."""
        if self.runner not in RUNNERS:
            raise UsageError(f"--runner {self.runner!r} is neither local nor ray")
        if self.address is not None and self.runner != "ray":
            raise UsageError("--ray-address is for --runner ray: give that, too, or leave it out")
        if self.index is not None and (self.finish or self.runner == "ray"):
            other = "--finish" if self.finish else "--runner ray"
            raise UsageError(f"--shard-index makes one part and {other} all of them: leave one of the two out")
        if self.index is not None and self.count is None:
            raise UsageError("--shard-index says which part, not of how many: add --num-shards")
        if self.at_once is not None and self.index is None and self.runner != "ray":
            raise UsageError("--at-once is for parts: give --num-shards and --shard-index, or --runner ray")
        if self.runner == "local" and self.count is not None and self.index is None and not self.finish:
            raise UsageError(
                f"--num-shards {self.count} needs to be told what to do: --shard-index 0 to {self.count - 1} makes "
                "one part, --finish puts all of them together, --runner ray does both"
            )
        if resume and self.divided:
            raise UsageError("--resume is not for parts, which always go on from what is there: leave it out")

    @property
    def divided(self) -> bool:
        """Whether the build is not one run on one machine."""
        return self.index is not None or self.finish or self.runner == "ray"

    def part(self) -> BuildPart:
        """The part to make; raises UsageError if there is none such."""
        from birdmml.dataset.place import BuildPart

        return BuildPart(self.index or 0, self.count or 1, self.at_once or 0)


def source_settings(module: Any, source: str, place: PlaceOptions, options: SourceOptions, seed: int) -> Any:
    """The source's Settings; an option of another source is an error, not ignored. Raises UsageError."""
    fields = {f.name for f in dataclasses.fields(module.Settings)}
    values = values_of(place) | values_of(options)
    if "contact" not in values and source.replace("-", "_").casefold() == "inat_xc":
        values["contact"] = os.environ.get(CONTACT, "")
    if strange := sorted(set(values) - fields):  # Ignored, it would seem to have worked.
        names = ", ".join(spelled(place if hasattr(place, name) else options, name) for name in strange)
        raise UsageError(f"{names} is not an option of the {source} source: leave it out, or see `birdmml list`")
    if "seed" in fields:  # Sources of others' media draw nothing.
        values["seed"] = seed
    if not 0.1 <= values.get("clip_seconds", 1) <= 600:
        raise UsageError(f"--clip-seconds {values['clip_seconds']:g} is out of range: 0.1 to 600 s")
    if "species_list" in values:
        from birdmml.core.species_list import read_list

        values["species_list"] = read_list(values["species_list"])
    return module.Settings(**values)


def captioner_of(name: str, options: CaptionerOptions) -> tuple[str, Any]:
    """The captioner's name and settings. Raises UsageError for an option that it does not have."""
    module = discover.load("captioner", name)
    values = values_of(options)
    fields = {f.name for f in dataclasses.fields(module.Settings)}
    if strange := [spelled(options, key) for key in values if key not in fields]:
        raise UsageError(
            f"{', '.join(strange)} is not an option of the {name} captioner: leave it out, or add --captioner hf"
        )
    for key in ("image_model", "text_model"):
        if str(values.get(key, "")).startswith("~"):
            values[key] = str(Path(values[key]).expanduser())
    if (license_id := values.get("license")) is not None:
        values["license"] = normalise(license_id)
        if values["license"] == "unknown" != license_id.casefold():
            raise UsageError(
                f"--caption-license {license_id!r} is no Creative Commons licence: give CC0-1.0, CC-BY-4.0, ..."
            )
    return discover.canonical("captioner", name), module.Settings(**values)


def split_of(text: str, shares: str | None) -> tuple[str, tuple[float, float, float]]:
    """Mode and shares; `--split 80/10/10` is short for grouped with these shares. Raises UsageError."""
    from birdmml.dataset.split import MODES

    if text in MODES:
        return text, _fractions(shares or "80/10/10", "--shares")
    if not any(c.isdigit() for c in text):
        raise UsageError(f"--split {text!r} is neither {' nor '.join(MODES)}, nor shares such as 80/10/10")
    if shares is not None:
        raise UsageError("--split with shares and --shares say the same: give one of them")
    return "grouped", _fractions(text, "--split")


def _fractions(text: str, name: str) -> tuple[float, float, float]:
    try:
        parts = [float(p) for p in text.replace(",", "/").split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or parts[0] <= 0 or min(parts) < 0 or not sum(parts) < float("inf"):
        raise UsageError(f"{name} {text!r} is not three shares such as 80/10/10 with something to train on")
    train, validation, test = (p / sum(parts) for p in parts)
    return train, validation, test

"""The embedded demo world: species whose looks and songs carry known information."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from birdmml.core.files import write_text
from birdmml.errors import SourceError
from birdmml.media.audio import encode_flac
from birdmml.media.image import encode_jpeg
from birdmml.media.video import encode_video
from birdmml.schema import RATE_HZ, Caption, Card, Credit, Photo, Recording, Reject
from birdmml.sources.demo import draw, scene, sing, tell, world
from birdmml.sources.demo.sing import FPS, shoot
from birdmml.sources.demo.world import DemoItem
from birdmml.sources.demo.world import DemoSettings as Settings

CARD = Card(
    summary="Drawn birds and synthesised songs under real species names: a demonstration, not data about birds.",
    license="CC0-1.0",
    citation="birdmml demo generator: pictures and sounds are computed, nothing was observed.",
    url="",
)
CREDIT = Credit(license="CC0-1.0", license_original="CC0-1.0", author="birdmml demo generator", url="")
EVALSET = Path("evalsets") / "demo"
# Drawings in the same pose look alike without being copies.
NEAR_RADIUS = -1


def records(settings: Settings) -> Iterator[Photo | Recording | Reject]:
    """A photo and a recording for every item, species by species; nothing is drawn yet."""
    for number, species in enumerate(world.names(settings)):
        for index in range(settings.per_species):
            item = world.photo_and_clip(settings, number, index)
            key, group = f"{number:03d}-{index:05d}", f"{number:03d}-{item.group:05d}"
            yield Photo(
                id=f"demo-photo-{key}",
                species=species.scientific_name,
                locator=f"photo:{number}:{index}",
                observation=f"demo-observation-{group}",
                credit=CREDIT,
                caption=Caption(_caption(settings, item), "demo", CREDIT),
                pair=key,
            )
            yield Recording(
                id=f"demo-clip-{key}",
                species=species.scientific_name,
                locator=f"clip:{number}:{index}",
                recording=f"demo-recording-{group}",
                credit=CREDIT,
                pair=key,
                start_s=0.0,
            )


def open_media(settings: Settings, locator: str) -> bytes:
    """Draw or sing one item: JPEG bytes, or FLAC bytes of exactly `clip_seconds`; raises SourceError."""
    kind, _, where = locator.partition(":")
    species, _, index = where.partition(":")
    valid = kind in ("photo", "clip") and species.isdecimal() and index.isdecimal()
    if not valid or int(species) >= settings.species or int(index) >= settings.per_species:
        raise SourceError(f"the demo has no item {locator!r}: locators come from records() with the same settings")
    item = world.photo_and_clip(settings, int(species), int(index))
    rng = world.rng(settings, "photo" if kind == "photo" else "clip", item.species, item.index)
    if kind == "photo":
        place, pose, lens = _sight(settings, item)
        return encode_jpeg(draw.photo(world.look(item.look), place, pose, lens, settings.image_size, rng))
    ambience, voice = _hearing(settings, item)
    return encode_flac(sing.sing(world.song(item.song), voice, ambience, settings.clip_seconds, rng))


def public_settings(settings: Settings) -> dict[str, Any]:
    """The settings as the manifest records them: all of them decide the bytes."""
    return asdict(settings)


def facts(settings: Settings) -> dict[str, Any]:
    """What the manifest and the card say about this demo."""
    looks, songs = world.pools(settings)
    return {
        "demo": True,
        "ceilings": world.ceilings(settings),
        "design": world.in_words(settings),
        "rules": {rule: float(share) for rule, share in world.rules(settings) if share},
        "looks": looks,
        "songs": songs,
        "evaluation_set": EVALSET.as_posix(),
        "videos": extra_tasks(settings),
    }


def extra_tasks(settings: Settings) -> int:
    """How many videos the evaluation set has."""
    return settings.species * settings.eval_videos


def write_extra(settings: Settings, root: Path | str, index: int) -> None:
    """Film and write video `index` (0 .. extra_tasks - 1) under the dataset folder `root`."""
    species, nth = divmod(index, settings.eval_videos)
    item = world.film(settings, species, nth)
    rng = world.rng(settings, "film", species, nth)
    frames, audio = shoot(world.look(item.look), world.song(item.song), settings.image_size, settings.clip_seconds, rng)
    folder = Path(root) / EVALSET / "video_ml"
    folder.mkdir(parents=True, exist_ok=True)
    encode_video(folder / f"demo-{index:05d}.mp4", frames, audio, FPS, RATE_HZ)


def finish_extras(settings: Settings, root: Path | str) -> dict[str, Any]:
    """Write taxa.csv and video_ml.csv beside the videos; returns what the manifest says about the set."""
    folder = Path(root) / EVALSET
    species = world.names(settings)
    taxa = [
        {
            "label": i,
            "species_code": s.ebird_code,
            **{c: getattr(s, c) for c in ("inat_taxon_id", "common_name", "scientific_name", "family", "order")},
        }
        for i, s in enumerate(species)
    ]
    side, frames = settings.image_size - settings.image_size % 2, round(settings.clip_seconds * FPS)
    videos = [
        {
            "asset_id": f"demo-{index:05d}",
            "label": index // settings.eval_videos,
            "split": "test",
            "fps": FPS,
            "frame_count": frames,
            "duration_seconds": frames / FPS,
            "frame_height": side,
            "frame_width": side,
            "frame_channels": 3,
            "reliable_audio": 1,
        }
        for index in range(extra_tasks(settings))
    ]
    write_text(folder / "taxa.csv", _csv(taxa))
    write_text(folder / "video_ml.csv", _csv(videos))
    return {"evalset": "demo", "folder": EVALSET.as_posix(), "videos": len(videos), "classes": len(species)}


def _sight(settings: Settings, item: DemoItem) -> tuple[scene.Scene, draw.Pose, draw.Lens]:
    """Where the photo was taken (shared by an observation), and how bird and camera were held."""
    place = scene.some_scene(world.rng(settings, "observation", item.species, item.group))
    rng = world.rng(settings, "sight", item.species, item.index)
    return place, draw.some_pose(rng), draw.some_lens(rng)


def _hearing(settings: Settings, item: DemoItem) -> tuple[sing.Ambience, sing.Voice]:
    """What a recording's clips have in common, and how the bird sings in this one."""
    ambience = sing.some_ambience(world.rng(settings, "recording", item.species, item.group))
    return ambience, sing.some_voice(world.rng(settings, "hearing", item.species, item.index))


def _caption(settings: Settings, item: DemoItem) -> str:
    place, pose, _ = _sight(settings, item)
    ambience, _ = _hearing(settings, item)
    sight = tell.Sight(
        name=world.names(settings)[item.species].common_name,
        look=world.look(item.look),
        song=world.song(item.song),
        scene=place,
        pose=pose,
        ambience=ambience,
    )
    return tell.caption(sight, world.rng(settings, "caption", item.species, item.index))


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()

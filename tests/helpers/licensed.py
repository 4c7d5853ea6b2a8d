"""A folder of birds whose media have licences of every kind, and a way to change a built dataset with its digests."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from birdmml.core import files
from helpers import SPECIES, photo, sound

PHOTOS = ("CC-BY-4.0", "CC0-1.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "")
SOUNDS = ("CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "CC-BY-4.0", "CC0-1.0", "CC-BY-NC-ND-4.0")


def licensed_folder(root: Path, photos: tuple[str, ...] = PHOTOS, sounds: tuple[str, ...] = SOUNDS) -> Path:
    """Write media and a manifest.csv; one photo and one recording of each species for each licence."""
    rows = []
    for s, name in enumerate(SPECIES):
        for i, spdx in enumerate(photos):
            path = photo(root / "images" / f"{s}-{i}.jpg", seed=100 * s + i)
            rows.append((name, path, spdx, f"Photographer {i}", f"https://example.org/photos/{s}/{i}"))
        for i, spdx in enumerate(sounds):
            path = sound(root / "audio" / f"{s}-{i}.wav", seed=100 * s + i)
            rows.append((name, path, spdx, f"Recordist {i}", f"https://example.org/sounds/{s}/{i}"))
    with (root / "manifest.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(("species", "path", "license", "author", "url"))
        writer.writerows((n, p.relative_to(root).as_posix(), *rest) for n, p, *rest in rows)
    return root


def build_folder(source_root: Path, out: Path) -> Path:
    """The folder as a dataset with short clips."""
    from birdmml.core import discover
    from birdmml.dataset.build import build
    from birdmml.dataset.recipe import BuildSettings, Limits

    source = discover.load("source", "folder")
    own = source.Settings(root=str(source_root), clip_seconds=2.0)
    build(BuildSettings("folder", own, limits=Limits(clip_s=2.0)), out)
    return out


def rows_of(root: Path, *columns: str) -> list[dict[str, Any]]:
    """The rows of all shards as pyarrow reads them, in the manifest's order."""
    manifest = json.loads((root / "manifest.json").read_text())
    found = []
    for split, value in manifest["splits"].items():
        for shard in value["shards"]:
            table = pq.read_table(root / shard["path"], columns=list(columns) or None)
            found += [{**row, "split": split} for row in table.to_pylist()]
    return found


def change_manifest(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest and give it the digest that it then has."""
    path = root / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    value.pop("digest")
    path.write_text(json.dumps({**value, "digest": files.digest(value)}))


def change_shard(root: Path, change: Callable[[Any], Any], number: int = 0, **options: Any) -> None:
    """Write a shard anew (`change` takes and gives a table) and tell the manifest its new hash and size."""
    shards = [s for v in json.loads((root / "manifest.json").read_text())["splits"].values() for s in v["shards"]]
    path = root / shards[number]["path"]
    pq.write_table(change(pq.read_table(path)), path, **options)

    def tell(manifest: dict[str, Any]) -> None:
        for value in manifest["splits"].values():
            for shard in value["shards"]:
                if shard["path"] == shards[number]["path"]:
                    shard |= {"sha256": files.sha256_file(path), "bytes": path.stat().st_size}

    change_manifest(root, tell)

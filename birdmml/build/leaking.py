"""What leaks, measured on the build's own rows: across splits, into evaluation sets, from names in captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.build import near, split
from birdmml.build.catalog import Media
from birdmml.build.leakage import caption_leakage
from birdmml.build.leaks import evalset_hashes, split_leakage
from birdmml.build.recipe import Rules
from birdmml.build.seeds import generator
from birdmml.taxonomy import Taxonomy

Light = tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]
# The probe's memory grows with these (33 kB each); its interval is +-1 % with 8,000.
MAX_CAPTIONS = 8_000


def near_duplicates(media: Media, radius: int) -> NDArray[np.int64]:
    """Component numbers [M] of photos that look alike (-1: a clip, or a photo like no other, or switched off)."""
    found = np.full(len(media), -1, dtype=np.int64)
    photos = np.flatnonzero(media.kind == split.IMAGE)
    if radius >= 0 and len(photos):
        groups = near.near_groups(media.phash[photos], radius)
        _, first, count = np.unique(groups, return_inverse=True, return_counts=True)
        found[photos] = np.where(count[first] > 1, photos[groups], -1)
    return found


def held_out(media: Media, evalsets: Sequence[str], radius: int) -> NDArray[np.bool_] | None:
    """Which media [M] are photos that look like one of an evaluation set; None without evaluation sets."""
    if not evalsets:
        return None
    found = np.zeros(len(media), dtype=np.bool_)
    photos = np.flatnonzero(media.kind == split.IMAGE)
    for folder in evalsets:
        hashes, _ = evalset_hashes(Path(folder).expanduser())
        found[photos[near.near_between(media.phash[photos], hashes, max(radius, 0))[:, 0]]] = True
    return found


def of_splits(
    media: Media, rows: Light, rules: Rules, seed: int, look_alikes: NDArray[np.int64]
) -> dict[str, Any]:
    """How much lies on two sides: as built, and as a row-wise split of the same rows would have it."""
    return {
        "built": rules.mode,
        "as_built": _measure(media, rows, look_alikes),
        "row_wise": _measure(media, _row_wise(media, rows, rules, seed), look_alikes),
    }


def _row_wise(media: Media, rows: Light, rules: Rules, seed: int) -> Light:
    """The source's own rows (or, without those, the ones built), each put into a split by itself."""
    shown = np.flatnonzero(media.partner >= 0)
    if len(shown):
        return split.row_wise(media, rules.fractions, seed)[shown], shown, media.partner[shown]
    _, image, audio = rows
    draw = generator(seed, "row-wise").random(len(image))
    return np.searchsorted(np.cumsum(rules.fractions)[:2], draw, side="right").astype(np.int8), image, audio


def _measure(media: Media, rows: Light, look_alikes: NDArray[np.int64]) -> dict[str, Any]:
    sides, image, audio = rows
    keys: Mapping[str, NDArray[Any]] = {
        "recording": _codes(media.group[audio]),
        "observation": _codes(media.group[image]),
        "image_bytes": _codes(media.sha[image]),
        "audio_bytes": _codes(media.sha[audio]),
        "photographer": _codes(media.author[image]),
        "recordist": _codes(media.author[audio]),
    }
    return {name: asdict(leak) for name, leak in split_leakage(sides, keys, look_alikes[image]).items()}


def _codes(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Small numbers for hashes [N]; -1 where nothing is known."""
    _, codes = np.unique(hashes, return_inverse=True)
    return np.where(hashes == 0, -1, codes)


def of_captions(
    root: Path, manifest: Mapping[str, Any], named: Mapping[str, Mapping[str, float]], known: Taxonomy
) -> dict[str, Any]:
    """Names in the captions, and what a bag of words tells of the species.

    `named` has the shares over all rows; the probe reads up to MAX_CAPTIONS of them, evenly, from the shards.
    """
    columns = ["caption", "caption_name_free", "label", "observation_id"]
    shards = [root / s["path"] for value in manifest["splits"].values() for s in value["shards"]]
    total = int(manifest["counts"]["rows"])
    # Every k-th row, so that memory does not grow with the dataset.
    step = max(1, -(-total // MAX_CAPTIONS))
    taken: dict[str, list[Any]] = {c: [] for c in columns}
    start = 0
    for shard in shards:
        for batch in pq.ParquetFile(shard).iter_batches(4096, columns=columns):
            mine = np.arange(-start % step, batch.num_rows, step)
            for name in columns:
                taken[name] += batch[name].take(mine).to_pylist()
            start += batch.num_rows
    labels = np.array(taken["label"], dtype=np.int64)
    _, groups = np.unique(np.array(taken["observation_id"], dtype=object).astype(str), return_inverse=True)
    species = {label: known.by_label(label) for label in np.unique(labels).tolist()}
    return {
        name: {**caption_leakage(taken[name], labels, groups, species), **named[name], "n": total}
        for name in ("caption", "caption_name_free")
    }

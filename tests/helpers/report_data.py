"""A small dataset written by hand, for tests of what is said about datasets."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image

from birdmml.core.species import by_label
from birdmml.dataset.format import COLUMNS, arrow_schema

RATE_HZ = 22_050
CLIP_S = 2.0
HOSTILE = (
    "<script>alert('x')</script>\"'`|*_[a](http://evil.example) ![i](//evil.example/i.png)\n---\n# {{ 7*7 }} "
    "& www.evil.example \u202e\x00\x07\U0001f426"
)


def jpeg(seed: int, width: int = 120, height: int = 90) -> bytes:
    low = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def flac(frequency_hz: float, valid_s: float = CLIP_S, clip_s: float = CLIP_S) -> bytes:
    t = np.arange(round(clip_s * RATE_HZ)) / RATE_HZ
    sound = 0.5 * np.sin(2 * np.pi * frequency_hz * t) * (t < valid_s)
    out = io.BytesIO()
    soundfile.write(out, sound.astype(np.float32), RATE_HZ, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def row(label: int, index: int, **changes: object) -> dict[str, object]:
    species = by_label(label)
    valid = CLIP_S if index % 2 else CLIP_S * 0.6
    value: dict[str, object] = {c.name: "" for c in COLUMNS}
    value |= {
        "id": f"{species.ebird_code}-{index:04d}",
        "image": {"bytes": jpeg(1000 * label + index), "path": "a.jpg"},
        "audio": {"bytes": flac(1000.0 + 200 * label + 50 * index, valid), "path": "a.flac"},
        "caption": f"A {species.common_name}, number {index}.",
        "species": species.scientific_name,
        "common_name": species.common_name,
        "label": label,
        "ebird_code": species.ebird_code,
        "order": species.order,
        "family": species.family,
        "image_id": f"p{label}-{index}",
        "image_width": 120,
        "image_height": 90,
        "image_sha256": f"{label:02x}{index:02x}" + "0" * 60,
        "image_reencoded": False,
        "audio_id": f"c{label}-{index}",
        "recording_id": f"r{label}-{index // 2}",
        "audio_start_s": 0.0,
        "audio_valid_seconds": valid,
        "audio_rms_dbfs": -9.03,
        "audio_clipped_share": 0.0,
        "image_recovered": False,
        "audio_recovered": False,
        "audio_sha256": f"{label:02x}{index:02x}" + "1" * 60,
        "caption_origin": "demo",
        "image_license": "CC0-1.0",
        "audio_license": "CC-BY-NC-SA-4.0",
        "caption_license": "CC0-1.0",
        "image_author": "Ann Author",
        "audio_author": "Rob Recorder",
        "audio_url": "https://example.org/recording",
    }
    return value | changes


def write_dataset(root: Path, rows: dict[str, list[dict[str, object]]], group: int = 3) -> None:
    """One shard a split, `group` rows a row group."""
    (root / "data").mkdir(parents=True)
    for split, values in rows.items():
        table = pa.Table.from_pylist(values, schema=arrow_schema(RATE_HZ))
        pq.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet", row_group_size=group)


def manifest(rows: dict[str, list[dict[str, object]]], **changes: object) -> dict[str, object]:
    every = [r for values in rows.values() for r in values]

    def distinct(column: str, of: list[dict[str, object]]) -> int:
        return len({r[column] for r in of})

    value = {
        "schema_version": 1,
        "name": "birdmml-demo",
        "demo": True,
        "birdmml_version": "0.1.0",
        "source": {"name": "demo", "settings": {"species": 4}, "facts": {"ceilings": {}}},
        "settings": {
            "clip_s": CLIP_S,
            "rate_hz": RATE_HZ,
            "seed": 0,
            "split": "grouped",
            "split_fractions": [0.8, 0.1, 0.1],
        },
        "taxonomy": {"species": 150, "digest": "d" * 64},
        "counts": {
            "rows": len(every),
            "species": distinct("label", every),
            "photos": distinct("image_id", every),
            "recordings": distinct("recording_id", every),
            "clips": distinct("audio_id", every),
        },
        "licenses": {
            "image": {"CC0-1.0": len(every)},
            "audio": {"CC-BY-NC-SA-4.0": len(every) - 1, "unknown": 1},
            "caption": {"CC0-1.0": len(every)},
        },
        "splits": {
            split: {
                "rows": len(values),
                "species": distinct("label", values),
                "shards": [
                    {
                        "path": f"data/{split}-00000-of-00001.parquet",
                        "rows": len(values),
                        "bytes": 5_000_000,
                        "sha256": "e" * 64,
                    }
                ],
            }
            for split, values in rows.items()
        },
        "files": {"evalsets/demo/videos/a.mp4": "f" * 64},
        "digest": "a" * 64,
    }
    value["source"]["facts"]["ceilings"] = {"image": 0.5, "audio": 1 / 3, "image+audio": 1.0}
    return value | changes


def validation(**changes: object) -> dict[str, object]:
    value: dict[str, object] = {
        "schema_version": 1,
        "rejected": len(changes.get("rejects", [])),  # type: ignore[arg-type]  # a list where it is given
        "rejects": [],
        "rejects_by_reason": {},
        "absent_by_reason": {},
        "absent": [],
        "recovered_rows": 0,
        "pairs": {"as_in_source": 24, "re_paired": 0, "of_these_with_a_photo_used_again": 0, "by_rule": 0},
        "leakage": {"splits": {}, "captions": {}},
        "media_checked": 48,
        "reject_share": 0.0,
        "max_rejects": 0.01,
        "accepted": True,
        "unpaired": [],
        "dropped_tails": {"clips": 0, "seconds": 0.0},
        "duplicates": [],
        "captions_by_origin": {"demo": 24},
        "unknown_licenses": {"image": 0, "audio": 0, "caption": 0},
    }
    return value | changes


def small() -> dict[str, list[dict[str, object]]]:
    """Four species: train, validation and test."""
    return {
        "train": [row(label, i) for i in range(4) for label in (0, 1, 33, 149)],
        "validation": [row(label, 4) for label in (0, 1, 33, 149)],
        "test": [row(label, 5) for label in (0, 1, 33, 149)],
    }


def leaky(built: str = "grouped") -> dict[str, object]:
    """A record of leaks: a quarter of the test rows as built, a half row by row; names in a third of the captions."""

    def side(share: float, groups: int) -> dict[str, object]:
        return {"groups": groups, "rows": 2 * groups, "test_share": share, "validation_share": None}

    probe = {"accuracy": 0.75, "low": 0.7, "high": 0.8, "shuffled": {"accuracy": 0.05}}
    named = {"n": 24, "common": 1 / 3, "scientific": 0.02, "part": 0.0, "any": 0.35, "probe": probe}
    free = {"n": 24, "common": 0.0, "scientific": 0.0, "part": 0.0, "any": 0.0, "probe": None, "reason": HOSTILE}
    return {
        "splits": {
            "built": built,
            "as_built": {"recording": side(0.25, 3), "photographer": side(0.4, 4)},
            "row_wise": {"recording": side(0.5, 7), "photographer": side(0.6, 8)},
        },
        "captions": {"caption": named, "caption_name_free": free},
    }

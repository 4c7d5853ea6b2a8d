"""The columns of a built dataset, once: name, type and meaning. Parquet schema, cards and checks read this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: `kind` is image, audio, label, string, int, float or bool."""

    name: str
    kind: str
    meaning: str


def _credit(part: str) -> tuple[Column, ...]:
    template = " (a template: where its terms are)" if part == "caption" else ""
    return (
        Column(f"{part}_license", "string", f"SPDX id of the {part}'s licence, or `unknown`"),
        Column(f"{part}_license_original", "string", f"the {part}'s licence as its source writes it"),
        Column(f"{part}_author", "string", f"who made the {part}"),
        Column(f"{part}_url", "string", f"where the {part} comes from{template}"),
    )


COLUMNS: tuple[Column, ...] = (
    Column("id", "string", "row id, unique in the dataset"),
    Column("image", "image", "the photo: JPEG bytes and a file name"),
    Column("audio", "audio", "the clip: mono FLAC bytes and a file name"),
    Column("caption", "string", "a text about the bird"),
    Column("caption_name_free", "string", "the caption without the names that give the species away"),
    Column("species", "string", "scientific name"),
    Column("common_name", "string", "English name"),
    Column("label", "label", "index into the 150 species of the taxonomy, the same in every build"),
    Column("ebird_code", "string", "eBird species code"),
    Column("order", "string", "taxonomic order"),
    Column("family", "string", "taxonomic family"),
    Column("image_id", "string", "id of the photo"),
    Column("observation_id", "string", "photos of one observation share it; it never spans two splits"),
    Column("image_width", "int", "pixels, as stored"),
    Column("image_height", "int", "pixels, as stored"),
    Column("image_phash", "string", "64-bit perceptual hash, hex"),
    Column("image_sha256", "string", "SHA-256 of the stored image bytes"),
    Column("image_reencoded", "bool", "false where the source's JPEG was passed through untouched"),
    Column("audio_id", "string", "id of the clip"),
    Column("recording_id", "string", "clips of one recording share it; it never spans two splits"),
    Column("audio_start_s", "float", "where the clip starts in its recording, s"),
    Column("audio_valid_seconds", "float", "seconds of real sound; the rest of the clip is padding"),
    Column("audio_rms_dbfs", "float", "RMS level of the valid part, dB relative to full scale"),
    Column("audio_clipped_share", "float", "share of samples at full scale"),
    Column("audio_sha256", "string", "SHA-256 of the stored audio bytes"),
    Column("image_recovered", "bool", "read behind a hole in the source's archive; every byte is certain"),
    Column("audio_recovered", "bool", "read behind a hole in the source's archive; every byte is certain"),
    Column("caption_origin", "string", "provided, template, hf (models wrote it) or demo"),
    Column(
        "metadata",
        "string",
        "what else the source says of the row, as JSON, with what was written of it (`written_caption`); or empty",
    ),
    *_credit("image"),
    *_credit("audio"),
    *_credit("caption"),
)

NAMES: tuple[str, ...] = tuple(c.name for c in COLUMNS)

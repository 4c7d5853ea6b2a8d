"""SSW60: 60 species in videos, recordings and photos (Sapsucker Woods); the user's own copy, research only."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping

from birdmml.core.species import all_species
from birdmml.errors import EvalsetError
from birdmml.evalsets._annotations import Annotations, Collection, Download, TableRow, count, rows, settle, whole_number
from birdmml.schema import Card, Reject

CARD = Card(
    summary="5,400 videos, 3,861 recordings and 31,221 photos of 60 species, each with the provider's own split.",
    license="research only, no redistribution",
    citation="Van Horn et al., Exploring Fine-Grained Audiovisual Categorization with the SSW60 Dataset, ECCV 2022",
    url="https://github.com/visipedia/ssw60",
    modalities=("image", "audio"),
)
KIND = "media"
PROMPT = "{common_name}"
SPLITS = ("train", "test")
DOWNLOAD = Download("ssw60.tar.gz", "31.1 GB", "af0a54ea1a897d130d91be8ffe0de81c", CARD.url, "for research only")
ARCHIVES = ("ssw60",)  # What its archives' names hold.
PUBLISHED = {
    "classes": 60,
    "videos": {"train": 3462, "test": 1938},
    "audio": {"train": 2597, "test": 1264},
    "images_nabirds": {"train": 5050, "test": 5171},
    "images_inat": {"train": 18000, "test": 3000},
}
COLLECTIONS = (
    Collection("videos", "videos", "video_ml"),
    Collection("audio", "audio", "audio_ml"),
    Collection("images_nabirds", "images", "images_nabirds"),
    Collection("images_inat", "images", "images_inat"),
)
TABLES = ("taxa.csv", "video_ml.csv", "audio_ml.csv", "images_nabirds.csv", "images_inat.csv")

_SUFFIX = {"videos": ".mp4", "audio": ".wav", "images": ".jpg"}
_NEEDED = ("asset_id", "label", "split")
_TAXA = (
    "label", "species_code", "inat_taxon_id", "inat2021_label", "nabirds_labels", "common_name",
    "scientific_name", "family", "order",
)  # fmt: skip
# As the published tables spell them; "orginal" too.
_COLUMNS = {
    "video_ml.csv": "fps frame_count duration_seconds frame_height frame_width frame_channels "
    "orginal_video_start_second original_video_end_second original_video_target_second target_second reliable_audio",
    "audio_ml.csv": "samplerate channels samples duration_seconds",
    "images_nabirds.csv": "height width channels photographer",
    "images_inat.csv": "height width channels rights_holder license_id",
}


def annotate(tables: Mapping[str, bytes], files: Many[str]) -> Annotations:
    """The set from its tables and the paths that are there; raises EvalsetError for tables that are not SSW60's."""
    taxa, notes = _taxa(tables)
    entries, claimed, named, rejects = {}, {}, set[str](), list[Reject]()
    for collection in COLLECTIONS:
        table = f"{collection.folder}.csv"
        records, more = rows(table, tables, _NEEDED, _COLUMNS[table].split())
        claims = []
        for number, row in enumerate(records, 2):
            name, label = row["asset_id"], row["label"]
            # A name with a folder in it could point outside the set.
            plain = name and "/" not in name and "\\" not in name
            file = f"{collection.folder}/{name}{_SUFFIX[collection.kind]}" if plain else ""
            claims.append(TableRow(f"{table}:{number}", name, whole_number(label), label, row["split"], file))
        entries[collection.name], bad = settle(claims, len(taxa), SPLITS, files)
        notes += more
        rejects += bad
        claimed[collection.name] = count(claims)
        named |= {c.file for c in claims}
    names = tuple(t["common_name"] for t in taxa)
    return Annotations(
        names, entries, tuple(rejects), tuple(notes), tuple(taxa), claimed, frozenset(named)
    )  # fmt: skip


def _taxa(tables: Mapping[str, bytes]) -> tuple[list[dict[str, str]], list[str]]:
    """The classes in label order, and a note where the taxonomy has another species there, or another name today."""
    records, notes = rows("taxa.csv", tables, ("label", "common_name", "scientific_name"), _TAXA)
    labels, wanted = [row["label"] for row in records], [str(n) for n in range(len(records))]
    if sorted(labels) != sorted(wanted):
        strange = next(x for i, x in enumerate(labels) if x not in wanted or x in labels[:i])
        raise EvalsetError(
            f"taxa.csv: label {strange!r} is not one of 0 to {len(records) - 1}, each once: get the table again"
        )
    if nameless := [row["label"] for row in records if not row["common_name"]]:
        raise EvalsetError(f"taxa.csv: class {nameless[0]} has no common_name: get the table again")
    records.sort(key=lambda row: int(row["label"]))
    species_of = {species.ssw60_label: species for species in all_species()}
    for row in records:
        species = species_of.get(int(row["label"]))
        if species is not None and row["common_name"] != species.common_name:
            notes.append(
                f"class {row['label']} is {row['common_name']!r} in taxa.csv and {species.common_name!r} in the "
                "taxonomy; the set's own name is kept"
            )
    return records, notes

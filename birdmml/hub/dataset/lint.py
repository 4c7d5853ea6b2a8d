"""What the Hub's viewer and `datasets` need of a dataset: row groups, page index, features, and the card's YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.build.card import HUB_LICENSES, size_category
from birdmml.build.datasheet import OPEN
from birdmml.build.schema import arrow_schema
from birdmml.hub.dataset.finding import Finding
from birdmml.schema import SPLITS
from birdmml.species_list import dataset_taxonomy

# The viewer reads a row group whole, and refuses larger ones.
MAX_GROUP_BYTES = 100_000_000
MAX_GROUP_ROWS = 1_000
LICENSES = HUB_LICENSES | {"cc", "unknown", "other", "mit", "apache-2.0", "odc-by", "odbl", "pddl"}
# Of the Hub's task categories, those that a dataset of pictures, sounds and texts can be for.
TASKS = frozenset(
    """
    image-classification zero-shot-image-classification image-feature-extraction image-to-text text-to-image
    image-text-to-text audio-classification audio-to-audio text-to-audio text-to-speech feature-extraction
    zero-shot-classification text-classification sentence-similarity visual-question-answering any-to-any
    object-detection zero-shot-object-detection unconditional-image-generation text-retrieval other
    """.split()
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?|code|multilingual")
_WRITE = "build the dataset again, or write the shard with smaller row groups"


def shards(root: Path, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    """Row groups, page index and features of each shard."""
    known = dataset_taxonomy(root, manifest)
    features = _features(arrow_schema(int(manifest["settings"]["rate_hz"]), known.scientific_names))
    for value in manifest["splits"].values():
        for shard in value["shards"]:
            yield from _shard(root, shard["path"], features)


def _shard(root: Path, path: str, features: Any) -> Iterator[Finding]:
    try:
        file = pq.ParquetFile(root / path)
    except (OSError, pa.ArrowException) as e:
        yield Finding("not_parquet", path, str(e).splitlines()[0], "build the dataset again")
        return
    meta = file.metadata
    groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
    large = max((g.total_byte_size for g in groups), default=0)
    if large > MAX_GROUP_BYTES:
        yield Finding(
            "row_group", path, f"a row group of {large:,} bytes, over {MAX_GROUP_BYTES:,}", _WRITE, False
        )
    if (most := max((g.num_rows for g in groups), default=0)) > MAX_GROUP_ROWS:
        yield Finding(
            "row_group", path, f"a row group of {most:,} rows, over {MAX_GROUP_ROWS:,}", _WRITE, False
        )
    chunks = [g.column(c) for g in groups for c in range(g.num_columns)]
    if not all(c.has_offset_index for c in chunks):
        yield Finding(
            "page_index", path, "columns without one", "write it with pyarrow's write_page_index=True", False
        )
    if _features(file.schema_arrow) != features:
        yield Finding(
            "features", path, "the schema's Hugging Face features are not those of its columns", "build again"
        )


def _features(schema: pa.Schema) -> Any:
    try:
        return json.loads((schema.metadata or {}).get(b"huggingface", b"null"))
    except (ValueError, RecursionError):
        return None


def card(text: str, manifest: Mapping[str, Any], paths: Sequence[str]) -> Iterator[Finding]:
    """The card's YAML, read by huggingface_hub's own code, against the files and the manifest."""
    from huggingface_hub import DatasetCard
    from yaml import YAMLError

    none = Finding("card_yaml", "README.md", "no YAML block at its start", "build again, or write one")
    if not text.startswith("---"):
        yield none
        return
    try:
        data = {k: v for k, v in vars(DatasetCard(text).data).items() if v is not None}
    except (ValueError, TypeError, AttributeError, YAMLError, RecursionError) as e:
        told = " ".join(str(e).split())[:200]
        yield Finding(
            "card_yaml", "README.md", f"its YAML cannot be read ({told})", "mend it, or build again"
        )
        return
    if not data:
        yield none
        return
    yield from _fields(data, manifest)
    yield from _configs(data.get("configs"), manifest, paths)


def _fields(data: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[Finding]:
    rows = int(manifest["counts"]["rows"])
    rules = (
        ("license", lambda v: v in LICENSES, "ids that the Hub knows, else `other`"),
        ("language", lambda v: bool(_LANGUAGE.fullmatch(v)), "codes such as en"),
        ("task_categories", lambda v: v in TASKS, "tasks that the Hub knows, such as audio-classification"),
        ("size_categories", lambda v: v == size_category(rows), size_category(rows)),
        ("pretty_name", bool, "a name for people"),
        ("tags", bool, "words to be found by"),
    )
    for name, allowed, wanted in rules:
        values = data.get(name)
        listed = values if isinstance(values, list) else [values] if values else []
        if odd := [v for v in listed if not (isinstance(v, str) and allowed(v))]:
            yield Finding("card_field", f"README.md {name}", f"{odd[0]!r:.80}", f"give {wanted}", False)
        elif not listed:
            yield Finding("card_field", f"README.md {name}", "nothing", f"give {wanted}", False)
    demo = manifest["demo"] and "demo" not in str(data.get("pretty_name", "")).casefold()
    if demo:
        yield Finding("demo", "README.md pretty_name", "does not say that this is the demo", "build again")


def _configs(configs: Any, manifest: Mapping[str, Any], paths: Sequence[str]) -> Iterator[Finding]:
    """Each split's patterns must match all of its shards and nothing else, or others load other rows."""
    where, step = "README.md configs", "build again, or give one pattern a split: data/train-*.parquet"
    found: dict[str, set[str]] = {}
    try:
        for config in configs:
            for entry in config["data_files"]:
                patterns = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
                for pattern in patterns:
                    matched = {p for p in paths if fnmatchcase(p, pattern)}
                    if not matched:
                        yield Finding("card_configs", where, f"{pattern!r:.80} matches no file", step)
                    found.setdefault(str(entry["split"]), set()).update(matched)
    except (TypeError, KeyError, AttributeError):
        yield Finding("card_configs", where, "no list of data_files with split and path", step)
        return
    for split in sorted({*SPLITS, *found}):
        wanted = {s["path"] for s in manifest["splits"].get(split, {}).get("shards", ()) if s["rows"]}
        if wanted != found.get(split, set()):
            odd = min(wanted ^ found.get(split, set()))
            yield Finding("card_configs", f"{where} {split}", f"not the shards of this split ({odd})", step)


def datasheet(text: str) -> Iterator[Finding]:
    """Questions that only a maintainer can answer, and that are open."""
    if left := text.count(OPEN):
        yield Finding(
            "datasheet", "datasheet.md", f"{left} questions are open", "answer them in the file", False
        )

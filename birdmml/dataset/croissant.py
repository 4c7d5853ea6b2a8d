"""croissant.json: what a dataset holds, for programs (Croissant 1.1 with the RAI vocabulary), from its manifest.

Files lie in one repository: the dataset's own folder, or its copy on the Hub. The rows are one record set over all
shards, with the split read from the shard's name, so that readers can ask for one split.
http://mlcommons.org/croissant/1.1
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from birdmml.core.licenses import UNKNOWN_LICENSE
from birdmml.core.text import citation, printable
from birdmml.dataset.account import license_addresses, of
from birdmml.dataset.format import COLUMNS, Column
from birdmml.schema import SPLITS

FILE = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
REPOSITORY, SHARDS, ROWS = "repository", "shards", "rows"
PARQUET = "application/x-parquet"
_HUB = "https://huggingface.co"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        name: f"cr:{name}"
        for name in (
            "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet"
            " format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex"
            " repeated replace samplingRate separator source subField transform"
        ).split()
    },
}  # fmt: skip
_TYPES = {
    "image": "sc:ImageObject",
    "audio": "sc:AudioObject",
    "label": "sc:Integer",
    "string": "sc:Text",
    "int": "sc:Integer",
    "float": "sc:Float",
    "bool": "sc:Boolean",
}


def render(manifest: Mapping[str, Any], validation: Mapping[str, Any], repo: str = "", published: str = "") -> str:
    """The text of croissant.json; equal arguments give equal bytes.

    Without `repo` paths are relative to the dataset's folder, where the file lies; with `repo` (user/name) they are
    the Hub's. `published` (YYYY-MM-DD) is left out where nobody has said it: a build has no date.
    """
    says = of(manifest, validation)
    user = repo.partition("/")[0]
    address = f"{_HUB}/datasets/{repo}" if repo else ""
    fields: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": repo.rpartition("/")[2] or manifest["name"],
        "description": says.description,
        "url": address or None,
        "publisher": {"@type": "sc:Organization", "name": user, "url": f"{_HUB}/{user}"} if user else None,
        "license": license_addresses(manifest) or [UNKNOWN_LICENSE],
        "citeAs": citation(),
        "datePublished": published or None,
        # Croissant asks for major.minor.patch; the build's digest is what really tells versions apart.
        "version": f"{manifest['schema_version']}.0.0+{manifest['digest'][:16]}",
        "inLanguage": "en",
        "keywords": ["birds", "bioacoustics", "image", "audio", "text", *(["demo", "synthetic"] * manifest["demo"])],
        "isLiveDataset": False,
        "rai:dataCollection": says.collection,
        "rai:dataCollectionMissingData": says.missing,
        "rai:dataPreprocessingProtocol": list(says.preprocessing),
        "rai:dataAnnotationProtocol": list(says.annotation),
        "rai:machineAnnotationTools": list(says.tools) or None,
        "rai:dataBiases": list(says.biases),
        "rai:dataLimitations": list(says.limitations),
        "rai:personalSensitiveInformation": list(says.personal),
        "distribution": list(_distribution(manifest, address or ".")),
        "recordSet": [_splits(manifest), _rows()],
    }
    text = json.dumps(_clean({k: v for k, v in fields.items() if v is not None}), indent=2, ensure_ascii=False)
    return text + "\n"


def _clean(value: Any) -> Any:
    """Every text without controls and marks that reorder what is around them."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return "\n".join(map(printable, value.split("\n"))) if isinstance(value, str) else value


def _distribution(manifest: Mapping[str, Any], address: str) -> Iterator[dict[str, Any]]:
    yield _node(
        "FileObject",
        REPOSITORY,
        description="A repository has no checksum of its own: this is the digest of manifest.json, which holds the"
        " SHA-256 of every shard.",
        contentUrl=address,
        encodingFormat="git+https",
        sha256=manifest["digest"],
    )
    inside = {"@id": REPOSITORY}
    for split in SPLITS:
        for shard in manifest["splits"].get(split, {}).get("shards", ()):
            yield _node(
                "FileObject",
                shard["path"],
                containedIn=inside,
                contentUrl=shard["path"],
                contentSize=f"{shard['bytes']} B",
                encodingFormat=PARQUET,
                sha256=shard["sha256"],
            )
    yield _node("FileSet", SHARDS, containedIn=inside, encodingFormat=PARQUET, includes="data/*.parquet")


def _node(kind: str, path: str, **more: Any) -> dict[str, Any]:
    """A node of the graph; a field is named by the last part of its path, as its record set has it."""
    name = path.rpartition("/")[2] if kind == "Field" else path
    return {"@type": f"cr:{kind}", "@id": path, "name": name, **more}


def _splits(manifest: Mapping[str, Any]) -> dict[str, Any]:
    names = [s for s in SPLITS if manifest["splits"].get(s, {}).get("rows")]
    return _node(
        "RecordSet",
        "splits",
        description="The splits, and their rows.",
        dataType="cr:Split",
        key={"@id": "splits/name"},
        field=[_node("Field", "splits/name", dataType="sc:Text"), _node("Field", "splits/rows", dataType="sc:Integer")],
        data=[{"splits/name": s, "splits/rows": manifest["splits"][s]["rows"]} for s in names],
    )


def _rows() -> dict[str, Any]:
    split = _node(
        "Field",
        f"{ROWS}/split",
        description="train, validation or test",
        dataType="sc:Text",
        references={"field": {"@id": "splits/name"}},
        # The pattern also takes a bare name, as readers that join try it on both sides.
        source={
            "fileSet": {"@id": SHARDS},
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": f"^({'|'.join(SPLITS)}).*$"},
        },
    )
    words = "One row for each triplet of a photo, a clip and a caption."
    key = {"@id": f"{ROWS}/id"}
    return _node("RecordSet", ROWS, description=words, key=key, field=[split, *map(_field, COLUMNS)])


def _field(column: Column) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": SHARDS}, "extract": {"column": column.name}}
    if column.kind in ("image", "audio"):
        source["transform"] = {"jsonPath": "bytes"}
    kind = _TYPES[column.kind]
    return _node("Field", f"{ROWS}/{column.name}", description=column.meaning, dataType=kind, source=source)

"""What is checked of a built dataset before it is published: licences, private texts, shards, card and files."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from birdmml.core import files
from birdmml.core.licenses import Policy, policy
from birdmml.core.species_list import TABLE, dataset_taxonomy
from birdmml.dataset.card import HUB_LICENSES, NAMES, OPEN, size_category
from birdmml.dataset.format import MANIFEST, arrow_schema
from birdmml.errors import DatasetError, UsageError
from birdmml.hub import UploadFile
from birdmml.hub import listed as listed_files
from birdmml.schema import SPLITS


@dataclass(frozen=True)
class PublishFinding:
    """A stable slug, where, what was found, and the next step. `stops` tells what must not be published."""

    check: str
    where: str
    wrong: str
    step: str
    stops: bool = True

    @property
    def line(self) -> str:
        """All of it on one line."""
        return f"{self.check}: {self.where}: {self.wrong}; {self.step}"


# What a row must have to be published: a licence that `birdmml.core.licenses` takes for each of its parts.
PARTS = ("image", "audio", "caption")


def parse(text: str) -> Policy:
    """The policy of --licenses, which may not be empty here; raises UsageError for what is no licence."""
    if not text.replace(",", "").strip():
        raise UsageError("--licenses is empty: name licences, as in CC0,CC-BY,CC-BY-SA-4.0, or leave it out")
    return policy(text)


def reasons(policy: Policy, row: Mapping[str, str]) -> dict[str, str]:
    """{part: why} for the parts of a row, {part: licence}, that may not be published; empty if all may."""
    return {part: why for part in PARTS if (why := policy.why_not(row[part]))}


# What must not leave this machine in a text: its paths, and keys of services.
TEXTS = (".md", ".json", ".csv", ".html", ".svg", ".cff")
MAX_SHOWN_ROWS = 5
_ROOTS = "home|Users|root|tmp|mnt|media|var|opt|private|scratch|srv|Volumes|workspace"
# The first finds lines worth a look, in the dialect of RE2; the second says what it is.
CANDIDATE = (
    rf"/(?:{_ROOTS})/|[A-Za-z]:\\|file:/|hf_[A-Za-z0-9]{{20}}|gh[pousr]_[A-Za-z0-9]{{30}}|AKIA[0-9A-Z]{{16}}"
    r"|PRIVATE KEY|[?&](?:key|token|api_key|access_token)="
)
_PATH = re.compile(rf"(?<![\w/.:%-])/(?:{_ROOTS})/[^\s\"'<>|,;)]+|(?<!\w)[A-Za-z]:\\+\w[^\s\"'<>|]*|file:/+[^\s\"'<>]+")
_SECRET = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|[?&](?:key|token|api_key|access_token)=[A-Za-z0-9_.-]{8,}"
)
_ENVIRONMENT = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|_KEY$")
_STEP_PATH = "take it out, or build again with names instead of paths"
_STEP_SECRET = "take it out, and withdraw the key where it was issued"  # noqa: S105  # words for a reader


class Private:
    """Looks for paths of this machine and for keys; what it finds of a key is never repeated."""

    def __init__(self, root: Path) -> None:
        here = {str(p) for p in (root.resolve(), Path.cwd(), Path.home()) if len(p.parts) > 2}
        self.paths = sorted(here, key=len, reverse=True)
        # As a path of its own, not as a part of an address or of a longer name.
        self._here = re.compile("|".join(rf"(?<![\w/.:%-]){re.escape(p)}(?![\w-])" for p in self.paths) or "(?!)")
        values = {v for k, v in os.environ.items() if _ENVIRONMENT.search(k.upper()) and len(v) >= 12}
        self.secrets = sorted(v for v in values if not v.isalpha() and "/" not in v)

    @property
    def words(self) -> list[str]:
        """What is looked for literally."""
        return [*self.paths, *self.secrets]

    def kind(self, text: str) -> tuple[str, str] | None:
        """(what, next step) of the first thing in a text that must stay here; None where there is none."""
        if _SECRET.search(text) or any(s in text for s in self.secrets):
            return "a key of a service (not shown)", _STEP_SECRET
        match = _PATH.search(text) or self._here.search(text)
        return (f"a path of one machine, {match[0][:60]!r}", _STEP_PATH) if match else None


def in_files(root: Path, paths: Iterable[str], private: Private) -> Iterator[PublishFinding]:
    """Findings in the texts among `paths`, up to MAX_SHOWN_ROWS a file."""
    for path in paths:
        if not path.endswith(TEXTS):
            continue
        shown = 0
        with (root / path).open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if shown < MAX_SHOWN_ROWS and (finding := private.kind(line)):
                    shown += 1
                    yield PublishFinding("private", f"{path} line {number}", *finding)


# What the Hub's viewer and `datasets` need of a dataset: row groups, page index, features, and the card's YAML.
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


def shards(root: Path, manifest: Mapping[str, Any]) -> Iterator[PublishFinding]:
    """Row groups, page index and features of each shard."""
    taxonomy = dataset_taxonomy(root, manifest)
    features = _features(arrow_schema(int(manifest["settings"]["rate_hz"]), taxonomy.scientific_names))
    for value in manifest["splits"].values():
        for shard in value["shards"]:
            yield from _lint_shard(root, shard["path"], features)


def _lint_shard(root: Path, path: str, features: Any) -> Iterator[PublishFinding]:
    try:
        file = pq.ParquetFile(root / path)
    except (OSError, pa.ArrowException) as e:
        yield PublishFinding("not_parquet", path, str(e).splitlines()[0], "build the dataset again")
        return
    meta = file.metadata
    groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
    large = max((g.total_byte_size for g in groups), default=0)
    most = max((g.num_rows for g in groups), default=0)
    for size, limit, unit in ((large, MAX_GROUP_BYTES, "bytes"), (most, MAX_GROUP_ROWS, "rows")):
        if size > limit:
            what = f"a row group of {size:,} {unit}, over {limit:,}"
            yield PublishFinding("row_group", path, what, _WRITE, False)
    chunks = [g.column(c) for g in groups for c in range(g.num_columns)]
    if not all(c.has_offset_index for c in chunks):
        step = "write it with pyarrow's write_page_index=True"
        yield PublishFinding("page_index", path, "columns without one", step, False)
    if _features(file.schema_arrow) != features:
        what = "the schema's Hugging Face features are not those of its columns"
        yield PublishFinding("features", path, what, "build again")


def _features(schema: pa.Schema) -> Any:
    try:
        return json.loads((schema.metadata or {}).get(b"huggingface", b"null"))
    except (ValueError, RecursionError):
        return None


def card(text: str, manifest: Mapping[str, Any], paths: Sequence[str]) -> Iterator[PublishFinding]:
    """The card's YAML, read by huggingface_hub's own code, against the files and the manifest."""
    from huggingface_hub import DatasetCard
    from yaml import YAMLError

    none = PublishFinding("card_yaml", "README.md", "no YAML block at its start", "build again, or write one")
    if not text.startswith("---"):
        yield none
        return
    try:
        data = {k: v for k, v in vars(DatasetCard(text).data).items() if v is not None}
    except (ValueError, TypeError, AttributeError, YAMLError, RecursionError) as e:
        reason = " ".join(str(e).split())[:200]
        yield PublishFinding("card_yaml", "README.md", f"its YAML cannot be read ({reason})", "mend it, or build again")
        return
    if not data:
        yield none
        return
    yield from _fields(data, manifest)
    yield from _configs(data.get("configs"), manifest, paths)


def _fields(data: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[PublishFinding]:
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
        odd = [f"{v!r:.80}" for v in listed if not (isinstance(v, str) and allowed(v))]
        if odd or not listed:
            what = odd[0] if odd else "nothing"
            yield PublishFinding("card_field", f"README.md {name}", what, f"give {wanted}", False)
    if manifest["demo"] and "demo" not in str(data.get("pretty_name", "")).casefold():
        yield PublishFinding("demo", "README.md pretty_name", "does not say that this is the demo", "build again")


def _configs(configs: Any, manifest: Mapping[str, Any], paths: Sequence[str]) -> Iterator[PublishFinding]:
    """Each split's patterns must match all of its shards and nothing else, or others load other rows."""
    where, step = "README.md configs", "build again, or give one pattern a split: data/train-*.parquet"
    matches: dict[str, set[str]] = {}
    try:
        for config in configs:
            for entry in config["data_files"]:
                patterns = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
                for pattern in patterns:
                    matched = {p for p in paths if fnmatchcase(p, pattern)}
                    if not matched:
                        yield PublishFinding("card_configs", where, f"{pattern!r:.80} matches no file", step)
                    matches.setdefault(str(entry["split"]), set()).update(matched)
    except (TypeError, KeyError, AttributeError):
        yield PublishFinding("card_configs", where, "no list of data_files with split and path", step)
        return
    for split in sorted({*SPLITS, *matches}):
        wanted = {s["path"] for s in manifest["splits"].get(split, {}).get("shards", ()) if s["rows"]}
        if wanted != matches.get(split, set()):
            odd = min(wanted ^ matches.get(split, set()))
            yield PublishFinding("card_configs", f"{where} {split}", f"not the shards of this split ({odd})", step)


def datasheet(text: str) -> Iterator[PublishFinding]:
    """Questions that only a maintainer can answer, and that are open."""
    if left := text.count(OPEN):
        what = f"{left} questions are open"
        yield PublishFinding("datasheet", "datasheet.md", what, "answer them in the file", False)


# One pass over the rows of a dataset, without its media: licences, counts, and texts that must not leave.
MAX_EXAMPLES = 3
BATCH_ROWS = 4096
_TEXTS = [f.name for f in arrow_schema() if pa.types.is_string(f.type)]
_NESTED = ("image.path", "audio.path")


@dataclass
class Licences:
    """Rows by licence of each part, why some may not be published, and the first rows of each of those."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {part: Counter() for part in PARTS})
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """What may not be published, by part and licence, most rows first."""
        for (part, spdx), why in sorted(self.refused.items(), key=lambda kv: -self.counts[kv[0][0]][kv[0][1]]):
            shown = ", ".join(self.examples[part, spdx])
            yield f"{part} {spdx!r}: {self.counts[part][spdx]:,} rows ({why}); first {shown}"


def survey(
    root: Path, manifest: Mapping[str, Any], policy: Policy, private: Private
) -> tuple[Licences, list[PublishFinding]]:
    """Read the light columns of every shard. Raises DatasetError where one cannot be read or lacks a column."""
    licences = Licences()
    wrong: list[PublishFinding] = []
    for split, value in manifest["splits"].items():
        for shard in value["shards"]:
            wrong += _shard_rows(root, shard, policy, private, licences, bool(manifest["demo"]))
        if value["rows"] != sum(s["rows"] for s in value["shards"]):
            wrong.append(PublishFinding("counts", split, "its rows are not those of its shards", "build again"))
    # The table of species, if the dataset has its own, is names and numbers: `lint` reads it as no more than that.
    loose = set(manifest["files"]) - ({TABLE} if manifest["taxonomy"].get("file") == TABLE else set())
    if loose and not manifest["demo"]:
        uncovered = f"{len(loose)} files that no row's licence covers"
        wrong.append(PublishFinding("licences", min(loose), uncovered, "publish them by themselves"))
    for part in PARTS:
        listed = {k: n for k, n in manifest["licenses"].get(part, {}).items() if n}
        if listed != dict(licences.counts[part]):
            where, what = f"manifest.json {part}", "counts are not those of the rows"
            wrong.append(PublishFinding("licences", where, what, "build again"))
    return licences, wrong


def _shard_rows(
    root: Path, shard: Mapping[str, Any], policy: Policy, private: Private, licences: Licences, demo: bool
) -> Iterator[PublishFinding]:
    rows, shown, generated = 0, 0, 0
    for batch in batches(root / shard["path"]):
        rows += batch.num_rows
        generated += pc.sum(pc.equal(batch["caption_origin"], "demo")).as_py() or 0
        _count(batch, policy, licences)
        for finding in _texts(batch, private, shard["path"]):
            shown += 1
            if shown <= MAX_SHOWN_ROWS:
                yield finding
    if generated and not demo:
        what = f"{generated} rows of the generated demo, in a dataset that does not call itself a demo"
        yield PublishFinding("demo", shard["path"], what, "build the demo again, and publish it as what it is")
    if rows != shard["rows"]:
        yield PublishFinding("counts", shard["path"], f"{rows} rows, the manifest says {shard['rows']}", "build again")


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The columns of a shard that are no media. Raises DatasetError where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            if lacking := {*_TEXTS, "label"} - set(file.schema_arrow.names):
                raise DatasetError(f"{path} lacks the column {min(lacking)}: build the dataset again")
            yield from file.iter_batches(BATCH_ROWS, columns=[*_TEXTS, *_NESTED])
    except (OSError, pa.ArrowException) as e:
        raise DatasetError(f"{path} cannot be read ({str(e).splitlines()[0]}): build the dataset again") from e


def _count(batch: pa.RecordBatch, policy: Policy, licences: Licences) -> None:
    for part in PARTS:
        column = batch[f"{part}_license"]
        for entry in column.value_counts().to_pylist():
            spdx = str(entry["values"])
            licences.counts[part][spdx] += entry["counts"]
            if why := policy.why_not(spdx):
                licences.refused[part, spdx] = why
                examples = licences.examples.setdefault((part, spdx), [])
                if (room := MAX_EXAMPLES - len(examples)) > 0:
                    of = pc.is_null(column) if entry["values"] is None else pc.equal(column, entry["values"])
                    for row in batch.filter(of).slice(0, room).select(["id", f"{part}_url"]).to_pylist():
                        examples.append(" ".join(repr(v)[1:-1][:120] for v in row.values() if v))


def _texts(batch: pa.RecordBatch, private: Private, path: str) -> Iterator[PublishFinding]:
    pattern = "|".join([CANDIDATE, *map(re.escape, private.words)])
    columns = {name: batch[name] for name in _TEXTS}
    columns |= {name: pc.struct_field(batch[name.partition(".")[0]], "path") for name in _NESTED}
    for name, column in columns.items():
        hits = pc.match_substring_regex(column, pattern).fill_null(False)
        for text in column.filter(hits).to_pylist():
            if finding := private.kind(text):
                yield PublishFinding("private", f"{path} column {name}", *finding)


# The files of a dataset's folder: only what belongs there, nothing that leads out of it, bytes as in the manifest.
VALIDATION = "report/validation.json"
_PART = r"[A-Za-z0-9_][A-Za-z0-9._+=-]{0,199}"
_SAFE = re.compile(rf"(?:{_PART}/){{0,6}}{_PART}")
_SHARD = re.compile(rf"data/({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}\.parquet")
_HEX = re.compile(r"[0-9a-f]{64}")
_REPORT = re.compile(rf"report/(?:media/)?{_PART}\.(?:html|json|csv|md|jpg|png|svg|flac)")
_TOP = frozenset({MANIFEST, *NAMES, "LICENSE", "LICENSE.md", "CITATION.cff"})
_AGAIN = "build the dataset again"


def checked(root: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """{path: SHA-256} of everything that a manifest lists. Raises DatasetError for one that is garbled or hostile."""
    where = root / MANIFEST
    try:
        listed = {str(path): str(sha) for path, sha in manifest["files"].items()}
        for split, value in manifest["splits"].items():
            for shard in value["shards"]:
                match = _SHARD.fullmatch(shard["path"])
                if match is None or match[1] != split or shard["path"] in listed:
                    raise DatasetError(f"{where} names a shard {shard['path']!r}: {_AGAIN}")
                listed[shard["path"]] = shard["sha256"]
                if int(shard["rows"]) < 0 or int(shard["bytes"]) < 0:
                    raise ValueError(shard["path"])
        sound = manifest["digest"] == files.digest({k: v for k, v in manifest.items() if k != "digest"})
        total = sum(s["rows"] for value in manifest["splits"].values() for s in value["shards"])
        counted = total == manifest["counts"]["rows"]
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise DatasetError(f"{where} lacks or garbles {e}: {_AGAIN}") from e
    for path, sha in listed.items():
        if not _SAFE.fullmatch(path) or not _HEX.fullmatch(sha):
            raise DatasetError(f"{where} lists {path!r}, which is no file of a dataset: {_AGAIN}")
    if not sound or not counted:
        what = "its digest" if not sound else "its number of rows"
        raise DatasetError(f"{where} was changed after the build ({what} differs): {_AGAIN}")
    return listed


def walk(root: Path, listed: Mapping[str, str]) -> tuple[list[str], list[PublishFinding]]:
    """The paths below `root` that belong to a dataset, sorted, and what does not belong there."""
    paths: list[str] = []
    wrong: list[PublishFinding] = []
    for path, mode in _entries(root):
        if stat.S_ISLNK(mode):
            wrong.append(PublishFinding("link", path, "a link", "put the file itself in its place"))
        elif not stat.S_ISREG(mode):
            wrong.append(PublishFinding("odd_file", path, "no plain file", "remove it"))
        elif path in listed or path in _TOP or _REPORT.fullmatch(path):
            paths.append(path)
        else:
            wrong.append(PublishFinding("stray_file", path, "not part of the dataset", "move it away"))
    lost = sorted({*listed, MANIFEST, VALIDATION} - set(paths) - {f.where for f in wrong})
    wrong += [PublishFinding("missing_file", path, "listed and not there", _AGAIN) for path in lost]
    return sorted(paths), wrong


def hashed(
    root: Path, paths: list[str], listed: Mapping[str, str]
) -> tuple[tuple[UploadFile, ...], list[PublishFinding]]:
    """Each file with its size and SHA-256, and those that differ from the manifest."""
    uploads = listed_files(root, paths)
    wrong = [
        PublishFinding("sha256", f.path, "the file was changed after the build", _AGAIN)
        for f in uploads
        if listed.get(f.path, f.sha256) != f.sha256
    ]
    return uploads, wrong


def _entries(root: Path) -> Iterator[tuple[str, int]]:
    """(path, mode) of everything below `root` that is no folder; links are not followed."""

    def unread(error: OSError) -> None:
        raise DatasetError(f"{error.filename} cannot be read ({error.strerror}): see that you may read it")

    for at, folders, names in os.walk(root, onerror=unread):
        for name in sorted([*folders, *names]):
            path = Path(at) / name
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode):
                yield path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode(), mode

"""The files of a dataset's folder: only what belongs there, nothing that leads out of it, bytes as in the manifest."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from birdmml import files
from birdmml.build.documents import NAMES
from birdmml.errors import DatasetError
from birdmml.hub.dataset.finding import Finding
from birdmml.hub.parcel import File
from birdmml.manifest import MANIFEST
from birdmml.schema import SPLITS

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


def walk(root: Path, listed: Mapping[str, str]) -> tuple[list[str], list[Finding]]:
    """The paths below `root` that belong to a dataset, sorted, and what does not belong there."""
    found: list[str] = []
    wrong: list[Finding] = []
    for path, mode in _entries(root):
        if stat.S_ISLNK(mode):
            wrong.append(Finding("link", path, "a link", "put the file itself in its place"))
        elif not stat.S_ISREG(mode):
            wrong.append(Finding("odd_file", path, "no plain file", "remove it"))
        elif path in listed or path in _TOP or _REPORT.fullmatch(path):
            found.append(path)
        else:
            wrong.append(Finding("stray_file", path, "not part of the dataset", "move it away"))
    lost = sorted({*listed, MANIFEST, VALIDATION} - set(found) - {f.where for f in wrong})
    wrong += [Finding("missing_file", path, "listed and not there", _AGAIN) for path in lost]
    return sorted(found), wrong


def hashed(root: Path, paths: list[str], listed: Mapping[str, str]) -> tuple[tuple[File, ...], list[Finding]]:
    """Each file with its size and SHA-256, and those that differ from the manifest."""
    made = tuple(File(p, (root / p).stat().st_size, files.sha256_file(root / p)) for p in paths)
    wrong = [
        Finding("sha256", f.path, "the file was changed after the build", _AGAIN)
        for f in made
        if listed.get(f.path, f.sha256) != f.sha256
    ]
    return made, wrong


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

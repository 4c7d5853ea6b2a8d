"""The folder of a site: nothing of anybody else's is touched, and readers see the old site or the new one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from birdmml.core.files import canonical_json, replace_folder
from birdmml.errors import ResultError, UsageError

MARK, MADE_BY = "site.json", "birdmml leaderboard build"
MAX_MARK_BYTES = 64 * 2**20


def check(out: Path) -> None:
    """Raise UsageError unless `out` is free, empty, or holds a site and nothing else."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out {out} is no folder: name a folder, or move the file away")
    if not out.name or not out.resolve().name:
        raise UsageError(f"--out {out} is the root of a file system: name a folder of its own")
    if not out.is_dir():
        return
    try:
        names = sorted(_files(out))
    except OSError as e:
        raise UsageError(f"--out {out} cannot be read ({e.strerror}): choose another folder") from e
    own = _written(out / MARK) if MARK in names else frozenset()
    strange = [name for name in names if name not in own and not (own and name == MARK)]
    if strange:
        more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise UsageError(
            f"--out {out} holds {strange[0]}{more}, which no site is made of: nothing was changed; name a new folder"
        )


@contextmanager
def fresh(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place in the end, or is gone if anything goes wrong.

    Raises ResultError where the disk refuses; `out` is as it was then.
    """
    work = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside `out`, so that taking its place is a rename within one file system.
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        site = work / "site"
        site.mkdir()
        yield site
        replace_folder(site, out, work / "old")
    except OSError as e:
        raise ResultError(f"{e.filename or out}: {e.strerror or e}; {out} is as it was: choose another --out") from e
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def mark(digests: Mapping[str, str]) -> str:
    """site.json: every file with its SHA-256; by it the next build knows the folder."""
    return canonical_json({"made_by": MADE_BY, "schema_version": 1, "files": dict(digests)}) + "\n"


def _files(folder: Path) -> Iterator[str]:
    """What is below a folder, links and empty folders too."""
    for place, folders, names in os.walk(folder, onerror=_raise):  # Else what cannot be read is passed over.
        here = Path(place)
        for name in names:
            yield (here / name).relative_to(folder).as_posix()
        for name in folders:
            one = here / name
            if one.is_symlink() or not any(one.iterdir()):
                yield one.relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _written(path: Path) -> frozenset[str]:
    """The files that a site's own list names; nothing where it is no such list."""
    if path.is_symlink() or path.stat().st_size > MAX_MARK_BYTES:
        return frozenset()
    try:
        value = json.loads(path.read_bytes())
        if value["made_by"] == MADE_BY:
            return frozenset(value["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # Not ours: all that lies there is somebody's.
    return frozenset()

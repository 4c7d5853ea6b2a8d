"""Fakes of evaluation sets as folders and archives, and defects to plant in them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

from birdmml.core import discover
from birdmml.evalsets.prepare import MediaOptions, Preparation, prepare
from helpers import tree

NAMES = ("ssw60", "vb100", "cub200")


def module_of(name: str) -> ModuleType:
    return discover.load("evaluation set", name)


def prepared(name: str, source: Path, out: Path, workers: int = 1, **options: object) -> Preparation:
    own = {k: options.pop(k) for k in ("frame_px", "limit") if k in options}
    return prepare(module_of(name), source, out, MediaOptions(**own), workers, **options)  # type: ignore[arg-type]


def content(out: Path) -> dict[str, str]:
    """Hashes of what a set consists of: everything but the report, which also tells of the archive."""
    return {name: sha for name, sha in tree(out).items() if not name.startswith("report/")}


def packed(root: Path, archive: Path, wrap: str = "", backwards: bool = False) -> Path:
    """The folder as .tar, .tar.gz or .zip, its files in name order or against it."""
    found = sorted(((p.relative_to(root).as_posix(), p) for p in root.rglob("*") if p.is_file()), reverse=backwards)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
            for name, path in found:
                z.writestr(wrap + name, path.read_bytes())
        return archive
    with tarfile.open(archive, "w:gz" if archive.suffix in (".gz", ".tgz") else "w") as t:
        for name, path in found:
            add(t, wrap + name, path.read_bytes())
    return archive


def add(archive: tarfile.TarFile, name: str, data: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    archive.addfile(info, io.BytesIO(data))


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Replace text in a table; what is to be replaced must be there once."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")

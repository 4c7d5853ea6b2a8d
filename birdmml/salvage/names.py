"""Which names of members can be files below a folder, and how a name is shown."""

from __future__ import annotations

from pathlib import PurePosixPath


def inside(name: str) -> tuple[str, str]:
    """The path below the folder, and why there must be no file of that name ("" when there may)."""
    parts = PurePosixPath(name).parts
    path = "/".join(parts)
    if name.startswith("/") or name[1:3] == ":/":
        return path, "its path is absolute"
    if ".." in parts or "\\" in name:
        return path, "its path leads out of the folder"
    if not parts or "\0" in name or not name.isprintable():
        return path, "its name cannot be a file's (empty, control characters or not UTF-8)"
    if max(len(p.encode()) for p in parts) > 255 or len(path.encode()) > 4000:
        return path, "its name is too long for a file"
    return path, ""


def shown(name: str) -> str:
    """The name as valid Unicode."""
    return name.encode("utf-8", "backslashreplace").decode()

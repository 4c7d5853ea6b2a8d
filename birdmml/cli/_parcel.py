"""A parcel for the hub, as commands show it before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from birdmml.cli._show import DEMO_BANNER

if TYPE_CHECKING:
    from birdmml.hub.parcel import Parcel


def parcel_lines(parcel: Parcel) -> list[str]:
    """Every file with its size and SHA-256, then the notes."""
    from birdmml.files import human_bytes

    lines = [DEMO_BANNER] if parcel.demo else []
    kind = "" if parcel.kind == "model" else f"{parcel.kind} "
    size = human_bytes(sum(f.size for f in parcel.files))
    lines.append(f"{kind}{parcel.repo}: {len(parcel.files)} files, {size}")
    width = max(len(f.path) for f in parcel.files)
    lines += [f"  {f.path.ljust(width)}  {human_bytes(f.size):>10}  {f.sha256}" for f in parcel.files]
    return lines + [f"note      {note}" for note in parcel.notes]


def parcel_json(parcel: Parcel, url: str | None) -> dict[str, Any]:
    """The same for programs; `url` is None where nothing was uploaded."""
    return {
        "repo": parcel.repo,
        "kind": parcel.kind,
        "uploaded": url is not None,
        "url": url,
        "demo": parcel.demo,
        "files": [vars(f) for f in parcel.files],
        "notes": list(parcel.notes),
    }

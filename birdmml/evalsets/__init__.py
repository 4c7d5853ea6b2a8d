"""One file, one evaluation set: `CARD`, `PROMPT`, `class_names(root)` and `items(root, split)`.

`root` is the folder of the evaluation set itself. `label` is an index into `class_names(root)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VideoItem:
    """One video of an evaluation set; its frames and sound come from `media.video.decode_video(path)`."""

    id: str
    label: int
    path: Path

"""What a source brings beside its rows (the demo: an evaluation set of videos)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml import discover, files
from birdmml.build.pool import Writers
from birdmml.build.progress import Tell, counter


@dataclass(frozen=True)
class _Task:
    source: str
    settings: Any
    root: str
    index: int

    def below(self, root: Path) -> _Task:
        """The same task with its files below another folder."""
        return replace(self, root=str(root))


def write_extras(
    source: ModuleType, name: str, settings: Any, root: Path, pool: Writers, tell: Tell
) -> dict[str, str]:
    """Write them below the dataset's folder `root`; path -> sha256."""
    if not hasattr(source, "extra_tasks"):
        return {}
    count = source.extra_tasks(settings)
    tasks = [_Task(name, settings, str(root), i) for i in range(count)]
    if tasks:
        pool.run(_write_one, tasks, counter(tell, "videos", count))
        source.finish_extras(settings, root)
    found = sorted(p for p in (root / "evalsets").rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): files.sha256_file(p) for p in found}


def _write_one(task: _Task) -> None:
    discover.load("source", task.source).write_extra(task.settings, Path(task.root), task.index)

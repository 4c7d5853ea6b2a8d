"""A small folder of accepted submissions, and what pull requests make of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from birdmml.leaderboard.submission import making
from birdmml.leaderboard.submission.model import Submission
from birdmml.leaderboard.submission.reading import read, spelled
from helpers import submitted

REASON = "Its test split was not the test split."


def weights(number: int) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"seed": s, "weights_sha256": hashlib.sha256(f"{number} {s}".encode()).hexdigest()} for s in submitted.SEEDS
    )


def put(root: Path, number: int, models: int | None = None, digest: str = submitted.DIGEST, **about: Any) -> Submission:
    """A sound submission in the folder that its slug names; equal numbers measured the same, on data of `digest`."""
    work = root.parent / f"{root.name}-work"
    result = submitted.result_in(work / "small-1", number, models=weights(number if models is None else models))
    if digest != submitted.DIGEST:
        submitted.edit_json(
            result / "result.json",
            lambda r: (r["dataset"].update(digest=digest), r["settings"]["evalsets"].update(dataset=digest)),
        )
    words = dataclasses.replace(submitted.ABOUT, **({"name": f"Birds {number}"} | about))
    made = making.make([result], words, work / "submission")
    root.mkdir(exist_ok=True)
    shutil.move(work / "submission", root / made.slug)
    shutil.rmtree(work)
    return read(root / made.slug)


def entry(gone: Submission, after: Submission | None = None, **other: Any) -> dict[str, Any]:
    told = {
        "slug": gone.slug,
        "before": gone.about["digest"],
        "after": None if after is None else after.about["digest"],
        "reason": REASON,
        "date": "2026-03-04",
    }
    return told | other


def write_changes(root: Path, *entries: dict[str, Any]) -> None:
    (root / "changes.json").write_bytes(spelled({"changes": list(entries)}))


def add_change(root: Path, added: dict[str, Any]) -> None:
    path = root / "changes.json"
    earlier = json.loads(path.read_text())["changes"] if path.exists() else []
    write_changes(root, *earlier, added)

"""The folder of one part, below the work folder of the dataset that it belongs to.

data.partial/parts/00003-of-00010/
    plan.json     the settings it is made with
    claim         which run works on it
    staging/ spool/ source/    as those of an undivided build
    told.jsonl    what the source said at its end, and which receipts no longer count
    part.json     written last: the part is complete
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from birdmml import files
from birdmml.build import place
from birdmml.build.claim import Claim
from birdmml.build.parts import Part
from birdmml.errors import BuildError

PLAN, MADE, TOLD, CLAIM = "plan.json", "part.json", "told.jsonl", "claim"


class PartPlace:
    """Owns the folder of one part of `out` for the time of one run; raises BuildError if it may not or cannot."""

    def __init__(self, out: Path, part: Part) -> None:
        self.part = part
        self.whole = place.Place(out)
        self.out = self.whole.out
        self.work = self.whole.parts / part.name
        self.staging = self.work / "staging"
        self.spool = self.work / "spool"
        self.source = self.work / "source"
        self.catalog = self.work / "catalog.sqlite"
        self.claim = Claim(self.work / CLAIM, f"part {part.index} of {part.count} of {self.out}")

    def __enter__(self) -> Self:
        self.whole.check_out()
        self.whole.make_work()
        if (self.whole.work / "plan").exists() and not self.whole.parts.exists():
            raise BuildError(
                f"{self.whole.work} has the work of a build that is not divided: finish it with the same command "
                "without --num-shards, or delete that folder, or choose another --out"
            )
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise BuildError(f"cannot write to {self.work} ({e.strerror}): choose another --out") from e
        self.claim.__enter__()
        # Looked at after the claim is made, as --finish does the other way round: one of the two sees the other.
        if holder := finishing(self.whole.work).held():
            self.claim.__exit__(None, None, None)
            raise BuildError(f"{self.out} is being finished by {holder}: no part of it can be made now")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.claim.__exit__(kind, value, trace)
        if kind is not None and not any(any(f.rglob("*")) for f in (self.staging, self.spool, self.source)):
            shutil.rmtree(self.work, ignore_errors=True)
            self.whole.forget()

    def prepare(self, key: str, settings: Mapping[str, Any]) -> None:
        """Keep finished work that was made with the same `key`; the part counts as incomplete until `declare`."""
        (self.work / MADE).unlink(missing_ok=True)
        plan = self.work / PLAN
        same = plan.is_file() and _loaded(plan).get("key") == key
        if not same:
            for folder in (self.staging, self.spool, self.source):
                shutil.rmtree(folder, ignore_errors=True)
        self.staging.mkdir(exist_ok=True)
        self.catalog.unlink(missing_ok=True)
        files.write_json(plan, {"key": key, "settings": settings})

    def declare(self, made: Mapping[str, Any], told: Iterator[tuple[str, Any]]) -> dict[str, Any]:
        """The part is complete; `told` are (what, value) to be merged. Returns what part.json says."""
        self.claim.check()
        lines = 0
        with files.atomic_write(self.work / TOLD) as f:
            for entry in told:
                f.write(json.dumps(entry).encode() + b"\n")
                lines += 1
        whole = {**made, "lines": lines, "told_sha256": files.sha256_file(self.work / TOLD)}
        files.write_json(self.work / MADE, whole)
        self.catalog.unlink(missing_ok=True)
        return whole


def finishing(work: Path) -> Claim:
    """The claim of the run that puts the parts together."""
    return Claim(work / "claim", f"the dataset that {work} is for")


def counts(folder: Path) -> list[int]:
    """Into how many parts the work below `folder` was divided: several answers where several were begun."""
    found = set()
    for path in folder.glob("?????-of-?????"):
        index, _, count = path.name.partition("-of-")
        if index.isdecimal() and count.isdecimal():
            found.add(int(count))
    return sorted(found)


def made(folder: Path, part: Part) -> dict[str, Any]:
    """What part.json of a complete part says; {} if there is none that can be read."""
    return _loaded(folder / part.name / MADE)


def told(folder: Path, part: Part) -> Iterator[tuple[str, Any]]:
    """What the part's source said at its end."""
    with (folder / part.name / TOLD).open(encoding="utf-8") as f:
        for line in f:
            what, value = json.loads(line)
            yield what, value


def staging_of(folder: Path, part: Part) -> Path:
    """Where the part's checked media lie."""
    return folder / part.name / "staging"


def _loaded(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

"""`birdmml build` on many machines: one part, or the end that puts the parts together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.build.part_run import PartMade
    from birdmml.build.parts import Part

RUNNERS = ("local", "ray")


@dataclass(frozen=True)
class Division:
    """How the work is divided, as the options say."""

    runner: str = "local"
    address: str | None = None
    count: int | None = None
    index: int | None = None
    at_once: int | None = None
    finish: bool = False

    def check(self, resume: bool) -> None:
        """Raises UsageError where the options do not go together."""
        if self.runner not in RUNNERS:
            raise UsageError(f"--runner {self.runner!r} is neither local nor ray")
        if self.address is not None and self.runner != "ray":
            raise UsageError("--ray-address is for --runner ray: give that, too, or leave it out")
        if self.index is not None and (self.finish or self.runner == "ray"):
            other = "--finish" if self.finish else "--runner ray"
            raise UsageError(
                f"--shard-index makes one part and {other} all of them: leave one of the two out"
            )
        if self.index is not None and self.count is None:
            raise UsageError("--shard-index says which part, not of how many: add --num-shards")
        if self.at_once is not None and self.index is None and self.runner != "ray":
            raise UsageError("--at-once is for parts: give --num-shards and --shard-index, or --runner ray")
        if self.runner == "local" and self.count is not None and self.index is None and not self.finish:
            raise UsageError(
                f"--num-shards {self.count} needs to be told what to do: --shard-index 0 to {self.count - 1} makes "
                "one part, --finish puts all of them together, --runner ray does both"
            )
        if resume and self.divided:
            raise UsageError("--resume is not for parts, which always go on from what is there: leave it out")

    @property
    def divided(self) -> bool:
        """Whether the build is not one run on one machine."""
        return self.index is not None or self.finish or self.runner == "ray"

    def part(self) -> Part:
        """The part to make; raises UsageError if there is none such."""
        from birdmml.build.parts import Part

        return Part(self.index or 0, self.count or 1, self.at_once or 0)


def part_lines(out: Path, made: PartMade) -> list[str]:
    """What a part ends with."""
    part = made.part
    lines = [
        f"part {part.index} of {part.count} of {out} is complete: {made.records:,} records, {made.media:,} media, "
        f"{made.rejects:,} rejects"
    ]
    if made.resumed:
        lines.append(f"  resumed     {made.resumed:,} records of an earlier run of this part were taken over")
    return [*lines, "  when all parts are: the same command with --finish in place of --shard-index"]


def part_json(made: PartMade) -> dict[str, Any]:
    """A part for `--json`."""
    value = asdict(made)
    return {**value, "part": made.part.index, "count": made.part.count, "root": str(made.root)}

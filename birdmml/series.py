"""Method after method over the same data: what is done is not done again, and one failure stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdmml import discover, evaluate, provenance, results
from birdmml.errors import ResultError
from birdmml.plans import BenchPlan
from birdmml.schema import Result


@dataclass(frozen=True)
class Ended:
    """How one method ended: with a result in `folder`, made now or `known` before, or with a `failure` in words."""

    method: str
    folder: Path
    result: Result | None = None
    known: bool = False
    failure: str = ""


def run_all(
    plans: Sequence[BenchPlan],
    out: Path,
    again: bool = False,
    quiet: bool = False,
    report: Callable[[Ended], object] = lambda ended: None,
    read: Callable[[Path], Result] = results.read_result,
) -> tuple[Ended, ...]:
    """Carry out each plan below `out`, and call `report` as each ends. `again` repeats what is there already.

    `read` gives the result of a folder, or raises ResultError where it is not to be believed: then it is made again.
    """
    endings = []
    for plan in plans:
        ended = None if again else finished(plan, out, read)
        endings.append(ended or _carried_out(plan, out, quiet))
        report(endings[-1])
    return tuple(endings)


def finished(
    plan: BenchPlan, out: Path, read: Callable[[Path], Result] = results.read_result
) -> Ended | None:
    """The finished result of exactly this plan, made by exactly this code, or None."""
    folder = out / plan.name
    if not (folder / results.FILE).is_file():
        return None
    try:
        result = read(folder)
    except ResultError:
        return None  # Damaged or altered: made again, and replaced.
    same = result.provenance.get("code_digest") == provenance.figures_digest()
    return Ended(discover.label(plan.method), folder, result, known=True) if same else None


def _carried_out(plan: BenchPlan, out: Path, quiet: bool) -> Ended:
    name = discover.label(plan.method)
    try:
        result, folder = evaluate.run(plan, out, quiet)
    except Exception as e:  # noqa: BLE001  # a user's method may raise anything; the others must still run
        kind = "" if type(e).__module__ == "birdmml.errors" else f"{type(e).__name__}: "
        return Ended(name, out / plan.name, failure=" ".join(f"{kind}{e}".split()))
    return Ended(name, folder, result)

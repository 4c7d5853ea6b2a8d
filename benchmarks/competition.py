"""Modality competition where the truth is known: demos from redundant to XOR, measured beside the ceilings.

    python benchmarks/competition.py [--synergy 0,0.5,1] [--species 12] [--per-species 60] [--epochs 30] [--out DIR]

Builds a demo at each setting, trains a method on it (preset tiny), runs the competition suite, and prints each figure
with its 95 % interval beside what a decider gets that uses all there is: its accuracies are the demo's ceilings,
and removal, Shapley value, interaction and fused gain follow from them. A model below its ceiling may differ.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from birdmml.bench import run
from birdmml.bench.plan import Choice, plan
from birdmml.dataset.build import build
from birdmml.dataset.recipe import BuildSettings, Limits
from birdmml.load import Built
from birdmml.schema import PLAIN_METRICS, Figure
from birdmml.sources.demo import world


def best_possible(ceilings: Mapping[str, float], classes: int) -> dict[tuple[str, str], float]:
    """{(task, metric)} of a decider whose accuracies are the ceilings."""
    a, v, both, none = ceilings["audio"], ceilings["image"], ceilings["image+audio"], 1 / classes
    return {
        ("A", "accuracy"): a,
        ("V", "accuracy"): v,
        ("A+V", "accuracy"): both,
        ("A removed", "removal drop"): both - v,
        ("V removed", "removal drop"): both - a,
        ("A", "Shapley value"): ((a - none) + (both - v)) / 2,
        ("V", "Shapley value"): ((v - none) + (both - a)) / 2,
        ("A+V", "interaction"): both - a - v + none,
        ("A+V", "fused gain"): both - max(a, v),
    }


def line(figure: Figure, best: Mapping[tuple[str, str], float]) -> str:
    """One figure: what was measured, its 95 % interval, chance, and what a decider at the ceiling has."""
    scale, unit = (1, " ") if figure.metric in PLAIN_METRICS else (100, "%")
    known = best.get((figure.task, figure.metric))
    return (
        f"  {figure.evalset:12} {figure.task:10} {figure.metric:16} {scale * figure.value:7.1f} {unit}"
        f"  [{scale * figure.low:6.1f}, {scale * figure.high:6.1f}]  chance {scale * figure.chance:5.1f}"
        f"  at the ceiling {'-' if known is None else f'{100 * known:.1f}'}"
    )


def measure(synergy: float, args: argparse.Namespace, work: Path) -> None:
    """Build, train, score and print one setting."""
    own = world.DemoSettings(
        species=args.species,
        per_species=args.per_species,
        image_size=args.image_size,
        clip_seconds=2.0,
        synergy=synergy,
        eval_videos=args.eval_videos,
    )
    data = work / f"demo-{synergy:g}"
    build(BuildSettings("demo", own, limits=Limits(clip_s=own.clip_seconds)), data)
    options = [f"training.epochs={args.epochs}", f"competition.draws={args.draws}", *args.set]
    planned = plan(data, args.method, Choice(["competition"], overrides=options, seeds=args.seeds))
    result, folder = run.run(planned, work / "results", quiet=True)
    facts = Built.open(data).manifest["source"]["facts"]
    best = best_possible(facts["ceilings"], args.species)
    print(f"\nsynergy {synergy:g}: {facts['design']} ({args.method}, {args.seeds} seeds, {folder.name})")
    for figure in result.figures:
        print(line(figure, best))
    for note in dict.fromkeys(figure.note for figure in result.figures if figure.note):
        print(f"  {note}")


def main() -> None:
    """Measure every setting asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--synergy", default="0,0.5,1", help="settings of the demo, separated by commas")
    parser.add_argument("--method", default="confu")
    parser.add_argument("--set", action="append", default=[], help="as birdmml bench --set")
    parser.add_argument("--out", type=Path, help="keep datasets, models and results here")
    for name, value in (("species", 12), ("per-species", 60), ("eval-videos", 6), ("image-size", 96)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("epochs", 30), ("seeds", 1), ("draws", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        for word in args.synergy.split(","):
            measure(float(word), args, args.out or Path(own))


if __name__ == "__main__":
    main()

"""Measure what builds of 10^4, 10^5, ... rows cost, stage by stage, and draw the slope.

python benchmarks/scaling/measure.py run --rows 10000 --work DIR   one build; prints and keeps its figures
python benchmarks/scaling/measure.py table --rows 10000 --work DIR the main process alone, without media
python benchmarks/scaling/measure.py real --work DIR               a build with media of real sizes
python benchmarks/scaling/measure.py draw                          scaling.json, scaling.png from what was kept
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import resource
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from birdmml.core import discover

HERE = Path(__file__).parent
RUNS, RESULT, PICTURE = HERE / "runs.json", HERE / "scaling.json", HERE / "scaling.png"
_load = discover.load


def _with_tiny(kind: str, name: str) -> ModuleType:
    """birdmml's own plug-ins, and the tiny source beside this file."""
    if name == "tiny":
        sys.path.insert(0, str(HERE)) if str(HERE) not in sys.path else None
        return importlib.import_module("tiny")
    return _load(kind, name)


# Workers are started anew and import this file, too: they know the source as well.
discover.load = _with_tiny


class Stages:
    """When each stage began, as the build tells it, and what the workers had used by then."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float, float]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """A build's progress."""
        if not self.began or self.began[-1][0] != stage:
            self.began.append((stage, time.perf_counter(), _workers_s()))

    def seconds(self, end: float) -> dict[str, float]:
        """Seconds of each stage."""
        ends = [t for _, t, _ in self.began[1:]] + [end]
        return {name: round(stop - t, 2) for (name, t, _), stop in zip(self.began, ends, strict=True)}

    def workers(self, end: float) -> dict[str, float]:
        """Processor time of the workers in each stage, s; `end` is that of all stages."""
        ends = [used for _, _, used in self.began[1:]] + [end]
        return {name: round(stop - used, 2) for (name, _, used), stop in zip(self.began, ends, strict=True)}


def _workers_s() -> float:
    """Processor time of all workers so far, s."""
    used = 0.0
    for worker in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = worker.cpu_times()
            used += times.user + times.system
    return used


def one(settings: Any, work: Path, workers: int) -> dict[str, Any]:
    """Build once, and what it took. Times in s, memory in bytes (the main process, and the largest worker)."""
    from birdmml.dataset.build import build

    shutil.rmtree(work, ignore_errors=True)
    stages, start = Stages(), time.perf_counter()
    built = build(settings, work / "out", workers, progress=stages)
    end = time.perf_counter()
    mine, theirs = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    files = [p for p in (work / "out").rglob("*") if p.is_file()]
    return {
        "rows": built.manifest["counts"]["rows"],
        "workers": workers,
        "wall_s": round(end - start, 2),
        "cpu_main_s": round(mine.ru_utime + mine.ru_stime, 2),
        "cpu_workers_s": round(theirs.ru_utime + theirs.ru_stime, 2),
        "peak_main": mine.ru_maxrss * 1024,
        "peak_worker": theirs.ru_maxrss * 1024,
        "bytes": sum(p.stat().st_size for p in files),
        "media_bytes": sum(s["bytes"] for v in built.manifest["splits"].values() for s in v["shards"]),
        "files": len(files),
        "stages_s": stages.seconds(end),
        "stages_workers_s": stages.workers(theirs.ru_utime + theirs.ru_stime),
    }


def run(rows: int, work: Path, workers: int) -> dict[str, Any]:
    """A build of so many tiny rows."""
    from birdmml.dataset.recipe import BuildSettings, Limits

    source = discover.load("source", "tiny")
    own = source.Settings(rows=rows)
    return one(BuildSettings("tiny", own, limits=Limits(clip_s=own.clip_seconds)), work, workers)


def real(work: Path, workers: int, rows: int = 240) -> dict[str, Any]:
    """A build of media as services give them: photos of 500 px and 1,024 px, MP3 of 30 s cut into clips of 10 s."""
    import numpy as np
    import soundfile
    from PIL import Image, ImageFilter

    from birdmml.core.species import all_species
    from birdmml.dataset.recipe import BuildSettings, Limits

    shutil.rmtree(work, ignore_errors=True)
    rng = np.random.default_rng(0)
    species = [s.scientific_name for s in all_species()[:8]]
    for i in range(rows):
        path = work / "birds" / "images" / species[i % 8] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8))
        noise.filter(ImageFilter.GaussianBlur(1.5)).save(path, quality=90)
        if i % 3 == 0:
            path = work / "birds" / "audio" / species[i // 3 % 8] / f"{i}.mp3"
            path.parent.mkdir(parents=True, exist_ok=True)
            times = np.arange(30 * 44_100) / 44_100
            song = 0.2 * np.sin(2 * np.pi * (3000 + 500 * np.sin(7 * times)) * times)
            soundfile.write(path, song + 0.02 * rng.standard_normal(len(times)), 44_100, format="MP3")
    own = discover.load("source", "folder").Settings(str(work / "birds"), clip_seconds=10.0)
    return one(BuildSettings("folder", own, limits=Limits()), work / "built", workers)


def table(rows: int, work: Path) -> dict[str, Any]:
    """What the main process does alone, without any media: the catalog, the sides, the pairs, the leaks."""
    import hashlib

    from birdmml.core.species_list import SHIPPED
    from birdmml.dataset import account, leaks, pair, split, write
    from birdmml.dataset.catalog import Catalog
    from birdmml.dataset.decode import DecodedRecord
    from birdmml.dataset.recipe import Rules
    from birdmml.schema import Medium, Photo

    work.mkdir(parents=True, exist_ok=True)
    tiny = discover.load("source", "tiny")
    stages, start, cpu = Stages(), time.perf_counter(), time.process_time()
    with Catalog(work / "catalog.sqlite") as catalog:
        stages("fill the catalog", 0, 1)
        for n, r in enumerate(tiny.records(tiny.Settings(rows=rows))):
            name = hashlib.sha256(str(n).encode()).hexdigest()
            more = {"credit": r.credit, "caption": r.caption, "record": r.id}
            where = {"chunk": n // 32, "offset": 0, "length": 2000, "path": r.id, "source_path": r.locator}
            if isinstance(r, Photo):
                kind = {"kind": "image", "group": r.observation, "phash": name[:16]}
            else:
                kind = {"kind": "audio", "group": r.recording, "phash": ""}
            medium = Medium(id=r.id, species=r.species, sha256=name, **kind, **where, **more)
            catalog.add([DecodedRecord(name[32:], (medium,))], wanted=True)
        stages("order the media", 0, 1)
        media = catalog.freeze()
        stages("look-alikes and sides", 0, 1)
        rules = Rules()
        near = leaks.near_duplicates(media, rules.near_radius)
        sides = split.assign(media, rules, 0, near, None)
        stages("pairs", 0, 1)
        assembler = pair.Assembler(media, sides, catalog.ids, 0)
        catalog.add_rows(assembler)
        catalog.order_rows()
        stages("checks and leaks", 0, 1)
        account.checks(catalog, assembler.tally, 0.01, SHIPPED.taxonomy)
        leaks.of_splits(media, catalog.light(), rules, 0, near)
        stages("plan of the shards", 0, 1)
        write.plan(catalog, work, work, work, 0, 22_050)
        made = catalog.count("SELECT count(*) FROM final")
    end = time.perf_counter()
    return {
        "rows": made,
        "wall_s": round(end - start, 2),
        "cpu_main_s": round(time.process_time() - cpu, 2),
        "peak_main": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "catalog_bytes": (work / "catalog.sqlite").stat().st_size,
        "stages_s": stages.seconds(end),
    }


def keep(name: str, figures: dict[str, Any]) -> None:
    """Write a run's figures down."""
    runs = json.loads(RUNS.read_text(encoding="utf-8")) if RUNS.exists() else {}
    runs[name] = figures
    RUNS.write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: figures}, indent=2))


def slope(rows: list[int], values: list[float]) -> float:
    """The exponent of a power law through the last two points: 1 is linear."""
    import math

    return math.log(values[-1] / values[-2]) / math.log(rows[-1] / rows[-2])


def draw() -> None:
    """The costs a row, and the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    runs = json.loads(RUNS.read_text(encoding="utf-8"))
    whole, alone = _sorted(runs, "tiny"), _sorted(runs, "table")
    series = {
        "a build: processor time, all, s": (whole, lambda r: r["cpu_main_s"] + r["cpu_workers_s"]),
        "a build: processor time, main process, s": (whole, lambda r: r["cpu_main_s"]),
        "catalog, sides, pairs, leaks alone, s": (alone, lambda r: r["cpu_main_s"]),
        "a build: main process, MiB": (whole, lambda r: r["peak_main"] / 2**20),
        "a build: largest worker, MiB": (whole, lambda r: r["peak_worker"] / 2**20),
        "catalog, sides, pairs, leaks alone, MiB": (alone, lambda r: r["peak_main"] / 2**20),
        "dataset on disk, MiB": (whole, lambda r: r["bytes"] / 2**20),
        "catalog on disk, MiB": (alone, lambda r: r["catalog_bytes"] / 2**20),
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    slopes = {}
    for name, (some, value) in series.items():
        rows, values = [r["rows"] for r in some], [value(r) for r in some]
        slopes[name] = round(slope(rows, values), 3)
        axes = left if name.endswith(" s") else right
        axes.loglog(rows, values, "o-", label=f"{name}: exponent {slopes[name]:.2f}")
    for axes, unit in ((left, "seconds"), (right, "MiB")):
        low = axes.get_ylim()[0]
        axes.loglog([1e4, 1e6], [low * 2, low * 200], "k:", label="linear: exponent 1")
        axes.set(xlabel="rows", ylabel=unit)
        axes.grid(which="major", alpha=0.3)
        axes.legend(fontsize=8)
    left.set_title("Processor time; photos of 16 px, clips of 0.1 s")
    right.set_title("Peak memory, and disk")
    figure.savefig(PICTURE, dpi=110)
    stages = {
        stage: round(slope([r["rows"] for r in alone], [max(r["stages_s"][stage], 0.01) for r in alone]), 3)
        for stage in alone[-1]["stages_s"]
    }
    told = {"costs": costs(runs), "slopes": slopes, "stage_slopes": stages}
    RESULT.write_text(json.dumps({**told, "runs": runs}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=2))


def costs(runs: dict[str, Any]) -> dict[str, float]:
    """What `plan.py` reckons with: decoding and writing from media of real sizes, the rest from the largest runs."""
    real, whole, alone = runs["real"], _sorted(runs, "tiny"), _sorted(runs, "table")
    first, last = alone[0], alone[-1]
    # What the main process does grows a little faster than the rows: by as much more as its table did.
    near = min(alone, key=lambda r: abs(r["rows"] - whole[-1]["rows"]))
    more = (last["cpu_main_s"] / last["rows"]) / (near["cpu_main_s"] / near["rows"])
    return {
        "decode_s": round(real["stages_workers_s"]["decode and check"] / real["rows"], 5),
        "write_s": round(real["stages_workers_s"]["write"] / real["rows"], 5),
        "alone_s": round(more * whole[-1]["cpu_main_s"] / whole[-1]["rows"], 6),
        "alone_bytes": round((last["peak_main"] - first["peak_main"]) / (last["rows"] - first["rows"]), 1),
        "base_bytes": whole[0]["peak_main"],
    }


def _sorted(runs: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return sorted((r for name, r in runs.items() if name.startswith(kind)), key=lambda r: r["rows"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "table", "real", "draw"))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.what == "draw":
        draw()
        return
    if given.work is None:
        parser.error("--work: name a folder for the build")
    if given.what == "real":
        keep("real", real(given.work, given.workers))
    elif given.what == "table":
        keep(f"table {given.rows}", table(given.rows, given.work))
    else:
        keep(f"tiny {given.rows}", run(given.rows, given.work, given.workers))
    shutil.rmtree(given.work, ignore_errors=True)


if __name__ == "__main__":
    main()

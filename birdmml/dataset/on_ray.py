"""A build whose parts, and then whose shards, are tasks of a Ray cluster; the bytes are those of `build.build`.

Each part is one task, which any node may do again: what a part has done lies in its folder, and a claim keeps a node
that was taken for dead from working beside the one that took over. All nodes must see the folder of the dataset.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from birdmml import __version__
from birdmml.core import discover, files
from birdmml.core.pool import MAX_DEATHS, Placed, Progress, counter, silent
from birdmml.dataset import divide
from birdmml.dataset.build import FinishedBuild, finish
from birdmml.dataset.divide import PartMade, build_part
from birdmml.dataset.intake import refuse_undividable
from birdmml.dataset.place import BuildLock, BuildPart, BuildPlace, Busy
from birdmml.errors import BirdmmlError, BuildError, UsageError

if TYPE_CHECKING:
    from birdmml.dataset.recipe import BuildSettings


# What Ray holds of results in memory, which are small: media go by the shared folder. Ray's own least is 75 MiB.
STORE_BYTES = 80 << 20
# More parts than processors, so that none waits long for the last ones.
PARTS_A_CPU = 4
# Where tasks write before what they wrote is renamed into place.
APART = "attempts"
# Sockets of a local cluster lie in its folder, and their paths may not be long.
_MAX_FOLDER = 40
_CHECK_S = 300.0

P = TypeVar("P", bound=Placed)
R = TypeVar("R")


@dataclass(frozen=True)
class Cluster:
    """Where to run: the `address` of a cluster (None: a small one is started), and how many processes run here."""

    address: str | None = None
    workers: int = 1


def build_on_ray(
    settings: BuildSettings,
    out: Path,
    cluster: Cluster,
    count: int | None = None,
    at_once: int | None = None,
    max_rejects: float = 0.01,
    progress: Progress | None = None,
    retry_failed: bool = False,
) -> FinishedBuild:
    """Build `out` in `count` parts (None: as many as were begun, or some for each processor), `at_once` at a time.

    Raises UsageError without Ray or for a source that cannot be divided, what `build_part` and `finish` raise, and
    BuildError if a node does not see the folder of `out` or a task's workers keep dying; what is done is kept.
    """
    report = progress or silent
    refuse_undividable(discover.load("source", settings.source), settings)
    ray, place = _ray(), BuildPlace(out)
    place.make_work()
    try:
        with BuildLock(place.work / "driver", f"the build of {place.out} on Ray"), _connected(ray, cluster):
            with place.telling():
                _check_nodes(ray, place)
            cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
            begun = divide.counts(place.parts)
            count = count or (begun[0] if len(begun) == 1 else PARTS_A_CPU * cpus)
            at_once = min(at_once or cpus, count)
            parts = [(settings, str(out), BuildPart(i, count, at_once), retry_failed) for i in range(count)]
            writers = RayRuns(ray, at_once, place.dataset)
            writers.run_all(_make_part, parts, counter(report, "decode and check (parts)", count))
            return finish(settings, out, cluster.workers, max_rejects, progress, count, writers)
    finally:
        shutil.rmtree(place.work / APART, ignore_errors=True)
        place.forget()


class RayRuns:
    """Runs functions as Ray tasks, `at_once` at a time; what they write below `dataset` is renamed into place."""

    def __init__(self, ray: Any, at_once: int, dataset: Path) -> None:
        self._ray, self._at_once, self._dataset = ray, at_once, dataset

    def run(
        self, function: Callable[[P], R], tasks: Sequence[P], done: Callable[[int, R], None] | None = None
    ) -> list[R]:
        """`function` of every task, in the order of `tasks`; `done(index, result)` as each one ends."""
        arguments = [(function, task, str(self._dataset)) for task in tasks]
        return self.run_all(_write_apart, arguments, done)

    def run_all(
        self,
        function: Callable[..., R],
        arguments: Sequence[tuple[Any, ...]],
        done: Callable[[int, R], None] | None = None,
    ) -> list[R]:
        """`function` of each tuple of `arguments`; a task whose node dies is done again elsewhere."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=MAX_DEATHS, scheduling_strategy="SPREAD")(function)
        waiting = iter(enumerate(arguments))
        flying: dict[Any, int] = {}
        results: dict[int, R] = {}
        try:
            while True:
                while len(flying) < self._at_once and (entry := next(waiting, None)) is not None:
                    flying[remote.remote(*entry[1])] = entry[0]
                if not flying:
                    return [results[i] for i in range(len(arguments))]
                ended, _ = ray.wait(list(flying), num_returns=1)
                for reference in ended:
                    index = flying.pop(reference)
                    results[index] = self._result(reference)
                    if done is not None:
                        done(index, results[index])
        except BaseException:  # Whatever it is, nothing goes on behind its back; raised again.
            for reference in flying:
                ray.cancel(reference, force=True)
            raise

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as e:
            if isinstance(e.cause, BirdmmlError | OSError):
                raise e.cause from None
            raise
        except errors.RayError as e:
            raise BuildError(
                f"a task's workers on the Ray cluster died {MAX_DEATHS + 1} times ({type(e).__name__}: out of memory, "
                "or nodes that go away?); finished work is kept: run the same command again"
            ) from e


def _make_part(settings: BuildSettings, out: str, part: BuildPart, retry_failed: bool) -> PartMade:
    """One part, on a node; waits for a run of the same part that a dying node may still have under way."""
    while True:
        try:
            return build_part(settings, Path(out), part, 1, None, retry_failed)
        except Busy:
            time.sleep(1.0)


def _write_apart(function: Callable[[P], R], task: P, dataset: str) -> R:
    """Do a task that writes files, which appear whole and under one name whoever else does the same."""
    root = Path(dataset)
    apart = root.with_name(APART) / secrets.token_hex(8)
    result = function(task.below(apart))
    for path in sorted(p for p in apart.rglob("*") if p.is_file()):
        there = root / path.relative_to(apart)
        there.parent.mkdir(parents=True, exist_ok=True)
        path.replace(there)
        files.sync_folder(there.parent)
    shutil.rmtree(apart, ignore_errors=True)
    return result


def _ray() -> Any:
    """Ray, told to send nothing anywhere."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as e:
        raise UsageError("--runner ray needs Ray: pip install 'birdmml[ray]'") from e
    return ray


@contextlib.contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """A connection to the cluster, or a small cluster of this machine alone that is gone afterwards."""
    folder = None
    own: dict[str, Any] = {}
    if cluster.address is None:
        folder = tempfile.mkdtemp(prefix="birdmml-")
        here = {"_temp_dir": folder} if len(folder) <= _MAX_FOLDER else {}
        own = {"include_dashboard": False, "num_cpus": cluster.workers, "object_store_memory": STORE_BYTES, **here}
    try:
        on_kill = signal.getsignal(signal.SIGTERM)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ray.init(address=cluster.address or "local", log_to_driver=False, logging_level="error", **own)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as e:
                where = f"of {cluster.address}" if cluster.address else "here"
                raise BuildError(f"no Ray cluster {where} can be used: {str(e).splitlines()[0]}") from e
        # Ray answers a polite kill in its own way; the command line has said what it does then.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_kill)
        # Ray tells of nodes that die on standard output, where a caller's `--json` has nothing but JSON.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # It says at the end what it held back.
                ray.shutdown()
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _check_nodes(ray: Any, place: BuildPlace) -> None:
    """Raises BuildError if a node does not see the work folder, or has another birdmml."""
    folder = place.work / "nodes" / secrets.token_hex(8)
    files.write_text(folder / "driver", folder.name)
    try:
        answers = [
            (node, _on_node(ray, node["NodeID"]).remote(str(folder), node["NodeID"]))
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU")
        ]
        for node, reference in answers:
            name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                text, version = ray.get(reference, timeout=_CHECK_S)
            except ray.exceptions.RayError as e:
                if node["NodeID"] not in {n["NodeID"] for n in ray.nodes() if n["Alive"]}:
                    continue  # It has just left: it will do nothing.
                why = str(getattr(e, "cause", None) or e).strip().splitlines()[-1]
                raise BuildError(
                    f"{name} cannot run birdmml ({why}): install birdmml {__version__} on every node of the cluster"
                ) from e
            if version != __version__:
                raise BuildError(f"{name} has birdmml {version}, and {__version__} runs here: install the same on both")
            if text != folder.name or not (folder / node["NodeID"]).exists():
                why = "writes a folder of its own under that name" if text == folder.name else text
                raise BuildError(
                    f"{name} does not share {place.work} with this machine ({why}): choose an --out on a file system "
                    "that every node of the cluster sees under the same path"
                )
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def _on_node(ray: Any, node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return ray.remote(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))(_look)


def _look(folder: str, node: str) -> tuple[str, str]:
    """On a node: what the driver wrote, and this node's birdmml; leaves a file for the driver to find."""
    path = Path(folder)
    try:
        text = (path / "driver").read_text(encoding="utf-8")
        (path / node).write_text(text, encoding="utf-8")
    except OSError as e:
        return f"{e.strerror or e}", __version__
    return text, __version__

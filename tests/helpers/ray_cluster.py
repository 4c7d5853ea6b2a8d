"""Run by tests in a process of its own: a build on a Ray cluster of KILLS + 2 nodes, of which KILLS are killed.

python ray_cluster.py BIRDS OUT PARTS KILLS: prints JSON with the nodes' workers that were killed in the midst.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster as Nodes

from birdmml.core import discover
from birdmml.dataset import on_ray
from birdmml.dataset.recipe import BuildSettings, Limits

SMALL = {"num_cpus": 1, "object_store_memory": on_ray.STORE_BYTES, "include_dashboard": False}


def at_work(work: Path, node: object) -> list[int]:
    """Processes of the node that hold a part's claim or write apart."""
    try:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        mine = {child.pid for child in raylet.children(recursive=True)}
    except psutil.NoSuchProcess:
        return []
    found = []
    for claim in work.glob("parts/*/claim"):
        try:
            pid = json.loads(claim.read_text())["pid"]
        except (OSError, ValueError):
            continue  # It was just being written, or has just gone.
        if pid in mine and list((claim.parent / "staging").glob("*.bin*")):
            found.append(pid)
    return found


def kill(node: object) -> None:
    """The node's manager and its workers, as a machine that loses its power."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [*raylet.children(recursive=True), raylet]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def main(birds: str, out: str, count: str, kills: str) -> None:
    nodes = Nodes(initialize_head=True, head_node_args=SMALL)
    victims = [nodes.add_node(**SMALL) for _ in range(int(kills) + 1)]
    killed: list[int] = []
    ended = threading.Event()

    def killer() -> None:
        while len(killed) < int(kills) and not ended.is_set():
            for node in list(victims):
                if busy := at_work(Path(f"{out}.partial"), node):
                    kill(node)
                    killed.extend(busy)
                    nodes.remove_node(node, allow_graceful=False)
                    victims.remove(node)
                    break
            time.sleep(0.02)

    thread = threading.Thread(target=killer)
    thread.start()
    own = discover.load("source", "folder").Settings(birds, clip_seconds=1.0)
    settings = BuildSettings("folder", own, limits=Limits(clip_s=1.0))
    try:
        on_ray.build_on_ray(settings, Path(out), on_ray.Cluster(nodes.address, 1), int(count))
    finally:
        ended.set()
        thread.join()
        nodes.shutdown()
    print(json.dumps({"killed": killed}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Ranks in large galleries: birdmml's counting beside a full argsort, side by side, and what a whole gallery takes.

    python benchmarks/retrieval.py [--items 10000] [--dim 512] [--threads 1] [--rounds 3]
    python benchmarks/retrieval.py --full 149681      # one run, both directions; add --species for the mAP too

Embeddings are random unit vectors and noisy copies of them, float32. Both ways place every match, query -> target and
target -> query, and include their matrix products; the argsort is asked in blocks of 1,000 rows, which is kinder to it
than one of all rows. Every round runs each once; the best round counts, in CPU seconds of the process, for the machine
may be shared. "product" is one matrix product alone.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from birdmml.results.gallery import COLUMNS, ROWS, rank_both, ranks_of_species
from birdmml.results.metrics import BLOCK_ELEMENTS, hit

LEVEL, SPECIES, SORTED_ROWS = 1e-6, 150, 1000
Vectors = NDArray[np.float32]
T = TypeVar("T")


def embeddings(items: int, dim: int) -> tuple[Vectors, Vectors, NDArray[np.int64]]:
    """Two views [N, D] of every item, its match among the best for most, and its species [N]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, SPECIES, items)
    first = rng.standard_normal((items, dim), dtype=np.float32)
    first += rng.standard_normal((SPECIES, dim), dtype=np.float32)[labels] * np.float32(0.5)
    second = rng.standard_normal((items, dim), dtype=np.float32) * np.float32(3.0)
    second += first
    for z in (first, second):
        z /= np.linalg.norm(z, axis=1, keepdims=True)
    return first, second, labels


def products(a: Vectors, b: Vectors) -> Callable[[slice, slice], Vectors]:
    """Blocks of a b^T, all in one buffer."""
    buffer = np.empty(ROWS * COLUMNS, dtype=np.float32)

    def block(queries: slice, targets: slice) -> Vectors:
        q, t = a[queries], b[targets]
        return np.matmul(q, t.T, out=buffer[: len(q) * len(t)].reshape(len(q), len(t)))

    return block


def product(a: Vectors, b: Vectors) -> None:
    """The matrix product and nothing else."""
    block = products(a, b)
    for i in range(0, len(a), ROWS):
        for j in range(0, len(b), COLUMNS):
            block(slice(i, i + ROWS), slice(j, j + COLUMNS))


def counted(a: Vectors, b: Vectors) -> tuple[NDArray[np.int64], ...]:
    """Candidates above each match and level with it, there and back."""
    there, back = rank_both(products(a, b), len(a), LEVEL)
    return there.greater, there.ties, back.greater, back.ties


SORTS: dict[str, Callable[[Vectors], NDArray[np.int64]]] = {
    "argsort": lambda scores: np.argsort(-scores, axis=1),
    "stable argsort": lambda scores: np.argsort(-scores, axis=1, kind="stable"),
    "torch.argsort": lambda scores: torch.argsort(torch.from_numpy(scores), dim=1, descending=True).numpy(),
}


def argsorted(a: Vectors, b: Vectors, kind: str) -> tuple[NDArray[np.int64], ...]:
    """Where each match stands in the full order, there and back."""
    found = []
    for x, y in ((a, b), (b, a)):
        places = []
        for i in range(0, len(x), SORTED_ROWS):
            scores = x[i : i + SORTED_ROWS] @ y.T
            order = SORTS[kind](scores)
            places.append((order == np.arange(i, i + len(order))[:, None]).argmax(axis=1))
        found.append(np.concatenate(places))
    return tuple(found)


def species_counted(a: Vectors, b: Vectors, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision by species of every query, itself left out."""
    rows = max(1, BLOCK_ELEMENTS // len(b))
    buffer = np.empty((rows, len(b)), dtype=np.float32)

    def block(part: slice) -> Vectors:
        return np.matmul(a[part], b.T, out=buffer[: part.stop - part.start])

    return ranks_of_species(block, labels, labels, LEVEL, np.arange(len(a)), rows).average_precision


def species_argsorted(a: Vectors, b: Vectors, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same from a full order of every row."""
    found = []
    for i in range(0, len(a), SORTED_ROWS):
        scores = a[i : i + SORTED_ROWS] @ b.T
        own = np.arange(i, i + len(scores))
        scores[np.arange(len(scores)), own] = -np.inf
        order = np.argsort(-scores, axis=1)[:, :-1]
        right = labels[order] == labels[own, None]
        shares = right.cumsum(axis=1) / np.arange(1, len(b))
        found.append((shares * right).sum(axis=1) / right.sum(axis=1))
    return np.concatenate(found)


def compare(items: int, dim: int, rounds: int) -> None:
    """All ways in turn, `rounds` times; their answers must agree."""
    a, b, labels = embeddings(items, dim)
    ways: dict[str, Callable[[], object]] = {
        "product": lambda: product(a, b),
        "counted": lambda: counted(a, b),
        **{kind: partial(argsorted, a, b, kind) for kind in SORTS},
        "species, AP": lambda: species_counted(a, b, labels),
        "species, AP from argsort": lambda: species_argsorted(a, b, labels),
    }
    best, answers = dict.fromkeys(ways, np.inf), {}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            answers[name] = way()
            best[name] = min(best[name], time.process_time() - began)
    report(best)
    check(answers)


def report(best: dict[str, float]) -> None:
    """CPU seconds, and ratios with and without the products: the argsorts make two of them, one a direction."""
    for name, seconds in best.items():
        print(f"{name:26} {seconds:8.2f} s")
    ours, one = best["counted"], best["product"]
    for name in SORTS:
        above = (best[name] - 2 * one) / (ours - one)
        print(f"{name}: {best[name] / ours:.1f} times as long; {above:.0f} times without the products")
    print(f"species: argsort {best['species, AP from argsort'] / best['species, AP']:.1f} times as long")


def check(answers: dict[str, object]) -> None:
    """The orders must lie within what was counted, the average precisions close by."""
    greater, ties, back_greater, back_ties = answers["counted"]  # type: ignore[misc]
    for name in SORTS:
        there, back = answers[name]  # type: ignore[misc]
        outside = (there < greater) | (there > greater + ties)
        outside |= (back < back_greater) | (back > back_greater + back_ties)
        print(f"{name}: {int(outside.sum())} of {len(outside)} items differ by more than their ties")
    # Scores of two products differ by rounding, so what is level to one may be ordered by the other.
    gap = np.abs(answers["species, AP"] - answers["species, AP from argsort"]).max()  # type: ignore[operator]
    print(f"species: largest difference of an average precision {gap:.1e}")


def whole(items: int, dim: int, species: bool) -> None:
    """One run of a gallery of everything, with its peak of memory."""
    a, b, labels = embeddings(items, dim)
    (greater, ties, back_greater, back_ties), spent = timed(lambda: counted(a, b))
    print(f"{items} x {items}, {dim}-d, both directions: {spent}, peak RSS {peak():.2f} GiB", flush=True)
    for name, above, level in (("there", greater, ties), ("back", back_greater, back_ties)):
        recalls = ", ".join(f"recall@{k} {hit(above, level, k).mean():.4f}" for k in (1, 5, 10))
        print(f"{name}: {recalls}, median rank {np.median(1 + above + level / 2):.1f}")
    if species:
        values, spent = timed(lambda: species_counted(a, b, labels))
        print(f"species: mAP {values.mean():.4f}, {spent}, peak RSS {peak():.2f} GiB")


def timed(way: Callable[[], T]) -> tuple[T, str]:
    """What it gives, and how long it took: the two differ on a machine that is shared."""
    began, used = time.perf_counter(), time.process_time()
    found = way()
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return found, f"{wall:.0f} s ({cpu:.0f} s of CPU)"


def peak() -> float:
    """The most memory that this process ever held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", type=int, help="items of one run without the argsort")
    parser.add_argument(
        "--species", action="store_true", help="with --full: average precision by species too"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with threadpool_limits(asked.threads):
        if asked.full:
            whole(asked.full, asked.dim, asked.species)
        else:
            compare(asked.items, asked.dim, asked.rounds)


if __name__ == "__main__":
    main()

"""Every method's loss and score once more: float64, one number at a time, from the formulas alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from birdmml.core import discover

Vectors = NDArray[np.float64]
Named = Mapping[str, Vectors]
WIDTHS = {"image": 6, "audio": 5, "text": 4}


def cross_entropy(logits: Sequence[float], own: int, kept: Sequence[int], smoothing: float = 0.0) -> float:
    """-(1 - e) log p_own - e * mean of log p, softmax over `kept` (which holds `own`)."""
    top = max(logits[k] for k in kept)
    log_sum = top + math.log(sum(math.exp(logits[k] - top) for k in kept))
    even = sum(logits[k] - log_sum for k in kept) / len(kept)
    return -(1 - smoothing) * (logits[own] - log_sum) - smoothing * even


def both_ways(
    score: Callable[[int, int], float], n: int, same: NDArray[np.bool_] | None = None, smoothing: float = 0.0
) -> float:
    """1/2 of the mean cross-entropy of rows and of columns of the n x n scores, against the diagonal."""
    total = 0.0
    for i in range(n):
        kept = [j for j in range(n) if j == i or same is None or not same[i, j]]
        total += cross_entropy([score(i, j) for j in range(n)], i, kept, smoothing)
        total += cross_entropy([score(j, i) for j in range(n)], i, kept, smoothing)
    return total / (2 * n)


def info_nce(a: Vectors, b: Vectors, tau: float, same: NDArray[np.bool_] | None = None) -> float:
    """1/2 [CE(a b^T / tau) + CE(b a^T / tau)]."""
    return both_ways(lambda i, j: float(np.dot(a[i], b[j])) / tau, len(a), same)


def volume(*vectors: Vectors) -> float:
    """sqrt |det| of the Gram matrix of some vectors [D]."""
    m = np.stack(vectors)
    return math.sqrt(abs(float(np.linalg.det(m @ m.T))))


def area(a: Vectors, b: Vectors, c: Vectors) -> float:
    """(|u|^2 |v|^2 - (u.v)^2) / 2 of u = a - b, v = a - c."""
    u, v = a - b, a - c
    return float((u @ u) * (v @ v) - (u @ v) ** 2) / 2


def shapes(
    size: Callable[..., float],
    z: Named,
    anchors: Sequence[str],
    tau: float,
    same: NDArray[np.bool_] | None = None,
    smoothing: float = 0.1,
) -> float:
    """GRAM's and TRIANGLE's loss: mean over the anchors."""
    total = 0.0
    for anchor in anchors:
        others = [z[m] for m in z if m != anchor]
        total += both_ways(
            lambda i, j, x=z[anchor], y=others: -size(x[i], *(o[j] for o in y)) / tau, len(z[anchor]), same, smoothing
        )
    return total / len(anchors)


def symile_pairs(z: Named, scale: float, same: NDArray[np.bool_] | None = None) -> float:
    """Symile, three modalities, all B^2 pairs of the others; mean over anchors."""
    total = 0.0
    for anchor in z:
        x, (y, w) = z[anchor], [z[m] for m in z if m != anchor]
        n = len(x)
        for i in range(n):
            where = [(j, k) for j in range(n) for k in range(n)]
            logits = [scale * float(np.sum(x[i] * y[j] * w[k])) for j, k in where]
            kept = [at for at, (j, k) in enumerate(where) if (j, k) == (i, i) or not _alike(same, i, (j, k))]
            total += cross_entropy(logits, where.index((i, i)), kept)
    return total / (len(z) * len(next(iter(z.values()))))


def symile_shuffle(
    z: Named, scale: float, orders: Sequence[NDArray[np.int64]], same: NDArray[np.bool_] | None = None
) -> float:
    """Symile with one permutation a tensor that is no anchor, in the order of anchors; mean over anchors."""
    total, drawn = 0.0, iter(orders)
    for anchor in z:
        x, others = z[anchor], [z[m] for m in z if m != anchor]
        order = [next(drawn) for _ in others]
        n = len(x)
        for i in range(n):
            at = [[i] * len(others) if j == i else [int(o[j]) for o in order] for j in range(n)]
            logits = [
                scale * float(np.sum(np.prod([x[i], *(y[p] for y, p in zip(others, ps, strict=True))], axis=0)))
                for ps in at
            ]
            kept = [j for j in range(n) if j == i or not _alike(same, i, at[j])]
            total += cross_entropy(logits, i, kept)
    return total / (len(z) * len(x))


def _alike(same: NDArray[np.bool_] | None, i: int, rows: Sequence[int]) -> bool:
    return same is not None and all(r == i or same[i, r] for r in rows)


def sigmoid(a: Vectors, b: Vectors, scale: float, bias: float, same: NDArray[np.bool_] | None = None) -> float:
    """SigLIP's loss of one pair of modalities."""
    total = 0.0
    for i in range(len(a)):
        for j in range(len(a)):
            if i == j or same is None or not same[i, j]:
                logit = scale * float(a[i] @ b[j]) + bias
                total += math.log1p(math.exp(-logit if i == j else logit))
    return total / len(a)


def permutations(batch: int, modalities: int, seed: int) -> list[NDArray[np.int64]]:
    """What torch's global generator gives Symile after `manual_seed(seed)`."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    drawn = [torch.randperm(batch).numpy() for _ in range(modalities * (modalities - 1))]
    torch.set_rng_state(state)
    return drawn


def loss(
    name: str, z: Named, seed: int, same: NDArray[np.bool_] | None = None, variant: str = "paper", **options: float
) -> float:
    """The total loss of a method with default options, from unit vectors of each modality and fused subset."""
    tau, singles = options.get("temperature", 0.07), [m for m in z if "+" not in m and "@" not in m]
    only = {m: z[m] for m in singles}
    pairwise = [info_nce(z[a], z[b], tau, same) for a, b in combinations(singles, 2)]
    if name == "tri_clip":
        return sum(pairwise) / len(pairwise)
    if name == "clip":
        text = {"image": "text", "audio": "text@audio"}
        return sum(info_nce(z[m], z[text[m]], tau, same) for m in text)
    if name == "hub":
        return sum(info_nce(z["image"], z[m], tau, same) for m in singles if m != "image")
    if name == "siglip":
        found = [sigmoid(z[a], z[b], 10.0, -10.0, same) for a, b in combinations(singles, 2)]
        return sum(found) / len(found)
    if name in ("gram", "triangle"):
        anchor = "text" if variant == "paper" else "image"
        return shapes(volume if name == "gram" else area, only, [anchor], tau, same)
    if name == "symile":
        if options.get("n_squared"):
            return symile_pairs(only, math.exp(2.5), same)
        orders = permutations(len(z[singles[0]]), len(singles), seed)
        return symile_shuffle(only, math.exp(2.5), orders, same)
    if name == "confu":
        fused = [info_nce(z[q], z[t], tau, same) for q in z if "+" in q for t in singles if t not in q.split("+")]
        total = 0.5 * sum(pairwise) + 0.5 * sum(fused)
        return total / (len(pairwise) + len(fused)) if variant == "reference" else total
    raise AssertionError(f"no naive loss for {name}")


def score(name: str, query: str, target: str, queries: Named, candidates: Named, i: int, j: int) -> float:
    """One score of a method with default options."""
    parts = query.split("+")
    if name == "confu":
        return float(queries[query][i] @ candidates[target][j])
    if name in ("gram", "triangle"):
        size = volume if name == "gram" else area
        return -size(*(queries[m][i] for m in parts), candidates[target][j])
    if name == "symile":
        return math.exp(2.5) * float(np.sum(np.prod([*(queries[m][i] for m in parts), candidates[target][j]], axis=0)))
    if name == "clip":
        towers = {("audio", "text"): "text@audio", ("text", "audio"): "text@audio"}
        return sum(
            float(
                queries[towers.get((m, target), m) if m == "text" else m][i]
                @ candidates[towers.get((m, target), target) if target == "text" else target][j]
            )
            for m in parts
        )
    return sum(float(queries[m][i] @ candidates[target][j]) for m in parts)


def model_of(name: str, widths: Mapping[str, int] = WIDTHS, dim: int = 8, seed: int = 0, **options: object) -> Any:
    """A method's model with random weights, dropout off."""
    torch.manual_seed(seed)
    module = discover.load("method", name)
    return module.Model(module.Config(dim=dim, **options), dict(widths)).eval()


def features(
    batch: int, seed: int = 0, widths: Mapping[str, int] = WIDTHS, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Random encoder outputs."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(batch, width, generator=generator).to(dtype) for name, width in widths.items()}


def species(batch: int, seed: int, kinds: int = 3) -> NDArray[np.bool_]:
    """Which rows of a random batch are of one species."""
    labels = np.random.default_rng(seed).integers(0, kinds, batch)
    return np.asarray(labels[:, None] == labels[None, :])


def arrays(z: Mapping[str, torch.Tensor]) -> dict[str, Vectors]:
    """Tensors as float64 arrays."""
    return {name: value.detach().double().numpy() for name, value in z.items()}

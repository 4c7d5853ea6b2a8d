"""Ridge probes of captions and media: folds that split no group, the linear solve, intervals over groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Codes = NDArray[np.int64]


def folds(labels: Codes, groups: Codes, count: int, rng: np.random.Generator, by_commonest: bool = False) -> Codes:
    """Fold [N] of each row: no group in two folds, the rows of each label spread as evenly as groups allow.

    Large groups come first, each to the fold that has fewest rows of its labels (`by_commonest`: of its commonest
    label alone); of several such folds, to the one with the fewest rows. Both are numbered from 0.
    """
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    filled = np.zeros((count, int(labels.max()) + 1), dtype=np.int64)
    out = np.empty(len(groups), dtype=np.int64)
    for group in order.tolist():
        mine, n = np.unique(labels[members[group]], return_counts=True)
        load = filled[:, mine[n.argmax()]] if by_commonest else filled[:, mine] @ n
        fold = np.lexsort((filled.sum(axis=1), load))[0]
        filled[fold, mine] += n
        out[members[group]] = fold
    return out


def solve(products: NDArray[Any], penalty: float, targets: NDArray[Any]) -> NDArray[Any]:
    """Weights [D, K] of (`products` + `penalty` * I) weights = `targets` [D, K]; overwrites `products` [D, D].

    Only the lower triangle is read: with a penalty the matrix is positive definite, and Cholesky needs half the time
    of a general solve. An array in Fortran's order is not copied.
    """
    products[np.diag_indices_from(products)] += products.dtype.type(penalty)
    factor = linalg.cho_factor(products, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(linalg.cho_solve(factor, targets, check_finite=False))


def interval(
    right: NDArray[np.bool_], labels: Codes, groups: Codes, draws: Iterable[NDArray[np.int64]]
) -> tuple[float, float]:
    """Percentile 95 % interval of the balanced accuracy over `draws`: how often each group was drawn, [B, groups].

    Rows of a group are not independent, so groups are drawn and not rows. One label for all gives plain accuracy.
    """
    cells = (int(groups.max()) + 1, int(labels.max()) + 1)
    index = groups * cells[1] + labels
    total = np.bincount(index, minlength=cells[0] * cells[1]).reshape(cells).astype(np.float64)
    good = np.bincount(index, right, minlength=cells[0] * cells[1]).reshape(cells)
    shares = []
    for drawn in draws:
        count, correct = drawn.astype(np.float64) @ total, drawn.astype(np.float64) @ good
        # A class that no drawn group has is left out of that draw's mean.
        share = np.divide(correct, count, out=np.full_like(count, np.nan), where=count > 0)
        shares.append(np.nanmean(share, axis=1))
    low, high = np.quantile(np.concatenate(shares), [0.025, 0.975])
    return float(low), float(high)

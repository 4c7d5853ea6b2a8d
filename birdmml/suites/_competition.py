"""Per-item shares of what embeddings hold: probe hits, R^2 and effective rank as weighted means. numpy and sklearn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of the squared length: float32 vectors that should be equal differ by less.
ROUNDING = 1e-12


def probe_hits(
    train: Vectors, labels: Ints, test: Vectors, targets: Ints, strength: float, steps: int
) -> tuple[Floats, bool]:
    """[N] 1.0 where a linear probe fitted on `train` [T, D] names the target of `test` [N, D], else 0.0.

    Multinomial logistic regression on features of unit variance; `strength` is the inverse of the L2 penalty. With
    one class in `labels` it always names that one. Also whether the fit settled within `steps`.
    """
    classes = np.unique(labels)
    if len(classes) == 1:
        return (targets == classes[0]).astype(np.float64), True
    from sklearn.linear_model import LogisticRegression

    mean, spread = _scale(train)
    model = LogisticRegression(C=strength, max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That it did not settle is said in the result.
        model.fit((train - mean) / spread, labels)
    hits = (model.predict((test - mean) / spread) == targets).astype(np.float64)
    return hits, bool(np.max(model.n_iter_) < steps)


def explained(
    train: tuple[Vectors, Vectors], test: tuple[Vectors, Vectors], ridge: float
) -> tuple[Floats, Floats]:
    """(SST_i - SSE_i, SST_i) [N] each: their sums' ratio is the R^2 of ridge regression of y on x, (x, y) each.

    Fitted on `train`, measured on `test` against the mean of the training targets, so that naming this mean gives
    exactly 0. `ridge` is the penalty in units of the mean variance of x.
    """
    x, y = (np.asarray(part, dtype=np.float64) for part in train)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    penalty = ridge * max(float(np.trace(gram)) / len(gram), np.finfo(np.float64).tiny)
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), x.T @ y)
    wanted = test[1] - y_mean
    missed = wanted - (test[0] - x_mean) @ weights
    total = (wanted**2).sum(axis=1)
    return total - (missed**2).sum(axis=1), total


def rank_shares(vectors: Vectors) -> tuple[Floats, Floats]:
    """(v, w) [N] each with exp(sum v / sum w) = exp(entropy of p), p_d = lambda_d / sum lambda, of `vectors` [N, D].

    lambda are the eigenvalues of their covariance: the effective rank of the covariance matrix (Roy & Vetterli,
    EUSIPCO 2007). v_i = -sum_d y_id^2 log p_d and w_i = sum_d y_id^2, y the centred vectors in the eigenbasis: then
    sum_i y_id^2 is N lambda_d. It lies between 1 and min(N - 1, D); vectors that differ by rounding alone have 1.
    Resampling items keeps eigenvectors and p as they are.
    """
    matrix = np.asarray(vectors, dtype=np.float64)
    centred = matrix - matrix.mean(axis=0)
    if (centred**2).sum() <= ROUNDING * (matrix**2).sum():
        return np.zeros(len(matrix)), np.ones(len(matrix))
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    power = size**2
    kept = power > power.max(initial=0.0) * np.finfo(np.float64).eps
    share = power[kept] / power[kept].sum()
    squares = (left[:, kept] * size[kept]) ** 2
    return -(squares @ np.log(share)), squares.sum(axis=1)


def side_by_side(parts: Sequence[Vectors]) -> Floats:
    """[N, D1], [N, D2], ... -> float64 [N, D1 + D2 + ...]."""
    return np.concatenate(parts, axis=1).astype(np.float64)


def _scale(train: Vectors) -> tuple[Floats, Floats]:
    """Mean and standard deviation [D] of the training features; a constant one is left as it is."""
    spread = train.std(axis=0)
    return train.mean(axis=0), np.where(spread > 1e-8, spread, 1.0)

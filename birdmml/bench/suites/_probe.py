"""Multinomial logistic regression on frozen embeddings, and which vectors stand for A, V and A+V.

Vectors go in as the method gives them, of unit length: they are not standardised, for a mean and a spread estimated
from one shot a class would be noise. Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml.bench.suites._contract import Material, Subject
from birdmml.bench.suites.zero_shot import TASKS
from birdmml.errors import EvalsetError, ResultError
from birdmml.results.metrics import CLASS_MEAN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METRICS = ("accuracy", CLASS_MEAN)
SIDE_BY_SIDE = "A+V is both vectors side by side, over sqrt(2): the method has no fused one"
# Largest entry of the gradient of the mean loss. A hundred times finer than scikit-learn's default, so that a
# decision does not hang on where the solver happened to stop.
GRADIENT = 1e-6


@dataclass(frozen=True)
class Labelled:
    """The items of a material that have one task's vector: `x` [N, D], class numbers `labels` [N].

    `rows` [N] are their places among all `total` items; the others lack a modality.
    """

    ids: tuple[str, ...]
    x: Floats
    labels: Ints
    rows: Ints
    total: int

    @property
    def left_out(self) -> int:
        """How many items lack a modality."""
        return self.total - len(self.rows)


@dataclass(frozen=True)
class FittedProbe:
    """A fitted classifier: `classes` [K] ascending, `weights` [D, K], `bias` [K]."""

    classes: Ints
    weights: Floats
    bias: Floats
    converged: bool

    def scores(self, x: Floats) -> Floats:
        """Decision scores [N, K]; their softmax is the probability of each class."""
        return np.asarray(x @ self.weights + self.bias)


def can_be_probed(subject: Subject) -> bool:
    """Whether there are classes, and a picture or a sound to tell them by."""
    return subject.classes >= 2 and bool({"image", "audio"} & set(subject.modalities))


def tasks(material: Material) -> dict[str, str]:
    """{"A": "audio", "V": "image", "A+V": "image+audio"}, as far as both halves were embedded.

    Raises EvalsetError for items that are not classified, or with neither.
    """
    tasks_there = {task: name for task, name in TASKS.items() if set(name.split("+")) <= set(material.arrays)}
    if material.labels is None or len(material.class_names) < 2 or not tasks_there:
        raise EvalsetError(
            f"{material.evalset} has {len(material.class_names)} classes and vectors of"
            f" {', '.join(material.arrays) or 'nothing'}: a probe needs two classes, and image or audio"
        )
    return tasks_there


def labelled(material: Material, name: str) -> Labelled:
    """The items with the vector `name`. Raises ResultError where one is not finite.

    Where a method has no vector of "image+audio", it is both side by side, divided by sqrt(2): of unit length again,
    so that one C means the same for every task and method.
    """
    rows, arrays = material.having(name), material.arrays
    parts = [name] if name in arrays else name.split("+")
    x = np.concatenate([arrays[part][rows] for part in parts], axis=1, dtype=np.float64) / np.sqrt(len(parts))
    if bad := int((~np.isfinite(x)).any(axis=1).sum()):
        raise ResultError(f"{bad} of {len(x)} {name} vectors of {material.evalset} are not finite: the model is broken")
    labels = np.asarray(material.labels)[rows]
    return Labelled(tuple(material.ids[i] for i in rows), x, labels, rows, len(material.ids))


def fit(x: Floats, labels: Ints, c: float, iterations: int, start: FittedProbe | None = None) -> FittedProbe:
    """Minimise |W|^2 / 2 + C sum_i -log softmax(x_i W + b)[y_i] over W [D, K] and b [K], K classes of `labels` [N].

    This is scikit-learn's `LogisticRegression(C=C)`: L2 on the weights, none on the bias, all classes jointly. Solved
    by L-BFGS from zero, or from `start`, a probe of the same classes. With fewer items than dimensions the solution
    lies in the span of the items (the representer theorem), and is sought in coordinates [N, N] of it.
    """
    from scipy.optimize import minimize  # Here: a suite that is only listed need not wait for it.

    classes, own = np.unique(labels, return_inverse=True)
    basis, inner = np.linalg.qr(x.T) if len(x) < x.shape[1] else (None, x.T)
    inputs = np.vstack([inner, np.ones(len(x))]).T
    first = np.zeros((inputs.shape[1], len(classes)))
    if start is not None:
        first[:-1] = start.weights if basis is None else basis.T @ start.weights
        first[-1] = start.bias
    optimum = minimize(
        _loss,
        first.ravel(),
        (inputs, own, 1.0 / (c * len(x))),
        method="L-BFGS-B",
        jac=True,
        # No limit on evaluations but the iterations', and no stop at a flat stretch before rounding.
        options={"maxiter": iterations, "maxfun": 20 * iterations, "gtol": GRADIENT, "ftol": 1e-15},
    )
    solved = optimum.x.reshape(first.shape)
    weights = solved[:-1] if basis is None else basis @ solved[:-1]
    # Status 1 is the limit; 2, a line search that rounding ends, is as good as settled.
    return FittedProbe(classes, weights, solved[-1], optimum.status != 1)


def _loss(flat: Floats, inputs: Floats, own: Ints, decay: float) -> tuple[float, Floats]:
    """Mean log loss + decay |W|^2 / 2 and its gradient; the last row of the weights is the bias."""
    weights, items = flat.reshape(inputs.shape[1], -1), np.arange(len(inputs))
    scores = inputs @ weights
    scores -= scores.max(axis=1, keepdims=True)  # Or exp overflows.
    right = scores[items, own]
    shares = np.exp(scores, out=scores)  # In place: a fit comes through here hundreds of times.
    sums = shares.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - right)) + decay / 2 * float((weights[:-1] ** 2).sum())
    shares /= sums
    shares[items, own] -= 1.0
    gradient = inputs.T @ shares / len(inputs)
    gradient[:-1] += decay * weights[:-1]
    return loss, gradient.ravel()

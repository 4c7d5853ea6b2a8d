"""How much captions tell of their species: names in the text, and what a bag of words can still tell.

The probe is ridge regression onto the classes (tf-idf of the 4,096 commonest word unigrams and bigrams, hashed),
trained and scored on different groups. A caption that is scored is never trained on, in no group: what is left to
learn is wording that different captions of a species share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from birdmml.core.species import Species
from birdmml.dataset.names import BirdNames, name_matches
from birdmml.dataset.ridge import folds, interval, solve
from birdmml.errors import BuildError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FOLDS = 5
MIN_ROWS = 50
MAX_WORDS = 128
SAMPLES = 1000
# The probe's memory grows with rows times classes: 8,000 rows of 8,000 species would take gigabytes.
MAX_CLASSES = 1000

_BUCKETS = 2**18
_FEATURES = 4096
_RIDGE = 1.0
_KINDS = ("common", "scientific", "part", "any")


def caption_leakage(
    captions: Sequence[str],
    labels: NDArray[Any],
    groups: Sequence[Any] | NDArray[Any],
    species_of_label: Mapping[int, Species | BirdNames],
    seed: int = 0,
    max_rows: int = 20_000,
) -> dict[str, Any]:
    """How many of `captions` [N] name their species, and how well a probe reads the species from them.

    `labels` [N] are keys of `species_of_label`; rows of one of `groups` [N] never lie on both sides of a fold (an
    empty string, None or a negative number is a group of its own). Returns, ready for JSON:

    - `n`, and `common`, `scientific`, `part`, `any`: shares of the rows with such a match, over all rows;
    - `repeated`: the share whose caption another row has too, letter for letter;
    - `probe`: None with a `reason`, or over a stratified sample of `max_rows` of the MAX_CLASSES commonest classes:
      `n`, `classes`, `folds`, `learnable` (rows whose class had training rows left), `accuracy` with `low` and `high`
      (bootstrap 95 % over groups), the same for `shuffled` labels, `chance_uniform` (1/K) and `chance_largest` (the
      largest class's share).

    Raises BuildError if the lengths differ or a label has no species.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if not len(captions) == len(labels) == len(groups):
        raise BuildError(f"{len(captions)} captions, {len(labels)} labels and {len(groups)} groups: give one a row")
    if missing := sorted(set(labels.tolist()) - set(species_of_label)):
        raise BuildError(f"label {missing[0]} has no species: name the species of every label")
    n = len(captions)
    matches = [name_matches(t, species_of_label[label]) for t, label in zip(captions, labels.tolist(), strict=True)]
    shares = {kind: sum(getattr(m, kind) for m in matches) / n if n else None for kind in _KINDS}
    texts = _numbers(captions)
    repeated = float((np.bincount(texts)[texts] > 1).mean()) if n else None
    classes, count = np.unique(labels, return_counts=True)
    # Of classes with as many rows, the first: the order of the rows must not decide.
    commonest = classes[np.argsort(-count, kind="stable")[:MAX_CLASSES]]
    probed = np.flatnonzero(np.isin(labels, commonest))
    chosen = probed[_stratified(labels[probed], max_rows, np.random.default_rng([seed, 0]))]
    keys = groups.tolist() if isinstance(groups, np.ndarray) else groups
    # A row whose group is unknown is nobody else's.
    of_row = _numbers([("row", i) if is_unknown(key) else ("group", key) for i, key in enumerate(keys)])
    probe = _probe([captions[i] for i in chosen], labels[chosen], of_row[chosen], seed)
    return {"n": n, **shares, "repeated": repeated, **probe}


def _probe(captions: list[str], labels: Ints, groups: Ints, seed: int) -> dict[str, Any]:
    """The probe's part of the result: {"probe": {...}} or {"probe": None, "reason": why}."""
    classes, y = np.unique(labels, return_inverse=True)
    names, group = np.unique(groups, return_inverse=True)
    reason = ""
    if len(captions) < MIN_ROWS:
        reason = f"too few captions: {len(captions)} of at least {MIN_ROWS}"
    elif len(classes) < 2:
        reason = "one species only: there is nothing to tell apart"
    elif len(names) < FOLDS:
        reason = f"too few groups: {len(names)} of at least {FOLDS}"
    if reason:
        return {"probe": None, "reason": reason}
    texts = _numbers(captions)
    fold = folds(y, group, FOLDS, np.random.default_rng([seed, 1]), by_commonest=True)
    if not any(train.any() for train, _ in _sides(fold, texts)):
        return {"probe": None, "reason": "nothing to train on: the same captions lie in every group"}
    x = _features(captions)
    if not x.shape[1]:
        return {"probe": None, "reason": "no two captions share a word"}
    shuffled = np.random.default_rng([seed, 2]).permutation(y)
    guessed = _cross_validated(x, np.stack([y, shuffled], axis=1), fold, texts, len(classes))
    learnable = np.zeros(len(y), dtype=np.bool_)
    for train, test in _sides(fold, texts):
        learnable |= test & np.isin(y, y[train])
    return {
        "probe": {
            "n": len(y),
            "classes": len(classes),
            "folds": int(fold.max()) + 1,
            "learnable": float(learnable.mean()),
            **_score(guessed[:, 0] == y, group, seed),
            "shuffled": _score(guessed[:, 1] == shuffled, group, seed),
            "chance_uniform": 1 / len(classes),
            "chance_largest": float(np.bincount(y).max() / len(y)),
        }
    }


def _stratified(labels: Ints, max_rows: int, rng: np.random.Generator) -> Ints:
    """At most `max_rows` of the rows, each class in proportion (at least one row each), in ascending order."""
    if len(labels) <= max_rows:
        return np.arange(len(labels))
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, start, count = np.unique(labels[order], return_index=True, return_counts=True)
    within = np.arange(len(labels)) - np.repeat(start, count)
    # The k-th row of a class of c rows comes at (k + 1/2) / c: taking the first ones fills all classes evenly.
    turn = (within + 0.5) / np.repeat(count, count)
    turn[within == 0] = 0.0
    return np.sort(order[np.argsort(turn, kind="stable")[:max_rows]])


def _sides(fold: Ints, texts: Ints) -> Iterator[tuple[Bools, Bools]]:
    """For each fold the rows to train on and to score, [N] each; no caption of the latter is among the former."""
    for k in range(int(fold.max()) + 1):
        test = fold == k
        yield ~test & ~np.isin(texts, texts[test]), test


def _features(captions: list[str]) -> sparse.csr_array:
    """tf-idf of the commonest word unigrams and bigrams, rows of length 1, float32 [N, F], F <= _FEATURES.

    Whatever only one caption has says nothing about another. Texts are cut at MAX_WORDS.
    """
    cut = (" ".join(c[: 20 * MAX_WORDS].split()[:MAX_WORDS]).encode(errors="replace").decode() for c in captions)
    hashing = HashingVectorizer(
        n_features=_BUCKETS, ngram_range=(1, 2), norm=None, alternate_sign=False, binary=True, dtype=np.float32
    )
    counted = hashing.transform(cut).tocsc()
    having = np.diff(counted.indptr)
    common = np.lexsort((np.arange(_BUCKETS), -having))[:_FEATURES]
    kept = counted[:, np.sort(common[having[common] > 1])]
    if not kept.shape[1]:
        return sparse.csr_array(kept)
    return sparse.csr_array(TfidfTransformer().fit_transform(kept), dtype=np.float32)


def _cross_validated(x: sparse.csr_array, ys: Ints, fold: Ints, texts: Ints, classes: int) -> Ints:
    """The class guessed for every row while its fold was held out, for each column of `ys` [N, L]: [N, L]; -1: none."""
    guessed = np.full(ys.shape, -1, dtype=np.int64)
    # The same ridge regression, by the smaller of two matrices: rows by rows, or features by features.
    fit = _by_rows if len(ys) < x.shape[1] else _by_features
    every = sparse.csr_array(x @ x.T).toarray() if fit is _by_rows else _gram(x)
    for train, test in _sides(fold, texts):
        if not train.any():
            continue
        wanted = np.eye(classes, dtype=np.float32)[ys[train]]  # [n, L, classes]
        prior = wanted.mean(axis=0)
        scores = fit(x, every, train, test, (wanted - prior).reshape(len(wanted), -1))
        guessed[test] = (scores.reshape(-1, *prior.shape) + prior).argmax(axis=2)
    return guessed


def _by_rows(
    x: sparse.csr_array, products: NDArray[np.float32], train: Bools, test: Bools, wanted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores [M, K] of the test rows, from all `products` of rows [N, N] and centred targets [n, K]."""
    seen = products[np.ix_(train, train)]
    to_mean = seen.mean(axis=0)
    centre = to_mean.mean()
    kernel = seen - to_mean[:, None] - to_mean[None, :] + centre
    weights = solve(kernel, _RIDGE, wanted)
    across = products[np.ix_(test, train)]
    across = across - across.mean(axis=1, keepdims=True) - to_mean[None, :] + centre
    return np.asarray(across @ weights, dtype=np.float32)


def _by_features(
    x: sparse.csr_array, every: NDArray[np.float32], train: Bools, test: Bools, wanted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores [M, K] of the test rows, from the products of all features [F, F] and centred targets [n, K]."""
    seen = x[np.flatnonzero(train)]
    mean = np.asarray(seen.mean(axis=0)).ravel()
    # Fewer rows are left out than stay.
    gram = every - _gram(x[np.flatnonzero(~train)])
    gram -= np.float32(train.sum()) * np.outer(mean, mean)
    weights = solve(gram.T, _RIDGE, seen.T @ wanted)
    return np.asarray(x[np.flatnonzero(test)] @ weights - mean @ weights, dtype=np.float32)


def _gram(x: sparse.csr_array) -> NDArray[np.float32]:
    """The products of all columns of x [N, F] with one another, dense, [F, F]."""
    turned = sparse.csr_array(x.T)
    out = np.empty((x.shape[1], x.shape[1]), dtype=np.float32)
    for start in range(0, len(out), 512):  # The sparse product takes three times the memory of the dense one.
        part = slice(start, start + 512)
        out[part] = (turned[part] @ x).toarray()
    return out


def _score(hits: Bools, group: Ints, seed: int) -> dict[str, float]:
    """Accuracy with an interval over groups (numbered from 0) drawn with replacement."""
    groups = int(group.max()) + 1
    rng = np.random.default_rng([seed, 3])
    draws = (np.bincount(rng.integers(0, groups, groups), minlength=groups)[None] for _ in range(SAMPLES))
    low, high = interval(hits, np.zeros_like(group), group, draws)
    return {"accuracy": float(hits.mean()), "low": low, "high": high}


def _numbers(values: Sequence[Any]) -> Ints:
    """Equal values get equal numbers, [N]."""
    ids: dict[Any, int] = {}
    return np.array([ids.setdefault(v, len(ids)) for v in values], dtype=np.int64)


def is_unknown(key: Any) -> bool:
    """Whether a group's key says that the group is not known: None, an empty string or a negative number."""
    return key is None or key == "" or (isinstance(key, int) and key < 0)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier

from birdmml.dataset.audit import probe as audit_probe
from birdmml.dataset.audit.groups import choose, components
from birdmml.dataset.audit.probe import ABOVE, AT_CHANCE, CANNOT_TELL, balanced_accuracy, interval, probe, shuffle
from birdmml.dataset.ridge import folds


def _data(species=5, groups=20, size=3, dim=30, signal=0.6, seed=0):
    """Features with a mean of each species and one of each group; rows of a group lie together."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(species * groups), size)
    y = g // groups
    centre, place = rng.standard_normal((species, dim)), rng.standard_normal((species * groups, dim))
    x = signal * centre[y] + 0.8 * place[g] + rng.standard_normal((len(y), dim))
    return x.astype(np.float32), y, g


def _standard(x, rest):
    mean, spread = x[rest].mean(axis=0), x[rest].std(axis=0)
    return (x.astype(np.float64) - mean) / spread


def test_balanced_folds_give_what_ridge_classifier_gives():
    x, y, _ = _data(groups=20, size=2)
    fold = np.tile(np.repeat(np.arange(5), 2), len(y) // 10)
    parts = audit_probe._factorise(x, fold)
    ours = audit_probe._predict(parts, y)
    for number in range(5):
        rest, test = fold != number, fold == number
        z = _standard(x, rest)
        theirs = RidgeClassifier(alpha=audit_probe.PENALTY * rest.sum()).fit(z[rest], y[rest]).predict(z[test])
        assert np.array_equal(ours[test], theirs)


def test_unbalanced_classes_give_what_ridge_on_scaled_indicators_gives():
    x, y, g = _data(signal=0.4)
    keep = np.random.default_rng(1).random(len(y)) < np.array([1, 0.2, 0.6, 0.9, 0.4])[y]
    x, y, g = x[keep], y[keep], np.unique(g[keep], return_inverse=True)[1]
    fold = folds(y, g, 5, np.random.default_rng(0))
    ours = audit_probe._predict(audit_probe._factorise(x, fold), y)
    for number in range(5):
        rest, test = np.flatnonzero(fold != number), fold == number
        z = _standard(x, rest)
        targets = (y[rest, None] == np.arange(5)) / np.sqrt(np.bincount(y[rest], minlength=5))
        coefficients = Ridge(alpha=audit_probe.PENALTY * len(rest)).fit(z[rest], targets).coef_
        assert np.array_equal(ours[test], (z[test] @ coefficients.T).argmax(axis=1))


def test_p_is_the_share_of_shuffles_that_do_as_well_by_brute_force():
    x, y, g = _data(signal=0.12, groups=12)
    found = probe(x, y, g, seed=3)
    fold = folds(y, g, audit_probe.FOLDS, np.random.default_rng(3))
    rng = np.random.default_rng([3, 1])

    def accuracy(labels):
        right = np.empty(len(labels), bool)
        for number in range(audit_probe.FOLDS):
            rest, test = fold != number, fold == number
            z = _standard(x, rest)
            known = np.unique(labels[rest])
            targets = (labels[rest, None] == known) / np.sqrt([(labels[rest] == c).sum() for c in known])
            w = Ridge(alpha=audit_probe.PENALTY * rest.sum()).fit(z[rest], targets).coef_
            right[test] = known[(z[test] @ w.T).argmax(axis=1)] == labels[test]
        return np.mean([right[labels == c].mean() for c in np.unique(labels)])

    shuffled = [accuracy(shuffle(y, g, rng)) for _ in range(audit_probe.SHUFFLES)]
    assert np.allclose(found.shuffled, np.sort(shuffled), atol=1e-9)
    observed = accuracy(y)
    assert found.accuracy == pytest.approx(observed, abs=1e-12)
    assert found.p == (1 + sum(s >= observed - 1e-9 for s in shuffled)) / (1 + audit_probe.SHUFFLES)


def test_a_signal_is_found_noise_is_at_chance_and_few_rows_cannot_tell():
    assert probe(*_data(signal=0.8), seed=0).verdict == ABOVE
    noise = probe(*_data(signal=0.0), seed=0)
    assert (noise.verdict, noise.chance) == (AT_CHANCE, 0.2)
    assert noise.low < noise.accuracy < noise.high
    assert noise.low < 0.2
    assert probe(*_data(signal=0.0, groups=3), seed=0).verdict == CANNOT_TELL
    assert probe(*_data(signal=0.8, groups=1), seed=0).verdict == CANNOT_TELL


def test_what_groups_share_is_not_taken_for_the_species():
    # Rows of a group are nearly equal and species mean nothing: split row by row, this looks like knowledge.
    x, y, g = _data(signal=0.0, groups=8, size=6)
    x += 6 * np.random.default_rng(5).standard_normal((g.max() + 1, x.shape[1]))[g].astype(np.float32)
    assert probe(x, y, np.arange(len(y)), seed=0).accuracy > 0.8
    assert probe(x, y, g, seed=0).verdict != ABOVE


def test_features_that_never_vary_are_exactly_at_chance():
    x, y, g = _data()
    for constant in (np.zeros_like(x), np.full_like(x, 0.1)):
        found = probe(constant, y, g, seed=0)
        assert found.verdict == AT_CHANCE
        assert (found.accuracy, found.p) == (pytest.approx(0.2), 1.0)


def test_noise_is_found_out_nearly_always_and_never_taken_for_a_signal():
    verdicts = [probe(*_data(signal=0.0, groups=40, seed=s), seed=s).verdict for s in range(12)]
    assert verdicts.count(ABOVE) == 0
    assert verdicts.count(AT_CHANCE) >= 10


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=60), st.integers(0, 99))
def test_shuffling_keeps_the_counts_of_labels(pairs, seed):
    g = np.unique([p[0] for p in pairs], return_inverse=True)[1]
    y = np.array([p[1] for p in pairs])
    dealt = shuffle(y, g, np.random.default_rng(seed))
    assert np.array_equal(np.bincount(dealt, minlength=4), np.bincount(y, minlength=4))


def test_groups_of_one_size_swap_their_labels_whole():
    y, g = np.repeat(np.arange(4), 6), np.repeat(np.arange(12), 2)
    where = np.random.default_rng(0).permutation(24)
    dealt = shuffle(y[where], g[where], np.random.default_rng(1))
    assert all(len(set(dealt[g[where] == k])) == 1 for k in range(12))
    assert not np.array_equal(dealt, y[where])


def test_balanced_accuracy_is_the_mean_of_recalls():
    y, right = np.array([0, 0, 0, 1, 3]), np.array([True, True, False, False, True])
    assert balanced_accuracy(right, y) == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_the_interval_draws_groups_not_rows():
    # Each group is all right or all wrong: with 20 rows a group, the interval is that of the groups.
    rng = np.random.default_rng(0)
    good = rng.random(100) < 0.5
    g = np.repeat(np.arange(100), 20)
    low, high = interval(good[g], np.zeros(2000, np.int64), g, seed=0)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 10, rel=0.15)
    low, high = interval(good[g], np.zeros(2000, np.int64), np.arange(2000), seed=0)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 2000**0.5, rel=0.15)


@given(st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), min_size=1, max_size=30))
def test_components_are_those_of_a_walk(pairs):
    keys = [np.array([p[k] for p in pairs]) for k in (0, 1)]
    found = components(keys, len(pairs))
    for start in range(len(pairs)):
        reached, new = {start}, [start]
        while new:
            i = new.pop()
            near = {j for k in keys for j in range(len(pairs)) if k[i] >= 0 and k[j] == k[i]} - reached
            reached |= near
            new += near
        assert reached == set(np.flatnonzero(found == found[start]).tolist())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=50), st.integers(0, 9))
def test_folds_split_no_group(pairs, seed):
    g = np.unique([p[0] for p in pairs], return_inverse=True)[1]
    fold = folds(np.array([p[1] for p in pairs]), g, 5, np.random.default_rng(seed))
    assert all(len(set(fold[g == k])) == 1 for k in range(g.max() + 1))
    assert fold.min() >= 0
    assert fold.max() < 5


def test_folds_spread_each_label_evenly():
    g = np.arange(200)
    y = np.random.default_rng(0).integers(0, 7, 200)
    fold = folds(y, g, 5, np.random.default_rng(0))
    counts = np.array([np.bincount(y[fold == k], minlength=7) for k in range(5)])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_an_id_that_contradicts_the_media_does_not_hide_them():
    labels = np.repeat(np.arange(4), 25)
    own = np.arange(100) // 2
    none = np.full(100, -1)
    assert choose(none, own, labels, ("same bytes", "same recording")).by == "same bytes or same recording"
    assert choose(own, none, labels, ("same bytes", "same recording")).by == "same bytes"
    # Ten photos all over the place: joined with the old ids, everything hangs together.
    spread = np.random.default_rng(0).integers(0, 10, 100)
    grouping = choose(spread, own, labels, ("same bytes", "same observation"))
    assert grouping.by == "same bytes; same observation contradicts it"
    assert len(set(grouping.groups.tolist())) == 10
    one = choose(np.zeros(100, np.int64), own, labels, ("same bytes", "same recording"))
    assert len(set(one.groups.tolist())) == 100

"""What a plain classifier gets from the media agrees with what the design says can be got."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def accuracy(features, target, train) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(features[train], target[train]).score(features[~train], target[~train])


def bound(ceiling: float, n: int) -> float:
    """Three standard deviations of a binomial above its mean."""
    return ceiling + 3 * np.sqrt(ceiling * (1 - ceiling) / n)


def test_looks_can_be_told_apart_by_colour(seen) -> None:
    assert accuracy(seen.image, seen.look, seen.train) > 0.97


def test_songs_can_be_told_apart_by_their_bands(seen) -> None:
    assert accuracy(seen.audio, seen.song, seen.train) > 0.97


def test_images_alone_stay_below_their_ceiling(seen) -> None:
    n = int((~seen.train).sum())
    assert 0.35 < accuracy(seen.image, seen.species, seen.train) < bound(1 / 2, n)


def test_audio_alone_stays_below_its_ceiling(seen) -> None:
    n = int((~seen.train).sum())
    assert 0.20 < accuracy(seen.audio, seen.species, seen.train) < bound(1 / 3, n)


def test_the_two_species_of_a_look_cannot_be_told_apart(seen) -> None:
    # One classifier a look, so that nothing but the difference within the pair is to be learnt.
    right = n = 0
    for look in range(12):
        pair = seen.look == look
        rest = int((pair & ~seen.train).sum())
        right += rest * accuracy(seen.image[pair], seen.species[pair], seen.train[pair])
        n += rest
    assert right / n < bound(1 / 2, n)


def test_both_together_name_the_species(seen) -> None:
    both = np.concatenate([seen.image, seen.audio], axis=1)
    assert accuracy(both, seen.species, seen.train) > 0.9


def test_the_three_species_of_a_song_cannot_be_told_apart(seen) -> None:
    right = n = 0
    for song in range(8):
        trio = seen.song == song
        rest = int((trio & ~seen.train).sum())
        right += rest * accuracy(seen.audio[trio], seen.species[trio], seen.train[trio])
        n += rest
    assert right / n < bound(1 / 3, n)

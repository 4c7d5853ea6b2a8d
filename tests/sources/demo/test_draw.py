from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from birdmml.sources.demo import draw, scene, world
from birdmml.sources.demo.draw import layers

POSE = draw.Pose(x=0.5, scale=0.56, lean=0.25, left=False, plump=1.0)
LENS = draw.Lens(blur=0.0, exposure=1.0, vignette=0.0, noise=2.0)
SCENE = scene.Scene(place=2, light="in soft light", seed=5, blur=0.02)


def shot(look: int, pose=POSE, place=SCENE, lens=LENS, side=96, seed=0):
    return draw.photo(world.look(look), place, pose, lens, side, np.random.default_rng(seed))


def silhouette(pose: draw.Pose, look: int = 0, side: int = 192) -> np.ndarray:
    """Where the bird is, bool [side, side]."""
    canvas = Image.new("RGB", (side, side), (1, 2, 3))
    draw.paint(ImageDraw.Draw(canvas), world.look(look), pose, side)
    return (np.asarray(canvas) != (1, 2, 3)).any(axis=2)


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Mean column and row as shares of the side."""
    rows, columns = np.nonzero(mask)
    return columns.mean() / len(mask), rows.mean() / len(mask)


@pytest.mark.parametrize("side", [32, 96, 161, 200])
def test_a_photo_has_the_asked_size_and_a_picture_in_it(side: int) -> None:
    picture = shot(0, side=side)
    assert picture.shape == (side, side, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10


def test_same_seed_same_pixels_other_seed_others() -> None:
    assert np.array_equal(shot(3), shot(3))
    assert not np.array_equal(shot(3), shot(3, seed=1))
    assert not np.array_equal(shot(3), shot(3, place=replace(SCENE, seed=6)))


def test_all_looks_that_any_demo_needs_differ_visibly() -> None:
    # 225 = 75 shared looks and 150 of one rule more, the most there can be.
    pictures = np.array([shot(i, lens=replace(LENS, noise=0.0)) for i in range(225)], dtype=np.float32)
    flat = pictures.reshape(225, -1)
    squares = (flat**2).sum(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * flat @ flat.T, 0))
    np.fill_diagonal(distance, np.inf)
    # Grain of 3 grey levels on every value, the middle of what a lens adds, is the yardstick.
    assert distance.min() > 3.0 * np.sqrt(flat.shape[1])


def test_the_first_dozen_looks_have_different_colours_on_their_wings() -> None:
    wings = []
    for look in range(12):
        picture = shot(look, lens=replace(LENS, noise=0.0)).astype(float)
        wings.append(picture[50:62, 36:48].reshape(-1, 3).mean(0))
    distance = np.linalg.norm(np.array(wings)[:, None] - np.array(wings)[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 20


def test_a_bird_facing_left_is_the_mirror_image() -> None:
    right, left = silhouette(POSE), silhouette(replace(POSE, left=True))
    overlap = (right[:, ::-1] & left).sum() / (right[:, ::-1] | left).sum()
    assert overlap > 0.95


def test_size_hop_and_plumpness_do_what_they_say() -> None:
    plain = silhouette(POSE)
    assert silhouette(replace(POSE, scale=0.28)).sum() == pytest.approx(plain.sum() / 4, rel=0.05)
    assert centre(silhouette(replace(POSE, hop=0.1)))[1] == pytest.approx(centre(plain)[1] - 0.1, abs=0.01)
    assert silhouette(replace(POSE, plump=1.2)).sum() > 1.08 * plain.sum()


def test_an_open_beak_changes_only_the_face() -> None:
    changed = silhouette(POSE) ^ silhouette(replace(POSE, gape=0.8))
    assert changed.any()
    x, y = centre(changed)
    assert x > 0.6
    assert y < 0.6


def test_random_birds_stay_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pose = draw.some_pose(rng)
        mask = silhouette(pose)
        x, y = centre(mask)
        assert 0.38 < x < 0.62
        assert 0.40 < y < 0.75
        assert 0.08 < mask.mean() < 0.35
        # The crown is always in view; only the tip of a tail or beak may leave at the sides or below.
        assert not mask[:2].any()


def test_every_place_is_drawn_differently() -> None:
    views = [
        np.asarray(scene.backdrop(replace(SCENE, place=p), 192, 96), dtype=float).reshape(-1, 3)
        for p in range(len(scene.PLACES))
    ]
    for i, a in enumerate(views):
        for b in views[:i]:
            assert np.abs(a - b).mean() > 8


def test_light_and_vignette_have_their_named_effect() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    quiet = replace(LENS, noise=0.0)
    warm = draw.develop(grey, replace(SCENE, light="in warm evening light"), quiet, rng).reshape(-1, 3)
    assert warm[0, 0] > 128 > warm[0, 2]
    dark = draw.develop(grey, SCENE, replace(quiet, vignette=0.5), rng)
    assert dark[0, 0, 0] == 64
    assert dark[32, 32, 0] == pytest.approx(128, abs=1)
    noisy = draw.develop(grey, SCENE, replace(LENS, noise=5.0), rng).astype(float)
    assert noisy.std() == pytest.approx(5.0, rel=0.1)


def test_every_layer_of_every_look_is_within_its_points() -> None:
    for number in range(world.N_LOOKS):
        plan = layers(world.look(number))
        assert len(plan.points) == len(plan.head) == len(plan.tail) == len(plan.jaw)
        assert [a.stop for a in plan.layers[:-1]] == [b.start for b in plan.layers[1:]]
        assert plan.layers[-1].stop == len(plan.points)

import re
from collections import Counter

import numpy as np
import pytest

from birdmml.schema import Photo
from birdmml.sources import demo
from birdmml.sources.demo import draw, scene, sing, tell, world


@pytest.fixture(scope="module")
def captions() -> list[tuple[str, str]]:
    """(common name, caption) of every item of the default demo."""
    from birdmml.core import species

    photos = [r for r in demo.records(world.DemoSettings()) if isinstance(r, Photo)]
    return [(species.resolve(p.species).common_name, p.caption.text) for p in photos if p.caption]


def sight(look: world.Plumage, song: world.Song, name: str = "Mallard") -> tell.Sight:
    return tell.Sight(
        name,
        look,
        song,
        scene.Scene(0, "in soft light", 0, 0.02),
        draw.Pose(0.5, 0.5, 0.5, False, 1.0),
        sing.Ambience(-50, 0.3, 0, 0, 20),
    )


def test_plumage_and_voice_are_said_in_plain_words() -> None:
    look = world.Plumage("red", "barred", "capped", "dark")
    assert tell.plumage(look) == "red, with barred wings, a plain dark breast and a black cap"
    assert tell.plumage(world.Plumage("black", "streaked", "masked", "cream")) == (
        "black, with a streaked cream breast and a white mask"
    )
    assert tell.plumage(world.Plumage("blue", "spotted", "plain", "cream")) == "blue, with a spotted cream breast"
    song = world.Song("rising", "low", "paired", "level")
    assert tell.voice(song) == "low rising notes in pairs, all on one pitch"


def test_different_traits_give_different_words() -> None:
    assert len({tell.plumage(world.look(i)) for i in range(world.N_LOOKS)}) == world.N_LOOKS
    assert len({tell.voice(world.song(i)) for i in range(world.N_SONGS)}) == world.N_SONGS


@pytest.mark.parametrize(
    ("name", "article"),
    [("American Crow", "an"), ("Mallard", "a"), ("European Starling", "a"), ("Osprey", "an"), ("Eastern Phoebe", "an")],
)
def test_names_get_the_right_article(name: str, article: str) -> None:
    texts = {tell.caption(sight(world.look(0), world.song(0), name), np.random.default_rng(i)) for i in range(200)}
    found = {m.lower() for t in texts for m in re.findall(rf"\b(an?) {name}", t, flags=re.IGNORECASE)}
    assert found == {article}


def test_captions_are_sentences_of_moderate_length(captions: list[tuple[str, str]]) -> None:
    for name, text in captions:
        assert text[0].isupper()
        assert text.endswith(".") or text == name
        assert "  " not in text
        assert len(text.split()) <= 50


def test_nearly_half_name_and_describe_a_third_only_name_and_some_only_describe(
    captions: list[tuple[str, str]],
) -> None:
    kinds: Counter[str] = Counter()
    for name, text in captions:
        described = any(w in text for w in ("breast", "sings", "singing"))
        short = len(text.split()) <= len(name.split()) + 4
        kinds["both" if name in text and described else "name" if short else "place" if name in text else "traits"] += 1
    shares = {k: v / len(captions) for k, v in kinds.items()}
    assert shares["both"] == pytest.approx(0.45, abs=0.05)
    assert shares["name"] == pytest.approx(0.35, abs=0.05)
    assert shares["place"] == pytest.approx(0.1, abs=0.04)
    assert shares["traits"] == pytest.approx(0.1, abs=0.04)


def test_a_caption_never_names_another_species(captions: list[tuple[str, str]]) -> None:
    names = {name for name, _ in captions}
    for name, text in captions:
        assert not [other for other in names - {name} if other in text and other not in name]


def test_more_than_half_of_the_captions_fit_one_item_alone(captions: list[tuple[str, str]]) -> None:
    # Retrieval of the one right item needs captions that are not all alike within a species.
    counts = Counter(text for _, text in captions)
    assert sum(counts[text] == 1 for _, text in captions) / len(captions) > 0.5

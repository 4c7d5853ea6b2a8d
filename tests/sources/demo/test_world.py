import math
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from birdmml.errors import UsageError
from birdmml.sources.demo import world
from birdmml.sources.demo.world import DemoItem, DemoSettings

SPECIES = st.integers(4, 40)
SYNERGY = st.fractions(0, 1, max_denominator=64)


def all_items(settings: DemoSettings) -> list[DemoItem]:
    return [world.photo_and_clip(settings, s, i) for s in range(settings.species) for i in range(settings.per_species)]


def bayes(items: list[DemoItem], key) -> Fraction:
    """Accuracy of whoever has counted everything: for each observation, the species most often behind it."""
    seen: dict[object, Counter[int]] = defaultdict(Counter)
    for item in items:
        seen[key(item)][item.species] += 1
    return Fraction(sum(max(c.values()) for c in seen.values()), len(items))


def test_default_ceilings_are_a_half_a_third_and_one() -> None:
    assert world.ceilings(DemoSettings()) == pytest.approx({"image": 1 / 2, "audio": 1 / 3, "image+audio": 1.0})
    items = all_items(DemoSettings())
    assert bayes(items, lambda i: i.look) == Fraction(1, 2)
    assert bayes(items, lambda i: i.song) == Fraction(1, 3)
    assert len({i.look for i in items}) == 12
    assert len({i.song for i in items}) == 8
    assert world.pools(DemoSettings()) == (12, 8)


@given(n=st.integers(4, 24), eighths=st.integers(0, 8))
@hypothesis_settings(deadline=None, max_examples=60)
def test_ceilings_equal_brute_force_bayes(n: int, eighths: int) -> None:
    # 4 N items: every rule gets whole turns of N, so the finite enumeration equals the design exactly.
    settings = DemoSettings(species=n, per_species=4 * n, synergy=eighths / 8)
    items, best = all_items(settings), world.ceilings(settings)
    assert best["image"] == pytest.approx(float(bayes(items, lambda i: i.look)))
    assert best["audio"] == pytest.approx(float(bayes(items, lambda i: i.song)))
    assert best["image+audio"] == float(bayes(items, lambda i: (i.look, i.song))) == 1.0


@given(n=SPECIES, per=st.integers(5, 30), synergy=SYNERGY, seed=st.integers(0, 2**63 - 1))
@hypothesis_settings(deadline=None, max_examples=60)
def test_no_two_species_share_both_look_and_song(n: int, per: int, synergy: Fraction, seed: int) -> None:
    settings = DemoSettings(species=n, per_species=per, synergy=float(synergy), seed=seed)
    owner: dict[tuple[int, int], int] = {}
    films = [world.film(settings, s, v) for s in range(n) for v in range(settings.eval_videos)]
    for item in all_items(settings) + films:
        assert owner.setdefault((item.look, item.song), item.species) == item.species


@given(n=SPECIES, per=st.integers(5, 50), synergy=SYNERGY)
@hypothesis_settings(deadline=None, max_examples=60)
def test_shares_of_the_rules_are_exact(n: int, per: int, synergy: Fraction) -> None:
    settings = DemoSettings(species=n, per_species=per, synergy=float(synergy))
    twice = 2 * synergy
    names = ("redundant", "shared") if twice <= 1 else ("shared", "xor")
    share = twice if twice <= 1 else twice - 1
    counts = Counter((i.species, i.rule) for i in all_items(settings))
    for s in range(n):
        assert abs(counts[s, names[1]] - share * per) < 1
        assert counts[s, names[0]] + counts[s, names[1]] == per
    assert abs(sum(counts[s, names[1]] for s in range(n)) - share * per * n) < 1


@given(n=SPECIES, per=st.integers(5, 60), seed=st.integers(0, 1000))
@hypothesis_settings(deadline=None, max_examples=40)
def test_in_xor_every_look_is_equally_frequent_in_all_species(n: int, per: int, seed: int) -> None:
    settings = DemoSettings(species=n, per_species=per, synergy=1.0, seed=seed)
    looks: dict[int, Counter[int]] = defaultdict(Counter)
    songs: dict[int, Counter[int]] = defaultdict(Counter)
    for item in all_items(settings):
        looks[item.species][item.look] += 1
        songs[item.species][item.song] += 1
    assert all(looks[s] == looks[0] for s in range(n))
    for counts in (*looks.values(), *songs.values()):
        assert max(counts.values()) - min(counts.get(k, 0) for k in counts) <= 1
        assert max(counts.values()) == math.ceil(per / n)


def test_rules_use_different_looks_and_songs() -> None:
    for synergy in (0.25, 0.75):
        items = all_items(DemoSettings(species=7, per_species=28, synergy=synergy))
        by_rule: dict[str, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
        for item in items:
            by_rule[item.rule][0].add(item.look)
            by_rule[item.rule][1].add(item.song)
        (looks_a, songs_a), (looks_b, songs_b) = by_rule.values()
        assert not looks_a & looks_b
        assert not songs_a & songs_b
        assert world.pools(DemoSettings(species=7, synergy=synergy)) == (4 + 7, 3 + 7)


@pytest.mark.parametrize("synergy", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_largest_demo_has_enough_looks_and_songs(synergy: float) -> None:
    settings = DemoSettings(species=150, per_species=160, synergy=synergy)
    for species in (0, 149):
        for index in range(160):
            item = world.photo_and_clip(settings, species, index)
            world.look(item.look)
            world.song(item.song)


def test_traits_are_all_different_and_first_ones_most() -> None:
    looks = [world.look(i) for i in range(world.N_LOOKS)]
    songs = [world.song(i) for i in range(world.N_SONGS)]
    assert len(set(looks)) == len(looks) == 384
    assert len(set(songs)) == len(songs) == 288
    assert len({look.colour for look in looks[:12]}) == 12
    assert len({song.syllable for song in songs[:8]}) == 8
    with pytest.raises(IndexError):
        world.look(world.N_LOOKS)


def test_films_have_a_different_order_of_xor_looks_than_items() -> None:
    settings = DemoSettings(synergy=1.0, per_species=24, eval_videos=24)
    photos = [world.photo_and_clip(settings, 3, i).look for i in range(24)]
    films = [world.film(settings, 3, i).look for i in range(24)]
    assert photos != films
    assert sorted(photos) == sorted(films)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("species", 3),
        ("species", 151),
        ("per_species", 4),
        ("seed", -1),
        ("image_size", 16),
        ("clip_seconds", 1.0),
        ("clip_seconds", float("nan")),
        ("synergy", 1.01),
        ("eval_videos", 0),
    ],
)
def test_senseless_settings_are_refused_by_the_option_name(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} .*give a value in this range"):
        DemoSettings(**{option: value})


def test_words_state_the_ceilings() -> None:
    words = world.in_words(DemoSettings())
    assert "50.0 % from images alone, 33.3 % from audio alone" in words
    assert "share a look by twos" in words
    assert "25 % of the items have" in world.in_words(DemoSettings(synergy=0.375))


@pytest.mark.parametrize("n", range(4, 151))
def test_every_song_is_shared_by_three_and_no_look_has_the_same_song_twice(n: int) -> None:
    songs = world.shared_songs(n)
    uses = Counter(songs)
    assert len(uses) == math.ceil(n / 3)
    assert max(uses.values()) <= 3
    assert all(songs[i] != songs[i + 1] for i in range(0, n - 1, 2))


def test_every_look_of_the_default_demo_has_a_pair_of_songs_of_its_own() -> None:
    songs = world.shared_songs(24)
    assert len({frozenset(songs[i : i + 2]) for i in range(0, 24, 2)}) == 12

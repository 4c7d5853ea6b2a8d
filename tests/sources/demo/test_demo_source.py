import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import fakes
import numpy as np
import pytest

from birdmml.errors import EvalsetError, SourceError, UsageError
from birdmml.evalsets import demo
from birdmml.media.audio import decode_clip
from birdmml.media.image import decode_image
from birdmml.media.video import decode_video
from birdmml.schema import RATE_HZ, Photo, Recording
from birdmml.sources import demo as sources_demo
from birdmml.sources.demo import world

SMALL = world.DemoSettings(species=4, per_species=6, image_size=48, clip_seconds=2.0, eval_videos=2)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evaluation set's folder of SMALL."""
    root = tmp_path_factory.mktemp("dataset")
    for index in range(sources_demo.extra_tasks(SMALL)):
        sources_demo.write_extra(SMALL, root, index)
    said = sources_demo.finish_extras(SMALL, root)
    assert said == {"evalset": "demo", "folder": "evalsets/demo", "videos": 8, "classes": 4}
    return root / "evalsets" / "demo"


def hashes(settings: world.DemoSettings) -> list[str]:
    return [
        hashlib.sha256(sources_demo.open_media(settings, r.locator)).hexdigest() for r in sources_demo.records(settings)
    ]


def test_records_are_balanced_and_bound_in_pairs() -> None:
    settings = world.DemoSettings()
    records = list(sources_demo.records(settings))
    photos = [r for r in records if isinstance(r, Photo)]
    clips = [r for r in records if isinstance(r, Recording)]
    assert len(photos) == len(clips) == 24 * 42
    assert set(Counter(p.species for p in photos).values()) == {42}
    assert len({r.id for r in records}) == len(records)
    assert {p.pair for p in photos} == {c.pair for c in clips}
    assert len({p.pair for p in photos}) == len(photos)


def test_observations_and_recordings_pair_one_to_one() -> None:
    # Otherwise a split that keeps groups and pairs together would chain a whole species.
    records = list(sources_demo.records(world.DemoSettings(per_species=7)))
    by_pair: dict[str | None, list[str]] = defaultdict(list)
    for r in records:
        by_pair[r.pair].append(r.observation if isinstance(r, Photo) else r.recording)
    groups = {tuple(pair) for pair in by_pair.values()}
    assert len({g[0] for g in groups}) == len({g[1] for g in groups}) == len(groups) == 24 * 4
    assert set(Counter(tuple(pair) for pair in by_pair.values()).values()) == {1, 2}


def test_every_medium_is_credited_to_the_generator() -> None:
    for r in sources_demo.records(SMALL):
        assert r.credit.license == "CC0-1.0"
        assert r.credit.author == "birdmml demo generator"
        if isinstance(r, Photo):
            assert r.caption is not None
            assert r.caption.origin == "demo"
            assert r.caption.credit == r.credit


def test_media_have_the_asked_sizes() -> None:
    assert decode_image(sources_demo.open_media(SMALL, "photo:3:5")).shape == (48, 48, 3)
    assert decode_clip(sources_demo.open_media(SMALL, "clip:3:5")).shape == (2 * RATE_HZ,)


def test_same_settings_same_bytes_other_seed_all_other_bytes() -> None:
    first, second = hashes(SMALL), hashes(SMALL)
    other = hashes(world.DemoSettings(species=4, per_species=6, image_size=48, clip_seconds=2.0, seed=1))
    assert first == second
    assert len(set(first + other)) == len(first) + len(other)


def test_one_item_does_not_depend_on_how_many_others_there_are() -> None:
    larger = world.DemoSettings(species=4, per_species=30, image_size=48, clip_seconds=2.0)
    assert sources_demo.open_media(SMALL, "photo:2:5") == sources_demo.open_media(larger, "photo:2:5")
    assert sources_demo.open_media(SMALL, "clip:2:5") == sources_demo.open_media(larger, "clip:2:5")


def test_photos_of_an_observation_share_their_place_only_with_each_other() -> None:
    seeds = [sources_demo._sight(SMALL, world.photo_and_clip(SMALL, s, i))[0].seed for s in range(4) for i in range(6)]
    assert seeds[0::2] == seeds[1::2]
    assert len(set(seeds)) == len(seeds) // 2


@pytest.mark.parametrize("locator", ["photo:4:0", "photo:0:6", "clip:-1:0", "video:0:0", "photo:0", "", "photo:0:0:0"])
def test_a_locator_of_other_settings_is_refused(locator: str) -> None:
    with pytest.raises(SourceError, match="same settings"):
        sources_demo.open_media(SMALL, locator)


def test_facts_say_demo_and_state_the_ceilings() -> None:
    facts = sources_demo.facts(world.DemoSettings())
    assert facts["demo"] is True
    assert facts["ceilings"] == pytest.approx({"image": 0.5, "audio": 1 / 3, "image+audio": 1.0})
    assert facts["videos"] == 144
    assert sources_demo.public_settings(SMALL)["species"] == 4


def test_the_evaluation_set_has_real_videos_with_sound(written: Path) -> None:
    items = demo.items(written)
    assert len(items) == 8
    assert Counter(i.label for i in items) == {0: 2, 1: 2, 2: 2, 3: 2}
    for item in items:
        video = decode_video(item.path)
        assert video.frames.shape == (8, 48, 48, 3)
        assert video.audio is not None
        assert np.abs(video.audio).max() > 0.05
    assert demo.items(written, "all") == items


def test_classes_are_common_names_in_label_order(written: Path) -> None:
    names = demo.class_names(written)
    assert names == tuple(s.common_name for s in world.names(SMALL))
    assert demo.PROMPT.format(common_name=names[2]) == "Mallard"


def test_videos_show_the_look_of_their_label(written: Path) -> None:
    # Species 0 and 1 are red, 2 and 3 blue.
    for item in demo.items(written):
        middle = decode_video(item.path).frames[:, 16:32, 12:36].astype(float).mean(axis=(0, 1, 2))
        look = world.look(world.film(SMALL, item.label, 0).look)
        assert (middle[0] > middle[2]) == (look.colour == "red")


def test_a_video_is_the_same_whenever_and_wherever_it_is_written(tmp_path: Path) -> None:
    # Full size and several times over: x264's macroblock tree read stray memory, so that only some bytes changed.
    settings = world.DemoSettings(species=4, per_species=6)
    found = set()
    for turn in range(8):
        sources_demo.write_extra(settings, str(tmp_path / str(turn)), 5)
        found.add((tmp_path / str(turn) / "evalsets" / "demo" / "video_ml" / "demo-00005.mp4").read_bytes())
    assert len(found) == 1


def test_a_missing_video_is_named_with_the_next_step(written: Path, tmp_path: Path) -> None:
    root = copy(written, tmp_path / "data" / "evalsets" / "demo")
    (root / "video_ml" / "demo-00003.mp4").unlink()
    with pytest.raises(EvalsetError, match=rf"demo-00003.mp4 is missing .*birdmml build --out {tmp_path}/data"):
        demo.items(root)


def test_missing_and_damaged_tables_are_named(written: Path, tmp_path: Path) -> None:
    with pytest.raises(EvalsetError, match=r"taxa\.csv is missing"):
        demo.class_names(tmp_path)
    root = copy(written, tmp_path / "demo")
    table = root / "video_ml.csv"
    text = table.read_text()
    for bad, words in [
        ("", "has no column asset_id"),
        (text.splitlines()[0] + "\n", "has no rows"),
        (text.replace("asset_id", "id"), "has no column asset_id"),
        (text.replace(",3,test", ",9,test"), "has label '9'"),
        (text.replace("demo-00001", "../demo-00001"), "is not a plain name"),
        (text.replace("test", "train"), "no video of split 'test'"),
    ]:
        table.write_text(bad)
        with pytest.raises(EvalsetError, match=words):
            demo.items(root)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvalsetError, match="cannot be read"):
        demo.items(root)
    (root / "taxa.csv").write_text("label,common_name,scientific_name\n1,A,B\n")
    with pytest.raises(EvalsetError, match="has label '1' instead of 0"):
        demo.class_names(root)


def test_an_unknown_split_is_a_usage_error(written: Path) -> None:
    with pytest.raises(UsageError, match="choose one of test, all"):
        demo.items(written, "train")


def test_the_fake_is_the_smallest_demo(tmp_path: Path) -> None:
    settings = fakes.source("demo", tmp_path, seed=3)
    assert len(list(sources_demo.records(settings))) == 4 * 6 * 2
    assert settings.seed == 3
    assert not list(tmp_path.iterdir())


def copy(source: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(source, target)
    return target

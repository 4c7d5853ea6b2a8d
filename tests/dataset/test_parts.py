"""A build that is divided ends with the bytes of one that is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import fakes
import pytest
from helpers import SPECIES, Ran, bird_folder, photo, sound, tree
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core import discover
from birdmml.core.pool import silent
from birdmml.dataset import decode, divide, place
from birdmml.dataset.build import build, finish
from birdmml.dataset.divide import PartPlace, build_part
from birdmml.dataset.intake import ONLY_PART
from birdmml.dataset.place import MAX_PARTS, BuildPart
from birdmml.dataset.recipe import BuildSettings, Limits, Rules
from birdmml.errors import BuildError, SourceError, UsageError
from birdmml.schema import Article, Card, Delivery, Photo, Recording, Reject

Cli = Callable[..., Ran]
MORE = (*SPECIES, "Corvus brachyrhynchos", "Poecile atricapillus")


def folder_settings(birds: Path, **more: Any) -> BuildSettings:
    own = discover.load("source", "folder").Settings(str(birds), clip_seconds=1.0)
    return BuildSettings("folder", own, limits=Limits(clip_s=1.0), **more)


def demo_settings() -> BuildSettings:
    own = discover.load("source", "demo").Settings(
        species=5, per_species=6, image_size=32, clip_seconds=2.0, eval_videos=1
    )
    return BuildSettings("demo", own, limits=Limits(clip_s=2.0))


def divided(settings: BuildSettings, out: Path, count: int, max_rejects: float = 0.01) -> Path:
    """The parts, last one first, and their end."""
    for index in reversed(range(count)):
        build_part(settings, out, BuildPart(index, count))
    finish(settings, out, max_rejects=max_rejects)
    return out


@given(st.text(), st.integers(1, 40))
def test_every_key_belongs_to_one_part(key: str, count: int) -> None:
    assert sum(BuildPart(i, count).takes(key) for i in range(count)) == 1


@given(st.integers(1, MAX_PARTS), st.data(), st.integers(0, place.CHUNKS - 1))
def test_a_chunks_number_tells_its_part(count: int, data: st.DataObject, chunk: int) -> None:
    part = BuildPart(data.draw(st.integers(0, count - 1)), count)
    number = place.numbered(chunk, part)
    assert place.located(number) == (part, chunk)
    assert number < 2**63
    assert place.located(chunk) == (None, chunk)


def test_the_demo_in_three_parts(tmp_path: Path) -> None:
    build(demo_settings(), tmp_path / "whole")
    assert tree(divided(demo_settings(), tmp_path / "out", 3)) == tree(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "whole"]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_folder_in_parts_with_limits_rejects_and_more_parts_than_species(tmp_path: Path, count: int) -> None:
    birds = bird_folder(tmp_path / "birds", photos=5, recordings=4, species=MORE)
    (birds / "images" / SPECIES[0] / "p1.jpg").write_text("no photo")
    photo(birds / "images" / "Draco magnus" / "p.jpg")
    photo(birds / "images" / "stray.jpg")
    settings = folder_settings(birds, limit=3)
    build(settings, tmp_path / "whole", max_rejects=0.5)
    told = json.loads((tmp_path / "whole/report/validation.json").read_bytes())
    assert set(told["rejects_by_reason"]) == {"not_an_image", "no_species", "unknown_species"}
    assert tree(divided(settings, tmp_path / "out", count, max_rejects=0.5)) == tree(tmp_path / "whole")


# A source that reads by itself, as those of services do: it remembers what it has delivered, and says in the end
# what never came, what must not be used, and what lay behind a hole.


@dataclass(frozen=True)
class _Settings:
    root: str = ""
    clip_seconds: float = 1.0


class _Session:
    def __init__(self, settings: _Settings, folder: Path, part: BuildPart) -> None:
        self._settings, self._part, self._path = settings, part, folder / "acknowledged"
        self._safe = int(self._path.read_text()) if self._path.exists() else 0
        self.resumes, self.turn = True, lambda: None
        self.total: int | None = None

    def _mine(self) -> Iterator[Photo | Recording]:
        for species in MORE:
            if self._part.takes(species):
                for i in range(4):
                    where = f"images/{species}/p{i}.jpg"
                    yield Photo(f"{species}-{i}", species, where, where)
                    where = f"audio/{species}/r{i}.wav"
                    yield Recording(f"{species}-{i}", species, where, where)

    def __iter__(self) -> Iterator[Delivery]:
        for seq, record in enumerate(self._mine(), 1):
            if seq > self._safe:
                data = (Path(self._settings.root) / record.locator).read_bytes()
                yield Delivery(record, data, seq)

    def acknowledge(self, seq: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(str(max(seq, self._safe)))

    def absent(self) -> Iterator[Reject]:
        return (Reject(f"{s}, line 5", "photo_gone", "404", True, s) for s in MORE if self._part.takes(s))

    def withdrawn(self) -> Iterator[str]:
        return (f"images/{s}/p3.jpg" for s in MORE[:2] if self._part.takes(s))

    def recovered(self) -> Iterator[str]:
        return (f"audio/{s}/r0.wav" for s in MORE if self._part.takes(s))

    def facts(self) -> dict[str, Any]:
        return {"demo": False, "requests": sum(1 for _ in self._mine())}

    def articles(self) -> dict[str, Article]:
        return {s: Article(s, f"{s} is a bird.", s, "u", "7", "h") for s in MORE if self._part.takes(s)}

    def unfinished(self) -> str:
        return ""

    def close(self) -> None:
        pass


def merge_facts(every: list[dict[str, Any]]) -> dict[str, Any]:
    return {"demo": False, "requests": sum(f["requests"] for f in every)}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildSettings:
    """Settings of such a source."""
    module = ModuleType("service")
    module.__dict__.update(
        CARD=Card("a service", "CC0-1.0", "", ""),
        Settings=_Settings,
        session=lambda own, folder, limit, retry, tell, part=ONLY_PART: _Session(own, folder, part),
        merge_facts=merge_facts,
        decoding=lambda own: {"clip_seconds": own.clip_seconds},
        public_settings=lambda own: {"clip_seconds": own.clip_seconds},
    )
    real = discover.load
    monkeypatch.setattr(discover, "load", lambda kind, name: module if name == "service" else real(kind, name))
    birds = bird_folder(tmp_path / "birds", photos=4, recordings=4, species=MORE)
    return BuildSettings("service", _Settings(str(birds)), limits=Limits(clip_s=1.0))


def test_a_service_in_parts_says_what_it_says_as_a_whole(service: BuildSettings, tmp_path: Path) -> None:
    build(service, tmp_path / "whole")
    told = json.loads((tmp_path / "whole/report/validation.json").read_bytes())
    assert told["absent_by_reason"] == {"photo_gone": 5}
    assert told["recovered_rows"] > 0
    assert tree(divided(service, tmp_path / "out", 3)) == tree(tmp_path / "whole")


def test_articles_of_all_parts_are_at_hand_in_the_end(service: BuildSettings, tmp_path: Path) -> None:
    for index in range(3):
        build_part(service, tmp_path / "out", BuildPart(index, 3))
    source = discover.load("source", "service")
    found = divide.BuildParts(source, service, tmp_path / "out.partial" / "parts", None, silent).articles()
    assert found == _Session(service.source_settings, tmp_path, BuildPart()).articles()


def test_a_service_whose_parts_were_stopped_delivers_nothing_twice(
    service: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(service, tmp_path / "whole")
    monkeypatch.setattr(decode, "CHUNK_RECORDS", 2)
    honest, calls = decode.ingest, []

    def stops(task: decode.ChunkTask) -> object:
        calls.extend(i.key for i in task.items)
        if len(calls) in (4, 12):
            raise KeyboardInterrupt
        return honest(task)

    monkeypatch.setattr(decode, "ingest", stops)
    for index in range(2):
        for _ in range(3):
            try:
                build_part(service, tmp_path / "out", BuildPart(index, 2))
                break
            except KeyboardInterrupt:
                continue
    assert len(calls) - len(set(calls)) == 4  # What was under way as it stopped.
    finish(service, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_facts_that_differ_and_that_nobody_merges_are_told(
    service: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(discover.load("source", "service"), "merge_facts")
    with pytest.raises(BuildError, match=r"parts 0 and 1 of 2 found the source different \(requests\)"):
        divided(service, tmp_path / "out", 2)


def test_a_source_of_one_stream_says_that_it_cannot_be_divided(tmp_path: Path) -> None:
    settings = BuildSettings("release", fakes.source("release", tmp_path / "rel"), limits=Limits(clip_s=1.0))
    with pytest.raises(UsageError, match="release source reads one stream .* leave --num-shards"):
        build_part(settings, tmp_path / "out", BuildPart(0, 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rel"]


def test_what_lacks_is_named_with_the_command_that_makes_it(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    for index in (0, 2):
        build_part(settings, out, BuildPart(index, 5))
    with pytest.raises(BuildError, match=r"parts 1, 3, 4 of 5 .*--num-shards 5 --shard-index 1 .*--array=1,3,4"):
        finish(settings, out)
    assert not out.exists()
    for index in (1, 3, 4):
        build_part(settings, out, BuildPart(index, 5))
    finish(settings, out)
    assert not (tmp_path / "out.partial").exists()


def test_a_part_that_was_begun_again_is_not_complete(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    build_part(settings, out, BuildPart(0, 1))
    with PartPlace(out, BuildPart(0, 1)) as here:
        here.prepare("another key", {})
        (here.staging / "x").touch()
    with pytest.raises(BuildError, match=r"part 0 of 1 is not there \(part 0 begun, and not complete\)"):
        finish(settings, out)


def test_other_settings_are_told_by_name(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    build_part(settings, out, BuildPart(0, 1))
    with pytest.raises(BuildError, match=r"other settings: limit None there, 2 here; seed 0 there, 5 here: give"):
        finish(replace(settings, seed=5, limit=2), out)
    # Made again with these, what was decoded is taken over; what the limit leaves out is not in the dataset.
    assert build_part(replace(settings, seed=5, limit=2), out, BuildPart(0, 1)).resumed == 12
    finish(replace(settings, seed=5, limit=2), out)
    build(replace(settings, seed=5, limit=2), tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_parts_must_agree_on_every_setting_but_those_of_captions(birds: Path) -> None:
    settings = folder_settings(birds)
    source = discover.load("source", "folder")
    others = {
        "source": "service",
        "source_settings": replace(settings.source_settings, clip_seconds=3.0),
        "seed": 9,
        "rules": Rules("released"),
        "passes": 3,
        "limit": 7,
        "limits": Limits(clip_s=3.0),
        "evalsets": ("cub200",),
    }
    assert others.keys() == {f.name for f in fields(settings)} - {"captioner", "captions"}
    for name, value in others.items():
        other = replace(settings, **{name: value})
        assert divide.settings_record(source, other) != divide.settings_record(source, settings), name


def test_a_listing_that_changed_between_the_parts_is_told(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    build_part(settings, out, BuildPart(0, 2))
    sound(birds / "audio" / SPECIES[1] / "new.wav", seed=77)
    build_part(settings, out, BuildPart(1, 2))
    with pytest.raises(BuildError, match=r"lists something else now than when part 0 of 2 was made"):
        finish(settings, out)
    build_part(settings, out, BuildPart(0, 2))
    finish(settings, out)
    build(settings, tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_a_part_that_lost_a_file_is_damaged(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    build_part(settings, out, BuildPart(0, 1))
    folder = tmp_path / "out.partial" / "parts" / "00000-of-00001" / "staging"
    next(folder.glob("*.json")).write_text("torn")
    with pytest.raises(BuildError, match=r"part 0 of 1 is damaged: .* holds 0 chunks .* --shard-index 0"):
        finish(settings, out)
    build_part(settings, out, BuildPart(0, 1))
    finish(settings, out)


def test_parts_of_two_counts_are_not_guessed_between(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    for count in (1, 2):
        for index in range(count):
            build_part(settings, out, BuildPart(index, count))
    with pytest.raises(UsageError, match="parts of 1 and 2: say which"):
        finish(settings, out)
    with pytest.raises(UsageError, match="has no part of 3, but of 1, 2"):
        finish(settings, out, count=3)
    finish(settings, out, count=2)


def test_parts_and_a_build_that_is_not_divided_keep_out_of_each_others_way(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    build_part(settings, out, BuildPart(0, 1))
    before = tree(tmp_path / "out.partial" / "parts")
    with pytest.raises(BuildError, match="holds parts of a divided build: put them together with --finish"):
        build(settings, out)
    assert tree(tmp_path / "out.partial" / "parts") == before
    finish(settings, out)
    (tmp_path / "two.partial").mkdir()
    for name in (".birdmml-build", "plan"):
        (tmp_path / "two.partial" / name).touch()
    with pytest.raises(BuildError, match="work of a build that is not divided"):
        build_part(settings, tmp_path / "two", BuildPart(0, 1))


def test_nothing_in_any_part_is_an_error_as_ever(tmp_path: Path) -> None:
    (tmp_path / "birds" / "images").mkdir(parents=True)
    with pytest.raises(SourceError, match="has no photo and no recording to offer"):
        divided(folder_settings(tmp_path / "birds"), tmp_path / "out", 2)


def test_a_second_run_of_the_same_part_is_refused_and_one_of_another_is_not(birds: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    with PartPlace(out, BuildPart(0, 2)):
        with pytest.raises(BuildError, match=rf"part 0 of 2 of .* is being worked on by process {os.getpid()} on"):
            build_part(settings, out, BuildPart(0, 2))
        build_part(settings, out, BuildPart(1, 2))
    build_part(settings, out, BuildPart(0, 2))
    with PartPlace(out, BuildPart(1, 2)), pytest.raises(BuildError, match="part 1 of 2 is being made again by process"):
        finish(settings, out)
    work = tmp_path / "out.partial"
    with divide.finishing(work), pytest.raises(BuildError, match="is being finished by process"):
        build_part(settings, out, BuildPart(0, 2))
    finish(settings, out)


def test_a_killed_part_goes_on_at_once_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    birds = bird_folder(tmp_path / "birds", photos=40, recordings=40)
    build(folder_settings(birds), tmp_path / "calm")
    command = [sys.executable, "-m", "birdmml", "build", "--source", "folder", "--from", str(birds)]
    command += ["--clip-seconds", "1", "--out", str(tmp_path / "out"), "--num-shards", "1"]
    running = subprocess.Popen([*command, "--shard-index", "0"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out.partial").rglob("staging/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    made = build_part(folder_settings(birds), tmp_path / "out", BuildPart(0, 1))
    assert made.resumed > 0
    finish(folder_settings(birds), tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_a_finish_that_was_stopped_is_done_again(birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, settings = tmp_path / "out", folder_settings(birds)
    build_part(settings, out, BuildPart(0, 1))
    with monkeypatch.context() as m:
        m.setattr("birdmml.dataset.write.plan", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finish(settings, out)
    assert not out.exists()
    finish(settings, out)
    build(settings, tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_no_path_stands_in_what_parts_leave(birds: Path, tmp_path: Path) -> None:
    build_part(folder_settings(birds), tmp_path / "out", BuildPart(0, 1))
    made = json.loads((tmp_path / "out.partial" / "parts" / "00000-of-00001" / "part.json").read_bytes())
    assert made["records"] == 30
    assert str(tmp_path) not in json.dumps(made)

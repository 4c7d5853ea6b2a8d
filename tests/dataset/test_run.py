from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import Ran, bird_folder, photo, sound, tree

from birdmml.core import discover
from birdmml.dataset import decode
from birdmml.dataset.build import build
from birdmml.dataset.place import BuildPlace
from birdmml.dataset.recipe import BuildSettings, Limits
from birdmml.errors import BuildError, MediaError, SourceError
from birdmml.media import audio

Cli = Callable[..., Ran]


def settings(birds: Path, seed: int = 0) -> BuildSettings:
    source = discover.load("source", "folder")
    return BuildSettings("folder", source.Settings(str(birds), clip_seconds=1.0), seed, limits=Limits(clip_s=1.0))


def rows(root: Path) -> list[dict[str, object]]:
    return [r for p in sorted((root / "data").glob("*.parquet")) for r in pq.read_table(p).to_pylist()]


def test_one_and_two_workers_write_the_same_bytes_wherever_the_folder_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        bird_folder(tmp_path / name / "birds", photos=12, recordings=9)
    build(settings(tmp_path / "a/birds"), tmp_path / "one", workers=1)
    build(settings(tmp_path / "b/birds"), tmp_path / "two", workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_seed_changes_the_pairs_and_nothing_is_lost(birds: Path, tmp_path: Path) -> None:
    pairs = []
    for seed in (0, 1):
        build(settings(birds, seed), tmp_path / "out")
        found = rows(tmp_path / "out")
        pairs.append({(r["image_id"], r["audio_id"]) for r in found})
        assert len({r["image_id"] for r in found}) == 15
        assert len({r["recording_id"] for r in found}) == 15
    assert pairs[0] != pairs[1]


def test_an_interrupted_build_goes_on_where_it_stopped(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "CHUNK_RECORDS", 4)
    build(settings(birds), tmp_path / "whole")
    honest, calls = decode.ingest, []

    def stops(task: decode.ChunkTask) -> object:
        calls.append(task.chunk)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return honest(task)

    monkeypatch.setattr(decode, "ingest", stops)
    with pytest.raises(KeyboardInterrupt):
        build(settings(birds), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    calls.clear()
    monkeypatch.setattr(decode, "ingest", lambda task: (calls.append(task.chunk), honest(task))[1])
    built = build(settings(birds), tmp_path / "out")
    assert built.resumed == 12
    assert len(calls) == 5
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()


def test_a_file_that_changed_since_the_interruption_is_read_again(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "CHUNK_RECORDS", 4)
    with monkeypatch.context() as m:
        m.setattr("birdmml.dataset.write.plan", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(settings(birds), tmp_path / "out")
    photo(birds / "images" / "Turdus migratorius" / "p0.jpg", seed=999)
    assert build(settings(birds), tmp_path / "out").resumed == 29
    build(settings(birds), tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_dataset_is_replaced_only_by_a_complete_one(birds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(settings(birds), out)
    before = tree(out)
    (birds / "images" / "Turdus migratorius" / "p0.jpg").write_text("no photo")
    with pytest.raises(BuildError, match=r"1 of 30 media were rejected \(3\.3 %\)"):
        build(settings(birds), out)
    assert tree(out) == before
    build(settings(birds), out, max_rejects=0.5)
    assert tree(out) != before
    assert not list(tmp_path.glob("out.*"))


def test_a_swap_that_died_between_its_renames_is_put_right(birds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(settings(birds), out)
    before = tree(out)
    with pytest.raises(KeyboardInterrupt), BuildPlace(out) as place:
        place.prepare("x")
        out.rename(place.old)
        (place.staging / "chunk.json").touch()  # Work that is worth keeping.
        raise KeyboardInterrupt
    with BuildPlace(out):
        assert tree(out) == before


def test_a_build_that_never_began_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError):
        build(settings(tmp_path / "empty"), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


def test_a_second_build_on_the_same_folder_is_refused(birds: Path, tmp_path: Path) -> None:
    with BuildPlace(tmp_path / "out"), pytest.raises(BuildError, match="another build is writing"):
        build(settings(birds), tmp_path / "out")


def test_a_worker_that_is_killed_costs_nothing(birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CHUNK_RECORDS", 2)
    build(settings(birds), tmp_path / "calm")
    victims: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        children = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "spawn_main"], capture_output=True, text=True)
        pids = [int(p) for p in children.stdout.split()]
        if len(victims) < 2 and pids and done > 4 * len(victims):
            victims.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    build(settings(birds), tmp_path / "out", workers=2, progress=progress)
    assert len(victims) == 2
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_a_killed_build_leaves_no_dataset_and_can_be_resumed(tmp_path: Path) -> None:
    birds = bird_folder(tmp_path / "birds", photos=60, recordings=60)
    build(settings(birds), tmp_path / "calm")
    command = [sys.executable, "-m", "birdmml", "build", "--source", "folder", "--from", str(birds)]
    command += ["--clip-seconds", "1", "--out", str(tmp_path / "out")]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out.partial").glob("staging/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert not (tmp_path / "out" / "manifest.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_a_recording_that_fails_halfway_leaves_none_of_its_clips(birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = birds / "audio" / "Turdus migratorius" / "r1.wav"
    sound(victim, seconds=6.0)
    real = audio.cut

    def cut(data: Path, *args: object) -> object:
        for number, clip in enumerate(real(data, *args)):
            if data == victim and number == 3:
                raise MediaError("audio_damaged", "broke off")
            yield clip

    monkeypatch.setattr(audio, "cut", cut)
    out = birds.parent / "out"
    build(settings(birds), out, max_rejects=0.5)
    told = json.loads((out / "report/validation.json").read_bytes())
    assert [r["path"] for r in told["rejects"]] == ["audio/Turdus migratorius/r1.wav"]
    assert not any("r1.wav" in str(r["audio_id"]) and "Turdus" in str(r["audio_id"]) for r in rows(out))


def test_features_equal_those_of_the_datasets_library() -> None:
    from datasets import Audio, ClassLabel, Features, Image, Value

    from birdmml.core import species
    from birdmml.dataset import format
    from birdmml.dataset.format import arrow_schema

    kinds = {
        "image": Image(),
        "audio": Audio(sampling_rate=22_050, decode=False),
        "label": ClassLabel(names=[s.scientific_name for s in species.all_species()]),
        "string": Value("string"),
        "int": Value("int32"),
        "float": Value("float32"),
        "bool": Value("bool"),
    }
    reference = Features({c.name: kinds[c.kind] for c in format.COLUMNS}).arrow_schema
    ours = arrow_schema()
    assert ours.equals(reference)
    assert json.loads(ours.metadata[b"huggingface"]) == json.loads(reference.metadata[b"huggingface"])


def test_row_groups_stay_small_and_have_a_page_index(small_demo: Path) -> None:
    for path in (small_demo / "data").glob("*.parquet"):
        about = pq.ParquetFile(path).metadata
        for group in range(about.num_row_groups):
            assert about.row_group(group).total_byte_size < 100e6
            assert about.row_group(group).column(0).has_offset_index


def test_the_manifest_counts_what_is_there(birds: Path, tmp_path: Path, cli: Cli) -> None:
    build(settings(birds), tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    found = rows(tmp_path / "out")
    assert manifest["counts"]["rows"] == len(found) == sum(s["rows"] for s in manifest["splits"].values())
    assert manifest["counts"]["photos"] == len({r["image_id"] for r in found})
    assert manifest["demo"] is False
    assert str(tmp_path) not in (tmp_path / "out/manifest.json").read_text()

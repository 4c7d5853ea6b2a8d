"""One contract over the three sets whose media are prepared."""

from __future__ import annotations

import html
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import evalset
from helpers import tree
from helpers.evalsets import NAMES, content, module_of, packed, prepared

from birdmml.evalsets.read import Prepared, PreparedFilm, validate
from birdmml.media.audio import decode_sound
from birdmml.media.image import decode_image
from birdmml.media.video import decode_video


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fakes")
    for name in NAMES:
        evalset(name, root / name)
        prepared(name, root / name, root / "out" / name)
    return root


@pytest.mark.parametrize("name", NAMES)
def test_a_prepared_fake_keeps_the_contract(name: str, fakes: Path) -> None:
    module, found = module_of(name), Prepared.open(fakes / "out" / name)
    told = found.manifest
    assert told["kind"] == "evaluation set"
    assert told["schema_version"] == 1
    assert (found.name, found.demo) == (name, True)
    assert len(set(found.class_names)) == len(found.class_names) == told["found"]["classes"]
    assert found.collections() == tuple(c.name for c in module.COLLECTIONS)
    assert validate(found.root) == ()
    for collection in found.collections():
        rows = {s: found.rows(collection, s) for s in module.SPLITS}
        assert told["found"][collection] == {s: len(r) for s, r in rows.items()}
        every = found.rows(collection, "all")
        assert every.ids == tuple(i for r in rows.values() for i in r.ids)
        assert len(set(every.ids)) == len(every) > 0
        assert set(every.labels.tolist()) == set(range(len(found.class_names)))
        names = [c["class_name"] for c in every.cells(["class_name"])]
        assert names == [found.class_names[i] for i in every.labels]
        assert len(list(every)) == len(every)


@pytest.mark.parametrize("name", NAMES)
def test_counts_unlike_the_published_ones_are_told(name: str, fakes: Path) -> None:
    module, told = module_of(name), Prepared.open(fakes / "out" / name).manifest
    assert told["published"] == module.PUBLISHED
    # Every published count is larger than the fake's.
    wanted = [1 if isinstance(n, int) else len(n) for n in module.PUBLISHED.values()]
    assert sum("published" in line for line in told["differences"]) == sum(wanted)
    report = json.loads((fakes / "out" / name / "report" / "report.json").read_text())
    assert report["differences"] == told["differences"]
    assert (report["rejected"], report["strays"], report["notes"]) == (0, [], [])
    page = html.unescape((fakes / "out" / name / "report" / "index.html").read_text())
    assert all(line.split(" found")[0] in page for line in told["differences"])
    assert str(fakes) not in page + json.dumps(told) + json.dumps(report)


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_write_the_same_bytes_as_one(name: str, fakes: Path, tmp_path: Path) -> None:
    prepared(name, fakes / name, tmp_path / "out", workers=2)
    assert tree(tmp_path / "out") == tree(fakes / "out" / name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ("x.tar.gz", "x.tar", "x.zip"))
def test_an_archive_gives_what_the_folder_gives(name: str, form: str, fakes: Path, tmp_path: Path) -> None:
    archive = packed(fakes / name, tmp_path / form, wrap="wrapped/" if name != "cub200" else "", backwards=True)
    prepared(name, archive, tmp_path / "out")
    assert content(tmp_path / "out") == content(fakes / "out" / name)


def test_a_folder_of_archives_gives_what_the_folder_gives(fakes: Path, tmp_path: Path) -> None:
    """VB100 comes as two archives; another set's archive beside them is left alone."""
    source = tmp_path / "downloads"
    source.mkdir()
    packed(fakes / "vb100", source / "VB100_mark.tar.gz")
    for part in ("vb100_all_videos", "vb100_annotations_v1"):
        packed(fakes / "vb100" / part, source / f"{part}.tar.gz", wrap=f"{part}/")
    (source / "VB100_mark.tar.gz").unlink()
    (source / "another.zip").write_bytes(b"not even a zip")
    found = prepared("vb100", source, tmp_path / "out")
    assert not found.manifest["demo"]  # The mark lies beside the two folders.
    shards = {n: s for n, s in content(tmp_path / "out").items() if n.startswith("data/")}
    assert shards == {n: s for n, s in content(fakes / "out" / "vb100").items() if n.startswith("data/")}


def test_frames_are_those_of_decode_video_but_for_jpeg(fakes: Path, tmp_path: Path) -> None:
    prepared("ssw60", fakes / "ssw60", tmp_path / "out", frame_px=0)
    rows = Prepared.open(tmp_path / "out").rows("videos", "all")
    silent = 0
    for name, film in zip(rows.ids, rows, strict=True):
        assert isinstance(film, PreparedFilm)
        plain = decode_video(fakes / "ssw60" / "video_ml" / f"{name}.mp4")
        assert film.frames.shape == plain.frames.shape
        assert np.abs(film.frames.astype(int) - plain.frames.astype(int)).mean() < 2.5
        if plain.audio is None:
            silent += 1
            assert film.audio is None
        else:
            assert film.audio is not None
            assert np.abs(film.audio - plain.audio.clip(-1, 1)).max() <= 1 / 32767
        # Single frames at 0.5 and 1.0 s and so on, as long as the video runs.
        assert film.sweep_s == tuple(k / 2 for k in range(1, 20) if k / 2 < film.duration_s)
        assert film.sweep.shape == (len(film.sweep_s), *plain.frames.shape[1:])
        assert film.fps == 10
    assert silent == 3
    missing = [c["audio"] for c in rows.cells(["audio"])]
    assert missing.count(None) == silent


def test_the_sweep_shows_the_frame_that_is_seen_at_its_time(fakes: Path, tmp_path: Path) -> None:
    """The fake's grey goes up frame by frame: at 10 frames a second, 0.5 s is frame 5."""
    found = Prepared.open(fakes / "out" / "ssw60").rows("videos", "all")
    for name, film in zip(found.ids, found, strict=True):
        total = round(film.duration_s * film.fps)
        every = decode_video(fakes / "ssw60" / "video_ml" / f"{name}.mp4", frames=total).frames
        wanted = [every[5 * (k + 1)].mean() for k in range(len(film.sweep_s))]
        assert np.allclose(film.sweep.mean(axis=(1, 2, 3)), wanted, atol=1)


def test_frames_are_scaled_down_to_the_short_side_and_never_up(fakes: Path, tmp_path: Path) -> None:
    told = prepared("vb100", fakes / "vb100", tmp_path / "out", frame_px=16).manifest
    film = next(iter(Prepared.open(tmp_path / "out").rows("videos", "test")))
    assert film.frames.shape[1:] == (16, 24, 3)
    assert "16 px" in told["settings"]["frame_encoding"]
    film = next(iter(Prepared.open(fakes / "out" / "vb100").rows("videos", "test")))
    assert film.frames.shape[1:] == (32, 48, 3)


def test_photos_keep_their_bytes_and_recordings_their_samples(fakes: Path) -> None:
    found = Prepared.open(fakes / "out" / "ssw60")
    rows = found.rows("images_nabirds", "test")
    for name, cell, pixels in zip(rows.ids, rows.cells(["image"]), rows, strict=True):
        data = (fakes / "ssw60" / "images_nabirds" / f"{name}.jpg").read_bytes()
        assert cell["image"]["bytes"] == data
        assert (pixels == decode_image(data)).all()
    rows = found.rows("audio", "all")
    for name, sound in zip(rows.ids, rows, strict=True):
        assert (sound == decode_sound(fakes / "ssw60" / "audio_ml" / f"{name}.wav")).all()


def test_a_limit_spreads_over_the_classes_and_is_marked(fakes: Path, tmp_path: Path) -> None:
    told = prepared("ssw60", fakes / "ssw60", tmp_path / "out", limit=4).manifest
    assert told["settings"]["limit"] == 4
    assert "limited to 4" in told["differences"][0]
    found = Prepared.open(tmp_path / "out")
    assert len(found.rows("videos", "all")) == 8
    assert set(found.rows("videos", "test").labels.tolist()) == {0, 1, 2, 3}


def test_labels_of_vb100_are_the_places_of_the_raw_ones(fakes: Path) -> None:
    rows = Prepared.open(fakes / "out" / "vb100").rows("videos", "all")
    folders = sorted({i.split("/")[0] for i in rows.ids})
    assert [folders.index(i.split("/")[0]) for i in rows.ids] == rows.labels.tolist()
    assert Prepared.open(fakes / "out" / "vb100").class_names[folders.index("Imaginary_Bird")] == "Imaginary Bird"


@pytest.mark.parametrize("name", NAMES)
def test_datasets_would_read_the_same_features(name: str, fakes: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for path in sorted((fakes / "out" / name / "data").rglob("*.parquet")):
        form = pq.read_schema(path)
        features = datasets.Features.from_arrow_schema(form)
        assert list(features) == form.names
        assert features["label"].names == list(Prepared.open(fakes / "out" / name).class_names)


@pytest.mark.parametrize("form", ("folder", "archive"))
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(form: str, fakes: Path, tmp_path: Path) -> None:
    source = fakes / "ssw60"
    if form == "archive":
        source = packed(source, tmp_path / "ssw60.tar.gz")
    command = [sys.executable, "-m", "birdmml", "prepare", "ssw60", "--from", str(source), "--json"]
    command += ["--out", str(tmp_path / "out")]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work = tmp_path / "out.partial" / "staging"
    until = time.monotonic() + 30
    while not list(work.glob("*.json")) and time.monotonic() < until and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    kept = {p.name: p.read_bytes() for p in work.glob("*.json")}
    assert kept
    assert not (tmp_path / "out").exists()
    found = prepared("ssw60", source, tmp_path / "out", resume=True)
    assert found.resumed > 0
    assert content(tmp_path / "out") == content(fakes / "out" / "ssw60")

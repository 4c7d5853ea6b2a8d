"""Corruptions on their way into the model: exact where the model sees them, and the same in any batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small import SMALLEST
from numpy.typing import NDArray

from birdmml.bench import subjects
from birdmml.bench.embed import Embedder, Embeddings
from birdmml.bench.suites._contract import Request
from birdmml.core import discover
from birdmml.errors import MediaError, UsageError
from birdmml.load import Built
from birdmml.media.corruption import Partners, parse, snr_db
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.network import Network
from birdmml.models.read import ArrayRows
from birdmml.models.text import train_tokenizer

HEARD = 512 * 39 + 512  # what 40 centred frames of 1,024 samples read


@pytest.fixture(scope="module", params=["confu", "clip"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    torch.manual_seed(0)
    module = discover.load("method", request.param)
    config = dataclasses.replace(module.Config(), dim=16)
    tokenizer = train_tokenizer(["a small bird", "a large bird"], 100)
    network = Network(SMALLEST, module, config, tokenizer.get_vocab_size())
    return Embedder(Checkpoint(request.param, config, SMALLEST, 0, network, tokenizer), torch.device("cpu"))


@pytest.fixture
def seen(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[Any]]]:
    """What the front end is given last: waveforms before the log-mel, pixels in [0, 1] before the encoder."""
    front, caught = embedder.network.preprocessor, {"audio": [], "image": []}
    finish, mel = front.finish_image, front.audio

    def image(compact: torch.Tensor) -> torch.Tensor:
        caught["image"] += list(finish(compact).numpy())
        return finish(compact)

    def audio(clips: list[NDArray[np.float32]]) -> torch.Tensor:
        caught["audio"] += [clip.copy() for clip in clips]
        return mel(clips)

    monkeypatch.setattr(front, "finish_image", image)
    monkeypatch.setattr(front, "audio", audio)
    yield caught


class Some:
    """The first rows of the demo's test split, their sounds and pictures replaced where a test says so."""

    def __init__(self, root: Path, **replaced: dict[int, NDArray[Any]]) -> None:
        self.rows, self.replaced = Built.open(root).split("test"), replaced

    def __len__(self) -> int:
        return 5

    def column(self, name: str) -> list[Any]:
        return self.rows.column(name)[:5]

    def media(self, indices: list[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        found = self.rows.media(indices, kinds)
        for row, i in zip(found, indices, strict=True):
            row |= {name: own[i] for name, own in self.replaced.items() if i in own}
        return found


@dataclass(frozen=True)
class Film:
    frames: NDArray[np.uint8]
    audio: NDArray[np.float32] | None


def film(seed: int, sound: bool = True) -> Film:
    generator = np.random.default_rng(seed)
    audio = generator.normal(0, 0.1, 30_000).astype(np.float32) if sound else None
    return Film(generator.integers(1, 256, (8, 30, 40, 3), dtype=np.uint8), audio)


def videos(embedder: Embedder, films: dict[str, Film], corruption: str = "") -> Embeddings:
    by_path = {Path(i): f for i, f in films.items()}
    worse = parse(corruption) if corruption else None
    return embedder.videos(list(films), list(by_path), by_path.__getitem__, None, worse)


@pytest.mark.parametrize("text", ["audio:gaussian:10", "audio:wind:20", "image:gaussian:15"])
def test_the_snr_is_exact_at_what_the_model_sees(
    embedder: Embedder, small_demo: Path, seen: dict[str, list[Any]], text: str
) -> None:
    corruption, rows = parse(text), Some(small_demo)
    embedder.rows(rows)
    clean = {name: values.copy() for name, values in seen.items()}
    for values in seen.values():
        values.clear()
    embedder.rows(rows, None, corruption)
    real = [min(HEARD, round(22_050 * s)) for s in rows.column("audio_valid_seconds")]
    for i in range(5):
        cut = slice(real[i]) if corruption.modality == "audio" else slice(None)
        before, after = clean[corruption.modality][i], seen[corruption.modality][i]
        assert snr_db(before[cut], after[cut]) == pytest.approx(corruption.level, abs=1e-3)
        if corruption.modality == "audio":
            np.testing.assert_array_equal(before[real[i] :], after[real[i] :])
        other = "image" if corruption.modality == "audio" else "audio"
        np.testing.assert_array_equal(clean[other][i], seen[other][i])
    if corruption.modality == "image":
        assert min(p.min() for p in seen["image"]) < 0  # not clipped


def test_padding_is_not_counted_and_stays_silent(
    embedder: Embedder, small_demo: Path, seen: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = np.zeros(44_100, dtype=np.float32)
    wave[:5513] = np.random.default_rng(0).normal(0, 0.1, 5513)
    rows = Some(small_demo, audio={2: wave})
    monkeypatch.setattr(rows, "column", lambda n: [0.25] * 5 if n == "audio_valid_seconds" else Some.column(rows, n))
    embedder.rows(rows, None, parse("audio:gaussian:10"))
    assert snr_db(wave[:5512], seen["audio"][2][:5512]) == pytest.approx(10, abs=1e-3)
    assert not seen["audio"][2][5513:].any()


def test_seeds_differ_and_batches_do_not(embedder: Embedder, small_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Some(small_demo)
    whole = embedder.rows(rows, None, parse("audio:gaussian:5:1"))
    other = embedder.rows(rows, None, parse("audio:gaussian:5:2"))
    assert not np.allclose(whole.arrays["audio"], other.arrays["audio"], atol=1e-6)
    np.testing.assert_array_equal(whole.arrays["image"], other.arrays["image"])
    monkeypatch.setattr("birdmml.bench.embed.Embeds.batch", 2)
    parts = embedder.rows(rows, None, parse("audio:gaussian:5:1"))
    for name, value in whole.arrays.items():
        np.testing.assert_allclose(value, parts.arrays[name], atol=1e-5)


def reads(name: str, modality: str) -> bool:
    return modality in [part.split("@")[0] for part in name.split("+")]


@pytest.mark.parametrize(
    ("modality", "item"), [("audio", np.zeros(44_100, np.float32)), ("image", np.zeros((48, 48, 3), np.uint8))]
)
def test_a_silent_or_black_row_is_absent_and_no_other_vector_changes(
    embedder: Embedder, small_demo: Path, modality: str, item: NDArray[Any]
) -> None:
    rows = Some(small_demo, **{modality: {3: item}})
    clean = embedder.rows(rows)
    found = embedder.rows(rows, None, parse(f"{modality}:gaussian:10"))
    assert found.present[modality].tolist() == [True, True, True, False, True]
    for name, value in found.arrays.items():
        absent = np.isnan(value).all(axis=1).tolist()
        assert absent == [False, False, False, reads(name, modality), False]
        if not reads(name, modality):
            np.testing.assert_array_equal(value, clean.arrays[name])
    assert clean.present[modality].all()


def test_samples_that_are_no_numbers_stop_the_run(embedder: Embedder, small_demo: Path) -> None:
    rows = Some(small_demo, audio={1: np.full(44_100, np.inf, np.float32)})
    with pytest.raises(MediaError, match="audio_range"):
        embedder.rows(rows, None, parse("audio:gaussian:10"))


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_what_is_missing_is_not_given_to_the_model(
    embedder: Embedder, small_demo: Path, modality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, rows = embedder.rows(Some(small_demo)), Some(small_demo)
    found = embedder.rows(rows, None, parse(f"{modality}:missing"))
    assert {n for n in clean.arrays if not reads(n, modality)} == set(found.arrays)
    assert not found.present[modality].any()
    monkeypatch.setattr("birdmml.bench.embed.Embeds.films_at_once", 2)
    films = {"a": film(0), "b": film(1), "c": film(2, sound=False)}
    whole, part = videos(embedder, films), videos(embedder, films, f"{modality}:missing")
    for name, value in part.arrays.items():
        assert not reads(name, modality)
        np.testing.assert_array_equal(value, whole.arrays[name])
    other = "audio" if modality == "image" else "image"
    assert other in part.arrays
    assert part.present[other].tolist() == [True, True, other == "image"]
    assert not part.present[modality].any()


def test_frames_of_a_film_get_noise_of_their_own(embedder: Embedder, seen: dict[str, list[Any]]) -> None:
    still = Film(np.repeat(film(0).frames[:1], 8, axis=0), film(0).audio)
    videos(embedder, {"a": still, "b": still})
    clean = seen["image"][0]
    seen["image"].clear()
    videos(embedder, {"a": still, "b": still}, "image:gaussian:10")
    assert len(seen["image"]) == 16
    for i, one in enumerate(seen["image"]):
        assert snr_db(clean, one) == pytest.approx(10, abs=1e-3)
        assert all(not np.array_equal(one, other) for other in seen["image"][:i])


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_a_silent_film_or_one_black_frame_is_absent(embedder: Embedder, modality: str) -> None:
    frames = film(1).frames.copy()
    frames[4] = 0
    broken = {"image": Film(frames, film(1).audio), "audio": Film(film(1).frames, np.zeros(9000, np.float32))}
    films = {"a/0": film(0), "b": broken[modality], "c": film(2, sound=False)}
    clean, found = videos(embedder, films), videos(embedder, films, f"{modality}:gaussian:10")
    assert found.present[modality].tolist() == [True, False, modality == "image"]
    for name, value in found.arrays.items():
        expected = clean.arrays[name]
        assert np.isnan(value[1]).all() == reads(name, modality)
        if not reads(name, modality):
            np.testing.assert_array_equal(value, expected)


def test_features_are_not_media(embedder: Embedder) -> None:
    rows = ArrayRows({m: np.ones((2, 4), np.float32) for m in ("image", "audio", "text")})
    with pytest.raises(UsageError, match="precomputed features"):
        embedder.rows(rows, None, parse("audio:gaussian:10"))


def test_a_song_is_another_species_whatever_the_order_and_the_limit(
    embedder: Embedder, small_demo: Path, seen: dict[str, list[Any]]
) -> None:
    provider = subjects.OwnRows(Built.open(small_demo))
    request = Request("dataset", "test", corruption="audio:song:0:0")
    provider.embed(request, embedder, None, quiet=True)
    whole = list(seen["audio"])
    seen["audio"].clear()
    found = provider.embed(request, embedder, 4, quiet=True)
    rows = provider.built.split("test")
    ids, labels = rows.column("id"), rows.column("label")
    partners = Partners(ids, labels, 0)
    for item, wave in zip(found.ids, seen["audio"], strict=True):
        row = ids.index(item)
        np.testing.assert_array_equal(wave, whole[row])
        clean = rows.media([row])[0]["audio"]
        other = rows.media([partners.of(item)])[0]["audio"]
        noise = (wave - clean)[:HEARD].astype(np.float64)
        # Equal power, one clip cut somewhere out of the other's.
        places = np.lib.stride_tricks.sliding_window_view(other.astype(np.float64), HEARD)[::1]
        best = max(abs(noise[:2000] @ p[:2000]) / np.linalg.norm(p[:2000]) for p in places)
        assert best == pytest.approx(np.linalg.norm(noise[:2000]), rel=1e-3)
        assert labels[partners.of(item)] != labels[row]


def test_partners_are_of_another_label_even_and_the_same_in_any_order() -> None:
    ids, labels = [f"i{k}" for k in range(60)], [k % 3 for k in range(60)]
    partners, reverse = Partners(ids, labels, 0), Partners(ids[::-1], labels[::-1], 0)
    drawn = [partners.of(i, attempt) for i in ids for attempt in range(20)]
    assert all(labels[drawn[n]] != labels[n // 20] for n in range(len(drawn)))
    assert [59 - reverse.of(i) for i in ids] == [partners.of(i) for i in ids]
    assert [Partners(ids, labels, 1).of(i) for i in ids] != [partners.of(i) for i in ids]
    # 1,200 draws over 60 items: 20 each, chi-squared with 59 degrees of freedom (99.9 %: 98.3).
    assert sum((drawn.count(k) - 20) ** 2 / 20 for k in range(60)) < 98.3
    with pytest.raises(UsageError, match="two species"):
        Partners(["a", "b"], [1, 1], 0)

"""Rows a second into one model: birdmml's feed beside a per-sample pipeline, on the same files, side by side.

    python benchmarks/loader.py [--rows 192] [--side 1024] [--seconds 10] [--threads 2] [--model light]

Makes photos (JPEG, `side` px) and recordings (FLAC, 22,050 Hz), puts them into a Parquet file in the layout of a
build, and trains the same model for one pass with either pipeline, alternating, nine times; the best pass counts.
The per-sample pipeline is what research code does: a torch Dataset whose items are decoded in full by Pillow,
resized to 224 px, read by soundfile and turned into a log-mel (STFT, filterbank) one by one, in a DataLoader with 0
and with `threads` workers. Both feed the same model: "linear" (maps of averages), "light" (two small stages), a
preset's encoders, or none. "kept" is birdmml's feed once its decoded
features are in memory, which is every epoch but the first where they fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from PIL import Image
from torch import Tensor

from birdmml.core import discover, settings
from birdmml.load import DatasetRows
from birdmml.media.audio import encode_flac
from birdmml.models.feed import Feed, batches
from birdmml.models.network import Network
from birdmml.models.preprocess import Preprocessor
from birdmml.models.presets import FrontEnd, Training, preset
from birdmml.models.text import tokenise, train_tokenizer

RATE, BATCH, PASSES = 22_050, 32, 9
CAPTIONS = ("a small yellow bird with streaks on its breast", "a crow calling from a bare tree at dusk")


def photo(rng: np.random.Generator, side: int) -> bytes:
    """A picture with soft shapes and a little grain: about the bytes of a bird photo of its size."""
    soft = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 3, (side, side, 1))
    out = io.BytesIO()
    Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=88)
    return out.getvalue()


def sound(rng: np.random.Generator, seconds: float) -> bytes:
    """A whistle that rises and falls over soft noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    song = (
        0.2 * np.sin(2 * np.pi * (3000 * t + 200 * np.sin(2 * np.pi * 2 * t))) * (np.sin(2 * np.pi * t) > 0)
    )
    return encode_flac((song + rng.normal(0, 0.003, len(t))).astype(np.float32))


def make(path: Path, rows: int, side: int, seconds: float) -> None:
    """A Parquet file of a few different media, repeated to `rows`, in row groups as a build writes them."""
    rng = np.random.default_rng(0)
    photos = [photo(rng, side) for _ in range(16)]
    sounds = [sound(rng, seconds) for _ in range(16)]
    table = pa.table(
        {
            "id": [f"r{i}" for i in range(rows)],
            "image": [{"bytes": photos[i % 16], "path": "p.jpg"} for i in range(rows)],
            "audio": [{"bytes": sounds[i % 16], "path": "s.flac"} for i in range(rows)],
            "caption": [CAPTIONS[i % 2] for i in range(rows)],
            "label": [i % 2 for i in range(rows)],
        }
    )
    pq.write_table(table, path, row_group_size=64, compression="none", use_dictionary=False)


class PerSample(torch.utils.data.Dataset[dict[str, Tensor]]):
    """One item at a time, as research code does it."""

    def __init__(self, path: Path, front: FrontEnd, text: Tensor) -> None:
        table = pq.read_table(path, columns=["image", "audio"])
        self.images = [cell["bytes"] for cell in table["image"].to_pylist()]
        self.sounds = [cell["bytes"] for cell in table["audio"].to_pylist()]
        self.side, self.text, self.mel = front.image_size, text, Preprocessor(front)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        picture = Image.open(io.BytesIO(self.images[i])).convert("RGB")
        picture = picture.resize((self.side, self.side), Image.Resampling.BILINEAR)
        samples, _ = soundfile.read(io.BytesIO(self.sounds[i]), dtype="float32")
        image = torch.from_numpy(np.asarray(picture).copy()).movedim(-1, 0)
        return {
            "image": image,
            "audio": self.log_mel(torch.from_numpy(samples))[None],
            "text": self.text[i],
        }

    def log_mel(self, wave: Tensor) -> Tensor:
        """What torchaudio's MelSpectrogram and AmplitudeToDB do: one STFT, one product with the filterbank."""
        mel, s = self.mel, self.mel.settings
        spectrum = torch.stft(
            wave, s.n_fft, s.hop, window=mel.window, pad_mode="reflect", return_complex=True
        )
        power = mel.filterbank @ spectrum.abs().square()
        return 10.0 * power.clamp_min(1e-10).log10()


def learner(model: str, front: FrontEnd, words: int) -> Callable[[dict[str, Tensor]], None]:
    """One training step of the model, or nothing at all."""
    if model == "none":
        return lambda batch: None
    torch.manual_seed(0)
    if model == "linear":
        return linear()
    small = ["stem=16", "widths=[16, 32]", "depths=[1, 1]"]
    light = [f"encoders.{kind}.{value}" for kind in ("image", "audio") for value in small]
    sizes = settings.override(
        preset("tiny" if model == "light" else model), light if model == "light" else []
    )
    module = discover.load("method", "confu")
    sizes = dataclasses.replace(sizes, front_end=front)
    network = Network(sizes, module, module.Config(dim=128), words)
    made = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step(batch: dict[str, Tensor]) -> None:
        network(batch)["loss"].backward()
        made.step()
        made.zero_grad()

    return step


def linear() -> Callable[[dict[str, Tensor]], None]:
    """A step of InfoNCE between linear maps of 16 x 16 averages of picture and mel: a model that costs little."""
    pool = torch.nn.AdaptiveAvgPool2d(16)
    maps = torch.nn.ModuleList([torch.nn.Linear(3 * 256, 128), torch.nn.Linear(256, 128)])
    made = torch.optim.AdamW(maps.parameters(), lr=1e-4, fused=True)

    def step(batch: dict[str, Tensor]) -> None:
        seen = pool(batch["image"].float() / 255).flatten(1)
        heard = pool(batch["audio"] / 30).flatten(1)
        a, b = (torch.nn.functional.normalize(m(x), dim=1) for m, x in zip(maps, (seen, heard), strict=True))
        torch.nn.functional.cross_entropy(a @ b.T / 0.07, torch.arange(len(a))).backward()
        made.step()
        made.zero_grad()

    return step


def cpu_seconds() -> float:
    """CPU time of this process and of the workers it has had."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def passes(
    rows: int, makers: dict[str, Callable[[], Iterator[dict[str, Tensor]]]], step: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Rows a second and CPU milliseconds a row of each pipeline, the best of PASSES.

    They take turns, so that all share what else runs here; CPU time depends on that least.
    """
    speed, cost = dict.fromkeys(makers, 0.0), dict.fromkeys(makers, float("inf"))
    for _ in range(PASSES):
        for name, batches_of in makers.items():
            started, used = time.perf_counter(), cpu_seconds()
            for batch in batches_of():
                step(batch)
            speed[name] = max(speed[name], rows / (time.perf_counter() - started))
            cost[name] = min(cost[name], 1000 * (cpu_seconds() - used) / rows)
    return speed, cost


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description="Rows a second of the feed and of a per-sample pipeline.")
    for name, default in (
        ("rows", 192),
        ("side", 1024),
        ("seconds", 10),
        ("threads", 2),
        ("size", 224),
        ("cpu-threads", 1),
    ):
        words.add_argument(f"--{name}", type=int, default=default)
    words.add_argument(
        "--model", default="light", choices=("none", "linear", "light", "tiny", "small", "paper")
    )
    given = words.parse_args()
    torch.set_num_threads(given.cpu_threads)
    front = FrontEnd(image_size=given.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.parquet"
        make(path, given.rows, given.side, given.seconds)
        rows = DatasetRows([path])
        tokenizer = train_tokenizer(CAPTIONS, 500)
        text = tokenise(tokenizer, rows.column("caption"), front.max_tokens)
        step = learner(given.model, front, tokenizer.get_vocab_size())
        items = PerSample(path, front, text)
        feed = Feed(rows, Preprocessor(front), tokenizer, Training(cache_gib=0.0, workers=given.threads))
        kept = Feed(rows, Preprocessor(front), tokenizer, Training(workers=given.threads))
        kept.fill()
        parts = list(batches(feed.order(0, 0), BATCH))

        def loader(workers: int) -> Callable[[], Iterator[dict[str, Tensor]]]:
            return lambda: iter(torch.utils.data.DataLoader(items, BATCH, shuffle=True, num_workers=workers))

        found, cost = passes(
            given.rows,
            {
                "per sample": loader(0),
                f"per sample, {given.threads} workers": loader(given.threads),
                "birdmml": lambda: feed.stream(parts),
                "birdmml, kept": lambda: kept.stream(parts),
            },
            step,
        )
    ratio = {
        f"birdmml / {name}": found["birdmml"] / value
        for name, value in found.items()
        if "birdmml" not in name
    }
    told = {"rows_per_second": found, "cpu_ms_per_row": cost, "ratio": ratio, "settings": vars(given)}
    json.dump(told, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()

"""A user's own encoders, three functions in a file, benchmarked without training: docs/own-model.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from birdmml.bench import score as bench_score
from birdmml.bench import subjects
from birdmml.bench.embed import Arrays, DecodedFilm, EmbeddingCache, Embeddings, joined
from birdmml.bench.own_vectors import SCORE, cosine, summed
from birdmml.bench.plan import check_limit, providers
from birdmml.bench.score import Pass
from birdmml.bench.subjects import Provider
from birdmml.bench.suites._contract import Material, Request
from birdmml.core import discover, files
from birdmml.errors import UsageError
from birdmml.load import Built
from birdmml.media.corruption import Corruption
from birdmml.models.preprocess import Others
from birdmml.models.read import RowSource, about
from birdmml.results.result import Run, SeedScores
from birdmml.schema import MODALITIES, RATE_HZ, Result

GUIDE = "see docs/own-model.md"
FUNCTIONS = {"image": "embed_images", "audio": "embed_audio", "text": "embed_texts", "image+audio": "embed_image_audio"}
BATCH, FILMS = 64, 8

Progress = Callable[[int], object] | None


@dataclass(frozen=True)
class OwnFrontEnd:
    """What the functions are given: mono sound at this rate, pictures as they are stored."""

    rate_hz: int = RATE_HZ


@dataclass(frozen=True)
class OwnPlan:
    """What is to be scored of a user's file; made by `plan`."""

    module: ModuleType
    path: Path
    built: Built
    passes: tuple[Pass, ...]
    providers: tuple[Provider, ...]
    limit: int | None = None

    @cached_property
    def values(self) -> dict[str, Any]:
        """The settings that a result records, as JSON values."""
        return {
            "own_model": {"path": self.path.name, "sha256": _origin(self.module)["sha256"]},
            "functions": [function for function in FUNCTIONS.values() if hasattr(self.module, function)],
            "score": SCORE,
            "suites": bench_score.stated(self.passes),
            "evalsets": {p.subject.name: p.digest for p in self.providers},
            "weights": "the user's own",
            "limit": self.limit,
            "trained_here": False,
        }

    @cached_property
    def name(self) -> str:
        """The result's folder."""
        marks = (["demo"] if self.built.demo else []) + (["limited"] if self.limit else [])
        return "-".join([self.path.stem, "own", *marks, files.digest([self.values, self.built.digest])[:8]])


def plan(
    model: Path,
    data: Path,
    suites: Sequence[str],
    overrides: Sequence[str] = (),
    evalsets: Path | None = None,
    only: Sequence[str] = (),
    limit: int | None = None,
) -> OwnPlan:
    """Run the user's file and check what it is to be scored on. Raises UsageError, DatasetError or EvalsetError."""
    chosen, rest = bench_score.passes_of(suites, overrides)
    if rest:
        raise UsageError(f"--set {rest[0]}: --model trains nothing, give a suite's setting, as zero-shot.split=all")
    check_limit(limit)
    if not model.is_file():
        raise UsageError(f"no file {model}: give the path of a Python file; {GUIDE}")
    built = Built.open(data)
    module = discover.run_file(model, _check, GUIDE)
    return OwnPlan(module, model, built, chosen, providers(built, evalsets, chosen, only), limit)


def run(plan: OwnPlan, out: Path, quiet: bool = False) -> tuple[Result, Path]:
    """Embed and score with the user's functions; a result as `birdmml bench` writes it."""
    embedder = OwnEmbedder(plan.module, plan.path)
    # Nothing is kept: the weights that the file loads may change while the file stays.
    cache = EmbeddingCache(None)
    job = Run(
        folder=out / plan.name,
        method=plan.path.name,
        preset="own model",
        settings=plan.values,
        dataset=about(plan.built),
        demo=plan.built.demo or any(p.demo for p in plan.providers),
    )

    def material(provider: Provider, request: Request) -> Material:
        return subjects.material(provider, request, embedder, cache, plan.limit, quiet)

    def score(seed: int) -> SeedScores:
        del seed
        return SeedScores(bench_score.score(plan.passes, plan.providers, material, cosine(embedder.functions)))

    def remarks(suite: str, evalset: str, query: str) -> tuple[float | None, str]:
        return subjects.ceiling(plan.built, suite, evalset, query), summed(query, embedder.functions)

    return job.carry_out(score, remarks), job.folder


class OwnEmbedder:
    """The user's functions in the place of a checkpoint; every vector is checked and brought to length 1."""

    def __init__(self, module: ModuleType, path: Path) -> None:
        self._path, self._width = path, 0
        self.functions: Mapping[str, Callable[..., Any]] = {
            name: getattr(module, function) for name, function in FUNCTIONS.items() if hasattr(module, function)
        }
        self.method: Mapping[str, Any] = {}
        self.device = torch.device("cpu")  # Where its functions work is their own affair.
        self.weights_sha256, self.front_end = _origin(module)["sha256"], OwnFrontEnd()

    def rows(
        self,
        rows: RowSource,
        progress: Progress = None,
        corruption: Corruption | None = None,
        others: Others | None = None,
    ) -> Embeddings:
        """What there are functions for, of rows of a dataset, a batch in memory at a time."""
        _check_clean(corruption)
        parts: list[Arrays] = []
        captions = rows.column("caption")
        for start in range(0, len(rows), BATCH):
            batch = range(start, min(start + BATCH, len(rows)))
            media = rows.media(batch, ("image", "audio"))
            part = self._media([m["image"] for m in media], [m["audio"] for m in media])
            parts.append(part | self.texts([captions[i] for i in batch]))
            _advance(progress, len(batch))
        there = np.ones(len(rows), dtype=bool)
        present = {m: there for m in MODALITIES if m in self.functions}
        return Embeddings(tuple(map(str, rows.column("id"))), joined(parts), present)

    def texts(self, texts: Sequence[str]) -> Arrays:
        """{"text": [N, D]}, or nothing without embed_texts."""
        return joined([self._call("text", list(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)])

    def images(
        self,
        ids: Sequence[str],
        pictures: Iterable[NDArray[np.uint8]],
        progress: Progress = None,
        corruption: Corruption | None = None,
    ) -> Embeddings:
        """Images alone."""
        _check_clean(corruption)
        parts, left = [], iter(pictures)
        while batch := list(islice(left, BATCH)):
            parts.append(self._call("image", batch))
            _advance(progress, len(batch))
        there = {"image": np.ones(len(ids), dtype=bool)} if "image" in self.functions else {}
        return Embeddings(tuple(ids), joined(parts), there)

    def videos(
        self,
        ids: Sequence[str],
        paths: Sequence[Any],
        decode: Callable[[Any], DecodedFilm],
        progress: Progress = None,
        corruption: Corruption | None = None,
        others: Others | None = None,
    ) -> Embeddings:
        """Per video the mean over frames, to length 1 again; fused frame by frame with the same sound."""
        _check_clean(corruption)
        parts: list[Arrays] = []
        heard: list[bool] = []
        for start in range(0, len(paths), FILMS):
            films = [decode(path) for path in paths[start : start + FILMS]]
            parts += [self._film(film) for film in films]
            heard += [film.audio is not None for film in films]
            _advance(progress, len(films))
        there = {"image": np.ones(len(ids), dtype=bool), "audio": np.asarray(heard, dtype=bool)}
        return Embeddings(tuple(ids), joined(parts), {m: v for m, v in there.items() if m in self.functions})

    def _film(self, film: DecodedFilm) -> Arrays:
        frames = list(film.frames)
        vectors = self._call("image", frames)
        if film.audio is not None:
            vectors |= self._call("audio", [film.audio], RATE_HZ)
            vectors |= self._call("image+audio", frames, [film.audio] * len(frames), RATE_HZ)
        return {name: _mean(values, self._path) for name, values in vectors.items()}

    def _media(self, pictures: list[Any], clips: list[Any]) -> Arrays:
        single = self._call("image", pictures) | self._call("audio", clips, RATE_HZ)
        return single | self._call("image+audio", pictures, clips, RATE_HZ)

    def _call(self, name: str, items: list[Any], *more: Any) -> Arrays:
        """{name: [N, D]} of unit vectors, or nothing where there is no such function. Raises UsageError."""
        if name not in self.functions:
            return {}
        function = FUNCTIONS[name]
        try:
            values = np.asarray(self.functions[name](items, *more), dtype=np.float64)
        except (Exception, SystemExit) as e:  # a user's function may raise anything; it becomes one line
            raise UsageError(f"{self._path}: {function} failed ({discover.error_line(e, self._path)}); {GUIDE}") from e
        if values.ndim != 2 or len(values) != len(items) or values.shape[1] == 0:
            raise UsageError(
                f"{self._path}: {function} gave {values.shape} for {len(items)} items: give [N, D]; {GUIDE}"
            )
        self._width = self._width or values.shape[1]
        if values.shape[1] != self._width:
            raise UsageError(
                f"{self._path}: {function} gives {values.shape[1]}-d vectors, another function {self._width}-d: all"
                f" must have one width to be compared; {GUIDE}"
            )
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        if not (np.isfinite(values).all() and (norms > 0).all()):
            bad = int((~np.isfinite(values).all(axis=1) | (norms[:, 0] == 0)).sum())
            raise UsageError(
                f"{self._path}: {bad} of {len(items)} vectors of {function} hold NaN, infinity or only zeros"
            )
        return {name: (values / norms).astype(np.float32)}


def _check(module: ModuleType, path: Path) -> None:
    single = [FUNCTIONS[m] for m in MODALITIES]
    there = [f for f in single if callable(getattr(module, f, None))]
    if len(there) < 2:
        names = ", ".join(there) or "none"
        raise UsageError(f"{path} has {names} of {', '.join(single)}: two are needed to compare; {GUIDE}")
    if hasattr(module, FUNCTIONS["image+audio"]) and not {"embed_images", "embed_audio"} <= set(there):
        raise UsageError(f"{path}: embed_image_audio needs embed_images and embed_audio beside it; {GUIDE}")


def _origin(module: ModuleType) -> dict[str, str]:
    return discover.origin(module) or {"path": "", "sha256": ""}


def _advance(progress: Progress, count: int) -> None:
    if progress is not None:
        progress(count)


def _mean(values: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """[F, D] -> [1, D], to length 1."""
    mean = values.mean(axis=0, keepdims=True)
    length = float(np.linalg.norm(mean))
    if length == 0:
        raise UsageError(f"{path}: the frames of a video cancel out: their mean has no direction")
    unit: NDArray[np.float32] = (mean / length).astype(np.float32)
    return unit


def _check_clean(corruption: Corruption | None) -> None:
    """Own encoders resize by themselves: what they see of noise at a stated SNR would be another SNR."""
    if corruption is not None:
        raise UsageError(
            f"{corruption.name}: noise is added behind the resize, which own encoders do by themselves; leave the"
            " noise suite out, or give embeddings of noisy media to `birdmml score`"
        )

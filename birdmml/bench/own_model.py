"""A user's own encoders, three functions in a file, benchmarked without training: docs/own-model.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from birdmml.bench import score as bench_score
from birdmml.bench import subjects
from birdmml.bench.embed import Arrays, DecodedFilm, EmbeddingCache, Embeds, joined
from birdmml.bench.own_vectors import SCORE, cosine, summed
from birdmml.bench.plan import check_limit, providers
from birdmml.bench.score import Pass
from birdmml.bench.subjects import Provider
from birdmml.bench.suites._contract import Material, Request
from birdmml.core import discover, files
from birdmml.errors import UsageError
from birdmml.load import Built
from birdmml.media.corruption import Corruption
from birdmml.models.preprocess import Damage, Others
from birdmml.models.read import RowSource, about
from birdmml.results.result import Run, SeedScores
from birdmml.schema import MODALITIES, RATE_HZ, Result

GUIDE = "see docs/own-model.md"
FUNCTIONS = {"image": "embed_images", "audio": "embed_audio", "text": "embed_texts", "image+audio": "embed_image_audio"}


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


class OwnEmbedder(Embeds):
    """The user's functions in the place of a checkpoint; every vector is checked and brought to length 1."""

    # Smaller than a checkpoint's: what a function of the user's own takes in memory is not known.
    batch, films_at_once = 64, 8

    def __init__(self, module: ModuleType, path: Path) -> None:
        self._path, self._width = path, 0
        self.functions: Mapping[str, Callable[..., Any]] = {
            name: getattr(module, function) for name, function in FUNCTIONS.items() if hasattr(module, function)
        }
        self.modalities = self.functions.keys()
        self.method = {}
        self.device = torch.device("cpu")  # Where its functions work is their own affair.
        self.weights_sha256, self.front_end = _origin(module)["sha256"], OwnFrontEnd()

    def texts(self, texts: Sequence[str]) -> Arrays:
        """{"text": [N, D]}, or nothing without embed_texts."""
        return joined([self._call("text", list(texts[i : i + self.batch])) for i in range(0, len(texts), self.batch)])

    def _reader(self, rows: RowSource, damage: Damage | None) -> Callable[[range], Arrays]:
        captions = rows.column("caption")

        def read(places: range) -> Arrays:
            media = rows.media(places, ("image", "audio"))
            pictures, clips = ([m[name] for m in media] for name in ("image", "audio"))
            single = self._call("image", pictures) | self._call("audio", clips, RATE_HZ)
            fused = self._call("image+audio", pictures, clips, RATE_HZ)
            return single | fused | self.texts([captions[i] for i in places])

        return read

    def _pictures(self, pictures: list[Any], ids: Sequence[str], damage: Damage | None) -> Arrays:
        return self._call("image", pictures)

    def _films(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> Arrays:
        return joined([self._film(film) for film in films], [1] * len(films))

    def _damage(self, corruption: Corruption | None, others: Others | None) -> None:
        """Own encoders resize by themselves: what they see of noise at a stated SNR would be another SNR."""
        if corruption is not None:
            raise UsageError(
                f"{corruption.name}: noise is added behind the resize, which own encoders do by themselves; leave the"
                " noise suite out, or give embeddings of noisy media to `birdmml score`"
            )

    def _film(self, film: DecodedFilm) -> Arrays:
        frames = list(film.frames)
        vectors = self._call("image", frames)
        if film.audio is not None:
            vectors |= self._call("audio", [film.audio], RATE_HZ)
            vectors |= self._call("image+audio", frames, [film.audio] * len(frames), RATE_HZ)
        return {name: _mean(values, self._path) for name, values in vectors.items()}

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


def _mean(values: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """[F, D] -> [1, D], to length 1."""
    mean = values.mean(axis=0, keepdims=True)
    length = float(np.linalg.norm(mean))
    if length == 0:
        raise UsageError(f"{path}: the frames of a video cancel out: their mean has no direction")
    unit: NDArray[np.float32] = (mean / length).astype(np.float32)
    return unit

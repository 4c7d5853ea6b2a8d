"""AV-MNIST: written digits with spoken ones, zero-shot by the digit's name (MultiBench's files, or raw ones)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from birdmml.core.pool import Progress
from birdmml.errors import EvalsetError, UsageError
from birdmml.evalsets import _avmnist
from birdmml.evalsets._annotations import Download
from birdmml.evalsets.arrays import Gathered
from birdmml.schema import Card

CARD = Card(
    summary="70,000 pairs of a written digit (28 x 28) and the spectrogram of a spoken one (112 x 112), 10 classes.",
    license="the user's own copy: MNIST and the recordings keep their publishers' terms",
    citation="Vielzeuf et al., CentralNet, ECCV Workshops 2018 (arXiv 1808.07275), as packed by Liang et al.,"
    " MultiBench, NeurIPS 2021 (arXiv 2107.07502)",
    url="https://github.com/pliang279/MultiBench",
    modalities=("image", "audio"),
)
KIND = "arrays"
PROMPT = "an image of a {common_name}"
DOWNLOAD = Download("avmnist.tar.gz", "size not published", "", CARD.url, "for research, see the dataset's own terms")
PUBLISHED = {"samples": {"train": 55000, "validation": 5000, "test": 10000}}
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Options:
    """Sizes in samples; 0 is all of MultiBench's files, and 6,000/1,000/2,000 of raw ones (avmnist-cpu).

    A size below the whole takes every digit equally often (their counts differ by one where 10 does not divide it).
    `limit` caps each split. `seed` and `group` (of raw files: what lies on one side, an utterance or a
    speaker) rule what is drawn.
    """

    train: int = 0
    validation: int = 0
    test: int = 0
    limit: int = 0
    seed: int = 0
    group: Literal["utterance", "speaker"] = "utterance"


def gather(source: Path, options: Options, progress: Progress) -> Gathered:
    """The set in a folder with image/train_data.npy etc., or with MNIST's idx files and WAVs of spoken digits."""
    if low := [n for n in ("train", "validation", "test", "limit", "seed") if getattr(options, n) < 0]:
        raise UsageError(f"{low[0]}={getattr(options, low[0])} is below zero: give a number of samples, or 0")
    sizes = {split: getattr(options, split) for split in PUBLISHED["samples"]}
    if _avmnist.has_npy(source):
        if options.group != "utterance":
            raise UsageError("group=speaker needs raw recordings: MultiBench's files do not name the speakers")
        return _avmnist.gather_npy(source, NAMES, sizes, options.limit, options.seed, progress)
    if _avmnist.has_raw(source):
        return _avmnist.gather_raw(source, NAMES, sizes, options.limit, options.seed, options.group, progress)
    raise EvalsetError(
        f"{source} holds neither image/train_data.npy nor MNIST's idx files with WAVs named"
        f" DIGIT_SPEAKER_NUMBER.wav: {DOWNLOAD.words()}"
    )

"""A prepared set of arrays as a subject: its own splits, embedded by the model that was trained on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from birdmml.array_data import MODALITY, ArrayData
from birdmml.embed import Embeddings
from birdmml.errors import EvalsetError, UsageError
from birdmml.materials import Embeds, bar, corruption_of
from birdmml.nn.read import rows_of, sample
from birdmml.suites._material import Request, Subject, subject_label


class ArraySubject:
    """Its splits "av_mnist-test" and so on; classes are asked for with the set's own prompt."""

    def __init__(self, data: ArrayData) -> None:
        self._data, self.digest, self.demo = data, data.digest, data.demo
        texts = not data.prompt
        self.subject = Subject(
            data.name,
            subject_label(data.name, "arrays"),
            "arrays",
            tuple(data.manifest["splits"]),
            tuple(data.fields),
            len(data.arrays.class_names),
            captions=texts,
            prompt=data.prompt,
        )

    def embed(self, request: Request, embedder: Embeds, limit: int | None, quiet: bool) -> Embeddings:
        """Image, audio, text and what is fused of them. Raises EvalsetError for a split without rows."""
        if corruption_of(request) is not None:
            raise UsageError(
                f"{self._data.name} holds arrays: noise is for sounds and pictures, leave it out"
            )
        rows = rows_of(self._data, request.split, limit)
        if len(rows) == 0:
            raise EvalsetError(f"{self._data.root} has no {request.split} rows: choose another split")
        with bar(f"embedding {request.split}", len(rows), quiet) as progress:
            return embedder.rows(rows, progress.update)

    def classes(self, request: Request, limit: int | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The rows' classes."""
        labels = self._data.arrays.labels(request.split)
        return labels[sample(len(labels), limit)], self._data.arrays.class_names

    def lengths(self, request: Request, limit: int | None) -> Mapping[str, NDArray[np.int32]]:
        """How many steps of each row are real, by modality."""
        lengths = self._data.arrays.lengths(request.split)
        return {MODALITY.get(name, name): n[sample(len(n), limit)] for name, n in lengths.items()}

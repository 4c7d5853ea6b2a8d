"""A checkpoint as a model of MTEB: encoder and search. Imports MTEB: come here through `birdmml.bench.mteb`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mteb._create_dataloaders import create_dataloader  # as MTEB's own wrappers do; nothing public makes them
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType
from numpy.typing import NDArray
from PIL import Image

from birdmml.bench.embed import Arrays, Embedder, to_numpy
from birdmml.bench.subjects import scorer
from birdmml.core import discover
from birdmml.core.device import pick_device
from birdmml.errors import MediaError, UsageError
from birdmml.media.audio import resample
from birdmml.models.checkpoint import Checkpoint, load
from birdmml.models.feed import to_device, trimmed
from birdmml.models.state import resolve
from birdmml.models.text import tokenise
from birdmml.results.metrics import BLOCK_ELEMENTS, check_scores
from birdmml.schema import MODALITIES

PROBES = 8
CLOSE = 1e-5


class Encoder(AbsEncoder):
    """Embeds what MTEB hands over; `index` and `search` rank by the method's own score, not by one cosine for all.

    `encode` gives one vector an input, as classification and clustering want it.
    """

    def __init__(self, checkpoint: Path, device: str = "auto", method: str | None = None) -> None:
        chosen = pick_device(device)
        ready = load(resolve(checkpoint), method, chosen)
        self.embedder = Embedder(ready, chosen)
        self.model = self.embedder.network
        self.scorer = scorer(self.embedder)
        self.method = discover.label(ready.method)
        self.mteb_model_meta = _meta(ready, self.method)
        self._corpus: Any = None

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """[N, D]: the vector of each input's modalities; of several without a fused one, their sum.

        Raises UsageError for a zero-shot task that the method scores otherwise than by a cosine of two such vectors.
        """
        del hf_split, hf_subset, prompt_type, kwargs
        text = self._prompts_as(task_metadata)
        arrays = self.arrays(inputs)
        name = _joined(arrays)
        name = text if name == "text" else name
        return arrays[name] if name in arrays else _unit(np.sum([arrays[p] for p in name.split("+")], axis=0))

    def index(self, corpus: Any, **kwargs: Any) -> None:
        """Keep the corpus for `search`."""
        del kwargs
        self._corpus = corpus

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """{query id: {document id: score}} of the `top_k` best; with `top_ranked`, of those alone.

        Raises UsageError for a pair of modalities between which the method defines no score.
        """
        del kwargs
        names, embedded = list[str](), list[Arrays]()
        for dataset, kind in ((queries, PromptType.query), (self._corpus, PromptType.document)):
            loader = create_dataloader(
                dataset, task_metadata=task_metadata, prompt_type=kind, num_proc=num_proc, **encode_kwargs
            )
            names.append(_joined(task_metadata.get_modalities(kind)))
            embedded.append(self.arrays(loader))
        ids = list(self._corpus["id"])
        place = {name: i for i, name in enumerate(ids)}
        hits: dict[str, dict[str, float]] = {}
        for query, scores in zip(
            queries["id"], self._rows((names[0], names[1]), (embedded[0], embedded[1])), strict=True
        ):
            among = range(len(ids)) if top_ranked is None else [place[i] for i in top_ranked.get(query, ())]
            best = np.asarray(among, dtype=np.int64)
            if len(best) > top_k:  # In any order: MTEB sorts by score.
                best = best[np.argpartition(-scores[best], top_k - 1)[:top_k]]
            hits[query] = {ids[i]: float(scores[i]) for i in best}
        return hits

    @torch.inference_mode()
    def arrays(self, inputs: Any) -> Arrays:
        """Every array [N, D] that the method makes of MTEB's batches: one a modality, tower and fusion.

        Raises UsageError for modalities that a checkpoint does not know, MediaError for sound that is none.
        """
        parts: list[Arrays] = []
        for batch in inputs:
            compact = to_device(self._compact(batch), self.embedder.device)
            parts.append(to_numpy(self.model.embed(compact)))
        if not parts:
            raise UsageError("MTEB handed over no input: the task's split is empty")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _compact(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        front, settings = self.model.preprocessor, self.embedder.front_end
        out: dict[str, torch.Tensor] = {}
        if "image" in batch:
            out["image"] = front.images([np.asarray(picture.convert("RGB")) for picture in batch["image"]])
        if "audio" in batch:
            out["audio"] = front.audio([_wave(item, settings.rate_hz) for item in batch["audio"]])
        if "text" in batch:
            out["text"] = trimmed(tokenise(self.embedder.tokenizer, batch["text"], settings.max_tokens))
        if not out or "video" in batch:
            raise UsageError(f"the inputs are {', '.join(batch)}: a birdmml checkpoint embeds image, audio and text")
        return out

    def _rows(self, names: tuple[str, str], embedded: tuple[Arrays, Arrays]) -> Iterator[NDArray[np.floating]]:
        """Scores [C] of one query after the other, from blocks."""
        (query, target), (queries, corpus) = names, embedded
        many, total = (len(next(iter(a.values()))) for a in (queries, corpus))
        step = max(1, BLOCK_ELEMENTS // max(1, total))
        for start in range(0, many, step):
            part = {name: array[start : start + step] for name, array in queries.items()}
            # Of one modality with itself no method has a score of its own: vectors are compared.
            same = query == target
            block = part[query] @ corpus[target].T if same else self.scorer.score(query, target, part, corpus)
            check_scores(block, len(next(iter(part.values()))), total)
            yield from block

    def _prompts_as(self, task_metadata: Any) -> str:
        """The array that class prompts are taken from: "text", or the tower that the method compares the input with."""
        if not str(task_metadata.type).lower().endswith("zeroshotclassification"):
            return "text"
        query = _joined({*task_metadata.modalities} - {"text"}) or "text"
        towers = [name for name in self.model.encoders if name.split("@")[0] == "text"]
        for tower in towers:
            if query == "text" or ((query, "text") in self.scorer.pairs and self._is_cosine(query, tower)):
                return tower
        raise UsageError(
            f"{self.method} scores {query}->text by no cosine of two vectors, which is all that MTEB's"
            " zero-shot tasks know: use `birdmml bench --suite zero-shot`"
        )

    def _is_cosine(self, query: str, tower: str) -> bool:
        """Whether the method's score of random vectors is a positive multiple of what `encode` leads to."""
        random = np.random.default_rng(0)
        # One input of each kind goes through the model, for the names and widths of its arrays alone.
        sound = {"array": np.zeros(self.embedder.front_end.rate_hz), "sampling_rate": self.embedder.front_end.rate_hz}
        inputs = {"image": [Image.new("RGB", (8, 8))], "audio": [sound], "text": ["a"]}
        example = self.arrays([{name: inputs[name] for name in {*query.split("+"), "text"}}])
        there = {
            name: _unit(random.standard_normal((PROBES, array.shape[1])).astype(np.float32))
            for name, array in example.items()
        }
        own = np.asarray(self.scorer.score(query, "text", there, there), dtype=np.float64)
        parts = [query] if query in there else query.split("+")
        plain = np.asarray(sum(there[name] for name in parts) @ there[tower].T, dtype=np.float64)
        slope = float((own * plain).sum() / (plain * plain).sum())
        return slope > 0 and bool(np.allclose(own, slope * plain, rtol=0.0, atol=CLOSE * max(1.0, slope)))


def _meta(ready: Checkpoint, method: str) -> Any:
    weights = sum(p.numel() for p in ready.network.parameters())
    return ModelMeta(
        loader=None,
        name=f"birdmml/{Path(method).stem}-{ready.weights_sha256[:8]}",
        revision=ready.weights_sha256,
        release_date=None,
        languages=["eng-Latn"],
        n_parameters=weights,
        memory_usage_mb=round(weights * 4 / 2**20, 3),
        max_tokens=ready.preset.front_end.max_tokens,
        embed_dim=int(getattr(ready.config, "dim", ready.preset.dim)),
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch", "safetensors"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
        modalities=list(MODALITIES),
    )


def _joined(names: Collection[str]) -> str:
    """ "image+audio": the modalities among the names, in the order that the scores have."""
    return "+".join(m for m in MODALITIES if m in names)


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, 1e-12), dtype=np.float32)


def _wave(item: Any, rate_hz: int) -> NDArray[np.float32]:
    """MTEB's {"array" [T] or [channels, T], "sampling_rate"} -> mono float32 [T] at `rate_hz`; raises MediaError."""
    samples = np.asarray(item["array"], dtype=np.float32)
    mono = samples.mean(axis=0) if samples.ndim == 2 else samples
    if mono.ndim != 1 or not mono.size or not np.isfinite(mono).all():
        raise MediaError("bad_audio", f"a clip of shape {samples.shape} is empty or not finite: mend the task's data")
    return resample(mono, int(item["sampling_rate"]), rate_hz)

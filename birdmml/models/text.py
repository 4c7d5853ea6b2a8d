"""Text to token ids: a WordPiece tokenizer trained on the captions at hand, nothing downloaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from birdmml.errors import CheckpointError

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"  # BERT's names.
PAD_ID = 0


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A lower-casing WordPiece tokenizer of at most `vocabulary` tokens; same texts, same tokenizer."""
    learner = _plain(models.WordPiece(unk_token=UNKNOWN))
    letters = sorted({c for text in set(texts) for c in learner.normalizer.normalize_str(text) if not c.isspace()})
    # The trainer numbers inner letters in the order of a randomly seeded hash map, and breaks ties by number;
    # naming them first makes it repeatable. The tokenizer proper is then made from the vocabulary alone.
    fixed = [PAD, UNKNOWN, START, END, *(f"##{letter}" for letter in letters)]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=fixed, show_progress=False)
    learner.train_from_iterator(texts, trainer=trainer)
    return _framed(_plain(models.WordPiece(vocab=learner.get_vocab(), unk_token=UNKNOWN)))


def load_tokenizer(text: str) -> Tokenizer:
    """The tokenizer of `tokenizer.to_str()`; raises CheckpointError for anything else."""
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as e:  # the library raises bare Exception for bad JSON
        raise CheckpointError(f"the tokenizer is damaged ({e}): train again, or take another checkpoint") from e
    # One of birdmml's gets its frame again; a foreign one carries its own.
    return _framed(tokenizer) if tokenizer.token_to_id(PAD) == PAD_ID else tokenizer


def tokenise(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> Tensor:
    """N texts -> ids int32 [N, L], L at most `max_tokens`, padded with 0 at the end; long texts are cut.

    Where a foreign tokenizer numbers a real token 0, it becomes -1: 0 always is padding.
    """
    tokenizer.enable_truncation(max_tokens)
    encoded = [e.ids for e in tokenizer.encode_batch(list(texts))]
    out = np.full((len(encoded), max((len(ids) for ids in encoded), default=1)), PAD_ID, dtype=np.int32)
    for row, ids in zip(out, encoded, strict=True):
        row[: len(ids)] = [i if i != PAD_ID else -1 for i in ids]
    return torch.from_numpy(out)


def _plain(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _framed(tokenizer: Tokenizer) -> Tokenizer:
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    if start is None or end is None:
        raise CheckpointError(f"the tokenizer lacks {START} or {END}: it is not one of birdmml's")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
    )
    return tokenizer

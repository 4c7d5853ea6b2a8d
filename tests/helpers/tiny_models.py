"""Captioners and text models of a few thousand random weights, made from their configs, in true folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

WORDS = (
    "a small bird sits on the branch of an old tree with red yellow brown wings and long tail it sings near water "
    "seen from below killdeer warbler robin plover stands grass white blue sky"
).split()
CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def words_tokenizer(folder: Path) -> int:
    """BERT's special tokens and whole words, as BLIP has them."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]
    vocabulary = {w: i for i, w in enumerate([*special, *dict.fromkeys(WORDS)])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        bos_token="[DEC]", eos_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    return len(vocabulary)


def bytes_tokenizer(folder: Path, chat: bool = True) -> int:
    """Every byte and some words, with Gemma's special tokens and chat."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learn = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([" ".join(WORDS)] * 9, learn)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHAT if chat else None
    tokenizer.save_pretrained(folder)
    return made.get_vocab_size()


def pixels(folder: Path, kind: str) -> None:
    """A processor for pictures of 24 x 24 px."""
    said = {
        "image_processor_type": kind, "size": {"height": 24, "width": 24}, "do_resize": True, "do_rescale": True,
        "do_normalize": True, "resample": 2, "rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(said))


def blip(folder: Path, seed: int = 0) -> str:
    size = words_tokenizer(folder)
    wide = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BlipConfig(
        vision_config={**wide, "image_size": 24, "patch_size": 8, "initializer_range": 0.6},
        text_config={
            **wide, "vocab_size": size, "encoder_hidden_size": 16, "max_position_embeddings": 64, "bos_token_id": 4,
            "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3, "is_decoder": True, "initializer_range": 0.6,
        },
        projection_dim=16,
    )  # fmt: skip
    pixels(folder, "BlipImageProcessor")
    return saved(folder, BlipForConditionalGeneration, config, seed)


def vit_gpt2(folder: Path, seed: int = 2) -> str:
    size = words_tokenizer(folder)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=24,
                  patch_size=8, initializer_range=0.6),
        GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=4, eos_token_id=3,
                   pad_token_id=0, initializer_range=0.6),
        decoder_start_token_id=4, pad_token_id=0, eos_token_id=3,
    )  # fmt: skip
    pixels(folder, "ViTImageProcessor")
    return saved(folder, VisionEncoderDecoderModel, config, seed)


def gemma(folder: Path, seed: int = 3, chat: bool = True, context: int = 8192) -> str:
    size = bytes_tokenizer(folder, chat)
    config = Gemma2Config(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=context, sliding_window=48, pad_token_id=0,
        eos_token_id=[1, 5], bos_token_id=2, initializer_range=0.5,
        tie_word_embeddings=False,
    )  # fmt: skip
    return saved(folder, Gemma2ForCausalLM, config, seed, 262)


def gpt2(folder: Path, seed: int = 4) -> str:
    size = bytes_tokenizer(folder, chat=False)
    config = GPT2Config(
        vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=2048, bos_token_id=2, eos_token_id=1,
        pad_token_id=0, initializer_range=0.6, tie_word_embeddings=False,
    )  # fmt: skip
    return saved(folder, GPT2LMHeadModel, config, seed, 262)


def saved(folder: Path, kind: Any, config: Any, seed: int, words_from: int = 0) -> str:
    """Random weights; with `words_from`, an output below that number is unlikely, so that answers are of words."""
    torch.manual_seed(seed)
    model = kind(config)
    if words_from:
        with torch.no_grad():
            model.lm_head.weight[2:words_from] = 0
    model.save_pretrained(folder)
    return str(folder)

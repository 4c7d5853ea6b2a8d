from __future__ import annotations

import pytest
import torch

from birdmml.core import settings
from birdmml.errors import UnknownName, UsageError
from birdmml.models.encoders import ImageEncoder, TextEncoder, build, widths
from birdmml.models.presets import PRESETS, Bert, Encoders, Preset, ResNet, preset


def test_the_paper_preset_is_the_papers() -> None:
    p = preset("paper")
    t = p.training
    assert (p.dim, t.batch_size, t.epochs) == (512, 64, 100)
    assert (t.learning_rate, t.final_learning_rate, t.weight_decay) == (1e-4, 1e-6, 1e-4)
    assert (p.front_end.image_size, p.front_end.pixel_normalise, p.front_end.frames) == (224, False, 431)
    assert p.encoders.weights == "scratch"
    assert (t.augment.mirror, t.augment.shift_px, t.augment.roll_frames, t.augment.gain_db) == (False, 0, 0, 0.0)


def test_the_paper_encoders_have_the_sizes_of_resnet_50_and_minilm() -> None:
    with torch.device("meta"):
        made = build(preset("paper").encoders, 30_522, 512)
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in made.items()}
    assert count["image"] == 23_508_032  # torchvision's resnet50 without its 2,049,000 of classifier
    assert count["audio"] == 23_508_032 - 2 * 64 * 49  # one channel instead of three
    assert count["text"] == 22_713_216 - 384 * 384 - 384  # all-MiniLM-L6-v2 without its pooler
    assert widths(made) == {"image": 2048, "audio": 2048, "text": 384}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_are_found_in_any_case(name: str) -> None:
    assert settings.from_dict(Preset, settings.to_dict(preset(name))) == preset(name.upper())


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="tiny"):
        preset("tinny")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_tells_the_text_encoder_nothing(pooling: str) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(Bert(16, 2, 2, 32, 64, pooling), 64, 20).eval()  # type: ignore[arg-type]  # a literal
    ids = torch.tensor([[2, 7, 9, 3]], dtype=torch.int32)
    padded = torch.cat([ids, torch.zeros(1, 9, dtype=torch.int32)], dim=1)
    torch.testing.assert_close(encoder(padded), encoder(ids), atol=1e-5, rtol=1e-4)


def test_the_image_encoder_gives_one_vector_an_item_for_any_size() -> None:
    encoder = ImageEncoder(ResNet(8, (8, 16), (1, 1), "basic"), channels=1).eval()
    assert encoder(torch.zeros(3, 1, 64, 130)).shape == (3, 16)
    assert encoder(torch.zeros(1, 1, 32, 32)).shape == (1, 16)


def test_a_seed_fixes_the_initial_weights() -> None:
    small = Encoders(ResNet(8, (8,), (1,), "basic"), ResNet(8, (8,), (1,), "basic"), Bert(16, 1, 2, 32, 64))
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build(small, 64, 16).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [("front_end.image_size", 4), ("encoders.text.heads", 5), ("encoders.image.widths", [8]), ("dim", 1),
     ("training.batch_size", 1), ("training.epochs", 0), ("training.learning_rate", -1.0),
     ("encoders.weights", "pretrained"), ("training.augment.gain_db", -1.0)],
)  # fmt: skip
def test_senseless_sizes_are_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError):
        settings.override(preset("tiny"), [f"{name}={value!r}".replace("'", '"')])

"""A preset so small that a test can train it in a second."""

from __future__ import annotations

from birdmml.models.presets import Augment, Bert, Encoders, FrontEnd, Preset, ResNet, Training

_RESNET = ResNet(8, (8, 16), (1, 1), "basic")
SMALLEST = Preset(
    FrontEnd(image_size=24, bands=16, frames=40, db_centre=-30.0, db_scale=30.0, max_tokens=32),
    Encoders(_RESNET, _RESNET, Bert(16, 1, 2, 32, 300)),
    Training(2, 8, 1e-3, augment=Augment(mirror=True, shift_px=1, roll_frames=3, gain_db=3.0), cpu_threads=1),
    dim=16,
)
# The same by the options of `birdmml bench`.
OPTIONS = [
    "front_end.image_size=24", "front_end.bands=16", "front_end.frames=40", "front_end.max_tokens=32",
    "encoders.image.stem=8", "encoders.image.widths=[8, 16]", "encoders.image.depths=[1, 1]",
    "encoders.audio.stem=8", "encoders.audio.widths=[8, 16]", "encoders.audio.depths=[1, 1]",
    "encoders.text.hidden=16", "encoders.text.layers=1", "encoders.text.heads=2",
    "encoders.text.intermediate=32", "encoders.text.vocabulary=300", "dim=16", "training.epochs=2",
]  # fmt: skip

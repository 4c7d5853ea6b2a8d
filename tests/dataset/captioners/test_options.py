"""What the command line says of captioners before anything is written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import SPECIES, Ran, bird_folder

Cli = Callable[..., Ran]


def test_a_dry_run_says_how_many_captions_and_by_which_models(birds: Path, tmp_path: Path, cli: Cli) -> None:
    for path in (birds / "audio" / SPECIES[0]).iterdir():
        path.unlink()
    ran = cli("build", "--source", "folder", "--from", birds, "--captioner", "HF", "--caption-batch", 5, "--dry-run")
    assert ran.code == 0
    assert "captions: hf, for up to 10 photos that come without one" in ran.out
    assert "Salesforce/blip-image-captioning-base" in ran.out
    assert "google/gemma-2-2b-it; 5 at once" in ran.out


def test_options_of_another_captioner_and_odd_values_are_refused(birds: Path, cli: Cli) -> None:
    base = ("build", "--source", "folder", "--from", birds, "--dry-run")
    ran = cli(*base, "--caption-batch", 4)
    assert (ran.code, "--caption-batch is not an option of the template captioner" in ran.err) == (2, True)
    assert cli(*base, "--captioner", "hf", "--caption-batch", 0).code == 2
    assert cli(*base, "--captioner", "hff").code == 2
    ran = cli(*base, "--captioner", "hf", "--caption-license", "mine")
    assert (ran.code, "--caption-license 'mine'" in ran.err) == (2, True)


def test_torch_is_not_imported_for_the_template(tmp_path: Path) -> None:
    birds = bird_folder(tmp_path / "birds", 2, 2)
    code = (
        "import sys\nfrom pathlib import Path\nfrom birdmml.core import discover\nfrom birdmml.dataset.build import *\n"
        "from birdmml.dataset.recipe import Limits\n"
        f"own = discover.load('source', 'folder').Settings({str(birds)!r}, clip_seconds=1.0)\n"
        f"build(BuildSettings('folder', own, limits=Limits(clip_s=1.0)), Path({str(tmp_path / 'out')!r}))\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(("option", "name"), [("--caption-image-model", "a/b"), ("--caption-text-model", "c/d")])
def test_a_model_out_of_reach_stops_the_build_before_it_begins(
    birds: Path, tmp_path: Path, models: dict[str, str], cli: Cli, option: str, name: str
) -> None:
    told = {"--caption-image-model": models["image_model"], "--caption-text-model": models["text_model"], option: name}
    words = [w for pair in told.items() for w in pair]
    ran = cli("build", "--source", "folder", "--from", birds, "--out", tmp_path / "out", "--captioner", "hf", *words)
    assert ran.code == 2
    assert f"{option} {name} cannot be loaded" in ran.err
    assert "config.json, model.safetensors" in ran.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()

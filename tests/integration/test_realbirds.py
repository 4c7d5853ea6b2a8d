"""Real photos and recordings, where they lie beside the checkout: built, validated, loaded, benchmarked."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import Ran

from birdmml import load

REAL = Path(__file__).parents[3] / "shared" / "realbirds"
PART = ("Zonotrichia leucophrys", "Sayornis nigricans", "Setophaga coronata", "Corvus corax", "Aix sponsa")

pytestmark = pytest.mark.skipif(not (REAL / "manifest.csv").is_file(), reason="the real recordings are not here")


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of five species of the real folder, with its manifest."""
    root = tmp_path_factory.mktemp("real")
    with (REAL / "manifest.csv").open(encoding="utf-8", newline="") as f:
        reader = csv.DictReader(f)
        rows = [r for r in reader if r["species"] in PART]
        with (root / "manifest.csv").open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, reader.fieldnames or [])
            writer.writeheader()
            writer.writerows(rows)
    for row in rows:
        (root / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REAL / row["path"], root / row["path"])
    return root


def test_real_birds_from_folder_to_figures(part: Path, tmp_path: Path, cli: Callable[..., Ran]) -> None:
    out = tmp_path / "data"
    ran = cli("build", "--source", "folder", "--from", part, "--out", out, "--split", "60/0/40")
    assert ran.code == 0, ran.err
    assert "0 rejected" in ran.out
    assert cli("validate", out).code == 0

    with (part / "manifest.csv").open(encoding="utf-8", newline="") as f:
        listed = list(csv.DictReader(f))
    built = load.Built.open(out)
    species = {s for name in built.manifest["splits"] for s in built.split(name).column("species")}
    assert species == set(PART) - {"Aix sponsa"}  # No photo of a Wood Duck is there, and the report says so.
    told = json.loads((out / "report/validation.json").read_bytes())
    assert [(u["species"], u["photos"]) for u in told["unpaired"]] == [("Aix sponsa", 0)]
    photos = [r for r in listed if r["path"].startswith("images") and r["species"] in species]
    recordings = {r["recording"] for r in listed if r["path"].startswith("audio") and r["species"] in species}
    assert built.manifest["counts"]["photos"] == len(photos)
    assert built.manifest["counts"]["recordings"] == len(recordings)
    rows = built.split("train")
    for row in rows.media(range(len(rows))):
        assert row["image"].ndim == 3
        assert row["audio"].shape == (220_500,)
        assert np.abs(row["audio"]).max() > 0.001

    scored = cli("bench", "--method", "confu", "--data", out, "--epochs", "2", "--out", tmp_path / "results", "--json")
    assert scored.code == 0, scored.err
    result = json.loads(scored.out)
    assert result["demo"] is False
    for figure in result["figures"]:
        assert figure["n"] == len(built.split("test"))
        assert figure["low"] <= figure["value"] <= figure["high"] or figure["metric"] == "median rank"
        assert figure["chance"] > 0

"""`birdmml push` of a dataset that was built for a list: its table goes along, and nothing else does by its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ran, bird_folder, tree
from helpers.licensed import change_manifest

from birdmml.dataset.validate import validate

Cli = Callable[..., Ran]
REPO = ("--repo", "someone/birds")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two species outside the 150; the recordings of one may not be changed."""
    from birdmml.core import discover, species_list
    from birdmml.dataset.build import build
    from birdmml.dataset.recipe import BuildSettings, Limits

    home = tmp_path_factory.mktemp("listed")
    birds = bird_folder(home / "birds", 4, 4, ("Turdus merula", "Parus major"))
    lines = ["species,path,license,author,url"]
    for path in sorted([*birds.glob("images/*/*"), *birds.glob("audio/*/*")]):
        kept = "CC-BY-ND-4.0" if path.suffix == ".wav" and path.parent.name == "Parus major" else "CC-BY-4.0"
        where = path.relative_to(birds).as_posix()
        lines.append(f"{path.parent.name},{where},{kept},Someone,https://example.org/{where.replace(' ', '_')}")
    (birds / "manifest.csv").write_text("\n".join(lines) + "\n")
    (home / "mine.txt").write_text("Parus major\nTurdus merula\n")
    own = discover.load("source", "folder").Settings(
        str(birds), clip_seconds=1.0, species_list=species_list.read_list(home / "mine.txt")
    )
    build(BuildSettings("folder", own, limits=Limits(clip_s=1.0)), home / "data")
    return home / "data"


def test_the_table_of_a_list_is_published_with_its_dataset(listed: Path, cli: Cli) -> None:
    ran = cli("push", listed, *REPO, "--licenses", "CC-BY-4.0,CC-BY-ND-4.0,CC0-1.0")
    assert ran.code == 0, ran.out + ran.err
    shown = {line.split()[0] for line in ran.out.splitlines() if line.startswith("  ")}
    assert shown == set(tree(listed))
    assert "species.csv" in shown


def test_a_copy_without_some_rows_keeps_the_table_and_is_sound(listed: Path, tmp_path: Path, cli: Cli) -> None:
    ran = cli("push", listed, *REPO, "--filter-licenses", "--out", tmp_path / "free")
    assert ran.code == 0, ran.out + ran.err
    free = tmp_path / "free"
    assert (free / "species.csv").read_bytes() == (listed / "species.csv").read_bytes()
    assert validate(free).problems == ()
    assert json.loads((free / "manifest.json").read_text())["counts"]["species"] == 1


def test_a_file_that_only_borrows_the_tables_name_does_not_leave(free: Path, tmp_path: Path, cli: Cli) -> None:
    data = Path(shutil.copytree(free, tmp_path / "data"))
    (data / "species.csv").write_text("a secret\n")
    sha = tree(data)["species.csv"]
    change_manifest(data, lambda told: told["files"].update({"species.csv": sha}))
    ran = cli("push", data, *REPO)
    assert ran.code == 1
    assert "species.csv: 1 files that no row's licence covers" in ran.out + ran.err
    table = {"file": "species.csv", "digest": sha, "species": 1, "list_sha256": sha, "completed": 0}
    table |= {"completed_from": sha, "notes": []}
    change_manifest(data, lambda told: told["taxonomy"].update(table))
    ran = cli("push", data, *REPO)
    assert ran.code == 1
    assert "table of species" in ran.out + ran.err
    assert "Traceback" not in ran.err

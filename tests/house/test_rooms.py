"""A room imports only rooms before it, files form no circle, names mean one thing, and help comes at once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import birdmml

sys.path.insert(0, str(Path(__file__).parent))
import rooms

PACKAGE = Path(birdmml.__file__).parent
FILES = rooms.sources(PACKAGE)


def test_there_are_twelve_rooms_and_six_loose_modules() -> None:
    names = {room.name for room in rooms.ROOMS}
    assert len(names) == 12
    assert {source.room for source in FILES} == names | rooms.LOOSE.keys()


def test_a_room_imports_only_rooms_before_it() -> None:
    assert rooms.upward(FILES) == []


def test_files_form_no_circle() -> None:
    assert rooms.circles(FILES) == []


def test_a_room_imports_the_heavy_packages_that_it_says() -> None:
    allowed = {room.name: set(room.heavy) for room in rooms.ROOMS} | {"load": set(rooms.ARRAYS)}
    # Imported by the one captioner that runs models, and only then.
    models = "birdmml.dataset.captioners._models"
    wrong = [
        f"{source.name} imports {name}"
        for source in FILES
        for name, top in source.imports
        if top and (package := name.split(".")[0]) in rooms.HEAVY - allowed.get(source.room, set())
        if package and source.name != models
    ]
    assert wrong == []


def test_torch_is_imported_in_models_and_bench_alone_and_not_in_suites() -> None:
    # Even inside functions; core/device asks torch for a device, captioners run transformers.
    allowed = ("birdmml.models", "birdmml.bench", "birdmml.core.device", "birdmml.dataset.captioners")
    wrong = [
        f"{source.name} imports {name}"
        for source in FILES
        for name, _ in source.imports
        if name.split(".")[0] in rooms.TORCH
        and (not source.name.startswith(allowed) or source.name.startswith("birdmml.bench.suites"))
    ]
    assert wrong == []


def test_class_names_mean_one_thing() -> None:
    assert {name: n for name, n in rooms.classes(FILES).items() if n > 1} == {}


def test_variables_are_named_after_what_they_hold() -> None:
    assert rooms.verbs(FILES) == []


def test_files_are_one_subject() -> None:
    lengths = {source.name: len(source.text.splitlines()) for source in FILES}
    assert {name: n for name, n in lengths.items() if n > rooms.LONGEST} == {}
    short = {
        source.name: lengths[source.name]
        for source in FILES
        if lengths[source.name] < rooms.SHORTEST and source.path.name != "__init__.py" and not rooms.is_plugin(source)
    }
    short.pop("birdmml.__main__")
    assert short == {}


def test_functions_take_at_most_eight_parameters() -> None:
    wide = [
        f"{source.name}.{node.name}: {rooms.parameters(node)}"
        for source, node in rooms.functions(FILES)
        if source.room != "cli" and rooms.parameters(node) > rooms.PARAMETERS
    ]
    assert wide == []


def test_every_module_says_what_is_in_it() -> None:
    import ast

    assert [source.name for source in FILES if not ast.get_docstring(source.tree)] == []


def test_no_folder_has_a_name_that_tools_take_for_generated_output() -> None:
    generated = {"build", "dist", "out", "target", "site-packages", "node_modules"}
    assert not {p.name for p in PACKAGE.rglob("*") if p.is_dir()} & generated


def test_contributing_shows_the_rooms() -> None:
    assert rooms.main("--check") == 0, "run python tests/house/rooms.py"


def test_circles_are_seen(tmp_path: Path) -> None:
    # The measure itself, on a house with one circle over three files, one of its imports inside a function.
    package = tmp_path / "birdmml"
    (package / "core").mkdir(parents=True)
    (package / "core/a.py").write_text("from birdmml.core import b\n")
    (package / "core/b.py").write_text("from birdmml.core.c import x\n")
    (package / "core/c.py").write_text("def f():\n    import birdmml.core.a\n")
    (package / "core/d.py").write_text("from birdmml.core import a\nfrom birdmml.cli import data\n")
    (package / "cli").mkdir()
    (package / "cli/data.py").write_text("")
    files = rooms.sources(package)
    assert rooms.circles(files) == [["birdmml.core.a", "birdmml.core.b", "birdmml.core.c"]]
    assert rooms.upward(files) == ["birdmml.core.d imports birdmml.cli.data"]


def cpu_seconds(*command: str) -> float:
    code = (
        "import resource, subprocess, sys\n"
        f"subprocess.run({list(command)!r}, check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime + used.ru_stime)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_help_takes_at_most_three_tenths_of_a_second_of_cpu() -> None:
    # What else runs here only ever adds: the least of up to ten counts.
    assert any(cpu_seconds(sys.executable, "-m", "birdmml", "--help") <= 0.3 for _ in range(10))


@pytest.mark.parametrize("name", ["numpy", "torch", "datasets", "pyarrow"])
def test_importing_birdmml_imports_nothing_heavy(name: str) -> None:
    code = f"import sys, birdmml\nassert {name!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tests_stand_in_the_rooms_of_what_they_test() -> None:
    folders = Counter(
        p.relative_to(PACKAGE.parent / "tests").parts[0] for p in (PACKAGE.parent / "tests").rglob("test_*.py")
    )
    allowed = {room.name for room in rooms.ROOMS} | {"house", "drills", "integration"}
    assert set(folders) <= allowed

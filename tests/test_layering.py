"""Imports point down, torch lives on the second floor only, and help comes at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import birdmml

PACKAGE = Path(birdmml.__file__).parent

# The floors of the house, lowest first; a module may import its own floor and those below.
GROUND = (
    "__init__ _hook errors schema columns taxonomy species_list species_rows licenses discover files manifest state"
    " settings provenance shipped"
)
FIRST = """
    media demo fetch sources build audit load evalsets metrics suites results outcomes salvage paper reported protocols
    prepare prepared arrays arrayset unpickle corrupt gallery compare pairing passes figures picture pictures record
    curves scoring standings vectors item_ids
"""
SECOND = """
    nn methods checkpoint train training embed embedded materials models swapped prepared_set wanted plans by_protocol
    evaluate series own_model xor array_data array_subject interop captioners
"""
FLOORS = {
    **dict.fromkeys(GROUND.split(), 0),
    **dict.fromkeys(FIRST.split(), 1),
    **dict.fromkeys(SECOND.split(), 2),
    **dict.fromkeys(("leaderboard", "hub", "site"), 3),
    **dict.fromkeys(("cli", "__main__"), 4),
}
# Stages keep to themselves; `cli`, `evaluate` and `materials` join them.
STAGES = {
    "sources", "build", "captioners", "load", "evalsets", "suites", "methods", "train", "embed", "leaderboard",
}  # fmt: skip
HEAVY = set(
    "numpy pyarrow PIL soundfile soxr av torch transformers datasets sklearn accelerate matplotlib".split()
)
HEAVY |= set("jinja2 safetensors tokenizers pandas scipy filelock httpx".split())


TORCH = {"torch", "transformers", "accelerate", "safetensors", "tokenizers"}


def modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, top_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; those for the type checker do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in tree.body if top_only else ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{a.name}" for a in node.names)


def test_every_module_stands_on_a_floor() -> None:
    assert {top for _, top in modules()} <= set(FLOORS)


def test_imports_point_down() -> None:
    for path, top in modules():
        for name in imports(path, top_only=True):
            if name.split(".")[0] == "birdmml":
                target = name.split(".")[1]
                assert FLOORS.get(target, 0) <= FLOORS[top], f"{path.name} imports {name}"


def test_the_ground_floor_and_the_roof_import_nothing_heavy() -> None:
    for path, top in modules():
        if FLOORS[top] in (0, 4):
            used = {n.split(".")[0] for n in imports(path, top_only=True)}
            assert not used & HEAVY, f"{path.name} imports {used & HEAVY} before it is needed"


def test_torch_lives_on_the_second_floor_only() -> None:
    for path, top in modules():
        used = {n.split(".")[0] for n in imports(path)} & TORCH
        assert FLOORS[top] == 2 or not used, f"{path.name} imports {used}"


def test_stages_do_not_import_each_other() -> None:
    for path, top in modules():
        if top in STAGES:
            names = {n.split(".")[1] for n in imports(path) if n.startswith("birdmml.")}
            others = (names & STAGES) - {top}
            assert not others, f"{path.name} imports {others}"


def cpu_seconds(*command: str) -> float:
    code = (
        "import resource, subprocess, sys\n"
        f"subprocess.run({list(command)!r}, check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime + used.ru_stime)"
    )
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def test_help_takes_at_most_three_tenths_of_a_second_of_cpu() -> None:
    # What else runs here only ever adds: the least of up to ten counts.
    assert any(cpu_seconds(sys.executable, "-m", "birdmml", "--help") <= 0.3 for _ in range(10))

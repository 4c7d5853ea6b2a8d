"""The rooms of birdmml in their order, and what the code of a checkout measures against it.

python tests/house/rooms.py                 # writes CONTRIBUTING.md's table
python tests/house/rooms.py --check         # exit 1 if it would change
python tests/house/rooms.py --measure [DIR] # the numbers of a checkout, this one unless another is named
"""

from __future__ import annotations

import ast
import io
import json
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
MARKS = ("<!-- rooms: made by tests/house/rooms.py -->", "<!-- /rooms -->")


@dataclass(frozen=True)
class Room:
    """One folder below birdmml/: what may be in it, and the heavy packages that it may import."""

    name: str
    holds: str
    heavy: tuple[str, ...] = ()
    # What the table says in their stead.
    says: str = ""


ARRAYS = ("numpy", "pyarrow")
MEDIA = ("numpy", "PIL", "soundfile", "soxr", "av", "scipy")
TORCH = ("torch", "transformers", "accelerate", "safetensors", "tokenizers")
# A room imports only rooms before it; ERRORS and SCHEMA are open to all.
ROOMS = (
    Room(
        "core",
        "What every room needs and what knows nothing of datasets: files, settings, plug-ins, pool, SQLite, texts",
        ("jinja2",),
    ),
    Room("media", "One picture, one sound, one video: decoded, encoded, hashed, compared, made worse", MEDIA),
    Room("fetch", "Bytes from elsewhere: HTTP with patience, archives with holes (`salvage/`)", ("httpx", "numpy")),
    Room("sources", "A file or folder a source: records and their bytes", (*MEDIA, *ARRAYS)),
    Room(
        "dataset",
        "A dataset from its records to its report; `audit/`, `captioners/`",
        (*MEDIA, *ARRAYS, "sklearn", "jinja2"),
    ),
    Room("evalsets", "A file an evaluation set; how a user's copy is prepared and read", (*MEDIA, *ARRAYS, "jinja2")),
    Room(
        "results",
        "Outcomes item by item, the figures made of them, comparison, tables, pictures",
        (*ARRAYS, "scipy", "matplotlib"),
    ),
    Room(
        "models", "Networks, `methods/`, training, checkpoints", (*ARRAYS, *TORCH, "matplotlib"), "torch, transformers"
    ),
    Room(
        "bench",
        "A model meets data: embedding, `suites/` (numpy alone), plans, runs; `xor/`, `mteb/`",
        (*ARRAYS, *TORCH, "PIL", "sklearn", "scipy", "datasets"),
        "torch, but not in `suites/`",
    ),
    Room("leaderboard", "Results of others: `submission/`, checks, review, `site/`", (*ARRAYS, "jinja2")),
    Room("hub", "What leaves for the Hub: cards, staging, upload", (*ARRAYS, "jinja2")),
    Room("cli", "A file a command: read the options, call one function, print"),
)
# Beside the rooms. `load` is the public face of reading a dataset, and stands where `dataset` does.
# `__init__` and `_hook` import lazily, whoever asks; `schema` knows species and licences, which core has.
LOOSE: dict[str, float] = {"__init__": 99, "__main__": 99, "_hook": 99, "errors": -1, "schema": 0.5, "load": 4}
HEAVY = {*MEDIA, *ARRAYS, *TORCH, "datasets", "sklearn", "matplotlib", "jinja2", "pandas", "httpx", "duckdb"}
SHORTEST, LONGEST, PARAMETERS = 40, 600, 8
VERBS = ("told", "tell", "found", "made", "known", "said", "whole", "asked", "given")


@dataclass
class Source:
    """One Python file of the package."""

    path: Path
    name: str
    text: str
    tree: ast.Module
    room: str
    imports: list[tuple[str, bool]] = field(default_factory=list)


def sources(package: Path) -> list[Source]:
    """Every file below `package`, with the dotted names of all that it imports (and whether at its top).

    Imports inside functions and for the type checker count.
    """
    out = []
    for path in sorted(package.rglob("*.py")):
        rel = path.relative_to(package)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        name = ".".join(("birdmml", *rel.with_suffix("").parts)).removesuffix(".__init__")
        room = rel.parts[0] if len(rel.parts) > 1 else rel.stem
        out.append(Source(path, name, text, tree, room, list(imported(tree))))
    return out


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether it is imported at the file's top) of each import in a file."""
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", top) for alias in node.names)


def floor(room: str) -> float:
    """Where a room stands: it may import what stands lower, and itself."""
    if room in LOOSE:
        return LOOSE[room]
    return [r.name for r in ROOMS].index(room)


def arrows(files: list[Source]) -> dict[str, set[str]]:
    """Which file imports which, by dotted names."""
    names = {source.name for source in files}
    out: dict[str, set[str]] = {source.name: set() for source in files}
    for source in files:
        for name, _ in source.imports:
            target = name
            while target and target not in names:
                target = target.rpartition(".")[0]
            if target and target not in ("birdmml", source.name):
                out[source.name].add(target)
    return out


def upward(files: list[Source]) -> list[str]:
    """Imports of a room that stands higher."""
    rooms = {source.name: source.room for source in files}
    return sorted(
        f"{name} imports {target}"
        for name, targets in arrows(files).items()
        for target in targets
        if floor(rooms[target]) > floor(rooms[name])
    )


def circles(files: list[Source]) -> list[list[str]]:
    """Files that import each other, directly or through others: Tarjan's strongly connected components."""
    graph = arrows(files)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                out.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return out


def classes(files: list[Source]) -> Counter[str]:
    """How often each class name stands in the package, but for the names that the plug-ins' contracts set."""
    return Counter(
        node.name
        for source in files
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and not (node.name in CONTRACT and is_plugin(source))
    )


# Looked up by these names in every plug-in of a kind.
CONTRACT = ("Config", "Model", "Options", "Settings")


def is_plugin(source: Source) -> bool:
    """A file with a CARD at its top is a plug-in (core/discover.py)."""
    return any(
        isinstance(node, ast.Assign | ast.AnnAssign) and "CARD" in ast.unparse(node).split("=")[0]
        for node in source.tree.body
    )


def functions(files: list[Source]) -> Iterator[tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the package."""
    for source in files:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield source, node


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a function has, without self."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([n for i, n in enumerate(names) if not (i == 0 and n in ("self", "cls"))])


def verbs(files: list[Source]) -> list[str]:
    """Variables, parameters and fields that are named after a verb and not after what they hold."""
    out = []
    for source in files:
        for node in ast.walk(source.tree):
            name = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None
            name = node.arg if isinstance(node, ast.arg) else name
            if name in VERBS:
                out.append(f"{source.name}:{node.lineno} {name}")
    return out


def comments(files: list[Source]) -> int:
    """Comments that say something, so without those that only steer a tool."""
    return sum(
        1
        for source in files
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
        if token.type == tokenize.COMMENT and not re.match(r"#\s*(noqa|type:|fmt:|ruff:|pragma)[^#]*$", token.string)
    )


def measure(root: Path) -> Mapping[str, object]:
    """The numbers of a checkout's package and tests."""
    package = root / "birdmml"
    files = sources(package)
    lengths = [len(source.text.splitlines()) for source in files]
    tests = sorted((root / "tests").rglob("test_*.py"))
    folders = [p.name for p in package.iterdir() if p.is_dir() and any(p.rglob("*.py"))]
    known_rooms = {source.room for source in files} <= {*LOOSE, *(room.name for room in ROOMS)}
    return {
        "folders": len(folders),
        "loose modules": len(list(package.glob("*.py"))),
        "files": len(files),
        "lines": sum(lengths),
        "median lines": statistics.median(lengths),
        "longest file": max(lengths),
        "files over 600 lines": sum(n > LONGEST for n in lengths),
        "files under 40 lines, but __init__": sum(
            n < SHORTEST for n, source in zip(lengths, files, strict=True) if source.path.name != "__init__.py"
        ),
        "imports of a higher room": len(upward(files)) if known_rooms else None,
        "circles of files": len(circles(files)),
        "class names with several meanings": sum(n > 1 for n in classes(files).values()),
        "variables named after a verb": len(verbs(files)),
        "functions of more than 8 parameters outside cli": sum(
            parameters(node) > PARAMETERS for source, node in functions(files) if source.room != "cli"
        ),
        "comments in 100 lines": round(100 * comments(files) / sum(lengths), 2),
        "test files": len(tests),
        "test files that import nothing of the package but birdmml.errors": sum(public(path) for path in tests),
        "private names that tests import": sum(private(path) for path in tests),
        "repository MB": round(sum(p.stat().st_size for p in tracked(root)) / 1e6, 1),
    }


def public(path: Path) -> bool:
    """Whether a test uses the command line and the public face alone."""
    names = [name for name, _ in imported(ast.parse(path.read_text(encoding="utf-8")))]
    open_to_all = ("birdmml.errors", "birdmml.schema", "birdmml.load", "birdmml.decode", "birdmml.cli")
    return not any(name.startswith("birdmml.") and not name.startswith(open_to_all) for name in names)


def private(path: Path) -> int:
    """How many names with an underscore a test takes from the package."""
    names = [name for name, _ in imported(ast.parse(path.read_text(encoding="utf-8")))]
    return sum(name.startswith("birdmml.") and any(p.startswith("_") for p in name.split(".")) for name in names)


def tracked(root: Path) -> list[Path]:
    """The files of a checkout that git keeps."""
    import subprocess

    words = ["git", "-C", str(root), "ls-files", "-z"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


def table() -> str:
    """The rooms as CONTRIBUTING.md shows them."""
    lines = ["| # | room | what is in it | heavy packages it may import |", "|---|---|---|---|"]
    for i, room in enumerate(ROOMS, 1):
        lines.append(f"| {i} | `{room.name}/` | {room.holds} | {room.says or ', '.join(room.heavy) or '-'} |")
    return "\n".join(lines)


def main(*words: str) -> int:
    """Write or check the table, or print the measurements."""
    if words[:1] == ("--measure",):
        print(json.dumps(measure(Path(*words[1:2]).resolve() if words[1:] else ROOT), indent=2))
        return 0
    text = CONTRIBUTING.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    new = f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{after}"
    if words == ("--check",):
        return int(new != text)
    CONTRIBUTING.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

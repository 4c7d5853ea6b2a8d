"""What a result was made with: versions, commit, hardware, time. Nothing personal: no host, user or path."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from birdmml.core.files import PACKAGE

# Files and folders of the package: how pictures, sounds and rows are read, networks, training and embedding.
VECTORS = (
    *("media", "models", "bench/embed.py", "core/settings.py", "load.py", "dataset/shards.py", "dataset/format.py"),
    *("evalsets/read.py", "evalsets/arrays.py"),
)
# What makes figures of vectors.
FIGURES = (
    *("bench/suites", "bench/xor", "bench/score.py", "bench/subjects.py", "results/outcomes.py", "results/tasks.py"),
    *("results/metrics.py", "results/gallery.py", "results/compare.py", "results/result.py"),
)
PACKAGES = ("accelerate", "av", "numpy", "pyarrow", "safetensors", "tokenizers", "torch", "transformers")


def collect(device: str = "cpu", accelerator: str | None = None) -> dict[str, Any]:
    """Everything about the machine and the code, as JSON values. `accelerator` is the GPU's name, if any."""
    return {
        "birdmml": version("birdmml"),
        "python": platform.python_version(),
        "packages": packages(),
        "code": commit(),
        "code_digest": figures_digest(),
        "hardware": hardware() | {"device": device, "accelerator": accelerator},
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def packages() -> dict[str, str | None]:
    """The versions that figures may depend on."""
    return {name: version(name) for name in PACKAGES}


def version(package: str) -> str | None:
    """The installed version of a package, None if it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_digest() -> str:
    """Hex SHA-256 of the code that decides a model's weights and vectors (VECTORS): what caches are kept by.

    A word in a template, a page or a command changes nothing here: nobody's trained models are thrown away for it.
    """
    return _digest(VECTORS, PACKAGE)


def figures_digest() -> str:
    """Hex SHA-256 of the code that decides figures (VECTORS and FIGURES): what a finished result is known by."""
    return _digest(VECTORS + FIGURES, PACKAGE)


@functools.cache
def _digest(places: tuple[str, ...], package: Path) -> str:
    total = hashlib.sha256()
    for place in places:
        top = package / place
        # A name that is gone must not turn into "nothing changed": is_file and rglob would both be silent.
        if not top.exists():
            raise FileNotFoundError(f"{top}: provenance names code that is not there")
        for path in [top] if top.is_file() else sorted(top.rglob("*.py")):
            total.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def commit(folder: Path | None = None) -> dict[str, Any]:
    """{"commit": hash or None, "dirty": whether tracked files differ from it, or None}.

    None when the code runs from an installed package: then the version is all there is to know.
    """
    folder = folder or PACKAGE
    # A package installed inside somebody's repository must not report that repository's commit.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {"commit": None, "dirty": None}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": _git(folder, "rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def hardware() -> dict[str, Any]:
    """CPU name, logical cores this process may use, memory in GiB, operating system."""
    try:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf.
        memory = None
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
    }


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    """The packages whose versions differ between two provenances."""
    mine, other = a.get("packages", {}), b.get("packages", {})
    return tuple(sorted(k for k in mine | other if mine.get(k) != other.get(k)))


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  # fixed words, no shell
            ["git", "-C", str(folder), *words],  # noqa: S607  # the user's own git, found as they find it
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

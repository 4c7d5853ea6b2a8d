"""How equal training is that must be equal: two gloo processes and one; chunks and the whole batch. Prints Markdown.

    python benchmarks/equalities.py

Runs what the tests run (tests/models), and shows the largest differences instead of only bounding them. A
difference is relative to the largest value of its tensor, or absolute where that is below 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "models")]


def apart(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], kind: str = "") -> float:
    """The largest difference among the tensors whose names begin with `kind`."""
    return max(
        float((found[name] - value).abs().max()) / max(1.0, float(value.abs().max()))
        for name, value in wanted.items()
        if name.startswith(kind)
    )


def ranks(methods: tuple[str, ...]) -> list[str]:
    """Loss and gradients of the first step, and the weights after ten, on two processes beside one."""
    lines = [
        "| method | loss | gradients | weights after ten steps | the same in float64 | | |",
        "| --- " * 7 + "|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(TESTS / "helpers" / "rank_driver.py"), folder]
        environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own driver
        for method in methods:
            found = []
            for kind in ("", "double."):
                one, two = (load_file(Path(folder) / f"{method}.{kind}{n}.0.0.safetensors") for n in (1, 2))
                found += [apart(two, one, part) for part in ("term.", "gradient.", "weight.")]
            lines.append(f"| {method} | " + " | ".join(f"{value:.1e}" for value in found) + " |")
    return lines


def chunks(methods: tuple[str, ...]) -> list[str]:
    """Loss and gradients of one step in chunks of 4, 4 and 3 and one by one, beside the whole batch."""
    import test_step

    lines = ["| method | loss, 4 + 4 + 3 | gradients | loss, 11 x 1 | gradients |", "| --- " * 5 + "|"]
    for method in methods:
        network, inputs = test_step.network_of(method), test_step.batch()
        terms, gradients = test_step.learned(network, inputs, [])
        found = []
        for parts in ([4, 4, 3], [1] * 11):
            other, changed = test_step.learned(network, inputs, parts)
            found += [apart(other, terms), apart(changed, gradients)]
        lines.append(f"| {method} | " + " | ".join(f"{value:.1e}" for value in found) + " |")
    return lines


def main() -> None:
    """Measure and print."""
    from birdmml.core import discover

    torch.set_num_threads(1)
    methods = discover.names("method")
    print("## Two processes (gloo) beside one, nine rows, batch norm over both\n")
    print("\n".join(ranks(methods)))
    print("\n## Chunks (GradCache) beside the whole batch, eleven rows, group norm\n")
    print("\n".join(chunks(methods)))


if __name__ == "__main__":
    main()

"""How far every method's loss and scores are from naive float64 loops and from the published test vectors.

    python benchmarks/parity.py            # writes benchmarks/PARITY.md, under a minute on one core

Test vectors: four rows of eight values from `torch.manual_seed(0)`, losses as the authors' own code gives them.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from helpers import naive  # noqa: E402  # the loops that the tests use

from birdmml.models.losses import info_nce
from birdmml.models.methods import confu, gram, symile, tri_clip, triangle

SINGLES = ("image", "audio", "text")
FUSED = ("image+audio", "image+text", "audio+text")
BATCHES, DIMS, DRAWS = (1, 2, 3, 5, 8, 13), (1, 2, 8, 64), 4
CASES = {
    "clip": [{}], "tri_clip": [{}, {"learned_temperature": True}], "symile": [{}, {"negatives": "n_squared"}],
    "gram": [{}, {"variant": "reference"}], "triangle": [{}, {"variant": "reference"}],
    "confu": [{}, {"variant": "reference"}], "hub": [{}], "siglip": [{}],
}  # fmt: skip


def vectors() -> Iterator[tuple[str, float, float]]:
    """(what, published, ours)."""
    torch.manual_seed(0)
    z = {name: F.normalize(torch.randn(4, 8), dim=-1) for name in (*SINGLES, *FUSED)}
    singles, scale = {m: z[m] for m in SINGLES}, torch.tensor(2.5).exp()
    published = {
        ("image+audio", "text"): 9.7693682, ("image+text", "audio"): 4.7527485,
        ("audio+text", "image"): 7.7908249, ("image", "audio"): 5.1350164,
        ("audio", "text"): 5.9051042, ("text", "image"): 4.0659204,
    }  # fmt: skip
    for (a, b), value in published.items():
        yield f"InfoNCE({a}, {b})", value, info_nce(z[a], z[b], 0.07).item()
    yield "ConFu, reference scale", 3.1182487, confu.loss(z, 0.5, 0.07, variant="reference")["loss"].item()
    yield "Tri-CLIP", 5.0353470, tri_clip.loss(singles, 0.07)["loss"].item()
    for name, module, value, sizes in (
        ("GRAM, anchor image", gram, 2.5784938, (0.9891204, 0.8428216)),
        ("TRIANGLE, anchor image", triangle, 7.0505490, (1.7079468, 0.7276913)),
    ):
        model = module.Model(module.Config(dim=8, variant="reference"), dict.fromkeys(SINGLES, 8))
        yield name, value, model.terms(singles, 0.07)["loss"].item()
        found = model.size([z["image"]], [z["audio"], z["text"]])
        for at, size in enumerate(sizes):
            yield f"{name}, size [0, {at}]", size, found[0, at].item()
    yield "Symile, n_squared", 3.4193103, symile.loss(singles, scale, "n_squared")["loss"].item()
    torch.manual_seed(0)
    yield "Symile, n", 1.9470235, symile.loss(singles, scale, "n")["loss"].item()


def distances(name: str, options: dict[str, object], masked: bool) -> tuple[float, float, int]:
    """Largest |float32 - naive float64| of the loss, absolute and relative to 1 + |loss|, over random cases."""
    worst, relative, cases = 0.0, 0.0, 0
    for batch in BATCHES:
        for dim in DIMS:
            for draw in range(DRAWS):
                seed = 10_000 * batch + 100 * dim + draw
                model, h = naive.model_of(name, dim=dim, seed=seed, **options), naive.features(batch, seed)
                same = naive.species(batch, seed) if masked else None
                torch.manual_seed(seed)
                found = model.loss(h, None if same is None else torch.from_numpy(same))["loss"].item()
                z = naive.arrays(model.embed(h))
                more = {"n_squared": 1.0} if options.get("negatives") == "n_squared" else {}
                wanted = naive.loss(name, z, seed, same, str(options.get("variant", "paper")), **more)
                worst = max(worst, abs(found - wanted))
                relative = max(relative, abs(found - wanted) / (1 + abs(wanted)))
                cases += 1
    return worst, relative, cases


def score_distance(name: str) -> tuple[float, int]:
    """Largest |float32 - naive float64| over every defined pair of 12 queries and 15 candidates."""
    model = naive.model_of(name, dim=32)
    queries, candidates = model.embed(naive.features(12, 1)), model.embed(naive.features(15, 2))
    q, c = naive.arrays(queries), naive.arrays(candidates)
    worst = 0.0
    for query, target in model.pairs():
        found = model.score(query, target, queries, candidates).detach().numpy()
        wanted = [[naive.score(name, query, target, q, c, i, j) for j in range(15)] for i in range(12)]
        worst = max(worst, float(np.abs(found - wanted).max()))
    return worst, len(model.pairs())


def free_embeddings(anchor: str, rows: int = 64, dim: int = 32, steps: int = 1500) -> dict[str, float]:
    """Recall@10 of each 1->1 pair, and the loss, after GRAM has moved free vectors with Adam at 0.02."""
    model = naive.model_of("gram", dict.fromkeys(SINGLES, dim), dim=dim, variant="reference", anchor=anchor)
    with torch.no_grad():
        for projection in model.projections.values():
            projection.weight.copy_(torch.eye(dim))
            projection.bias.zero_()
    torch.manual_seed(0)
    h = {name: torch.randn(rows, dim).requires_grad_() for name in SINGLES}
    optimiser = torch.optim.Adam(h.values(), lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        terms = model.loss(h)
        terms["loss"].backward()
        optimiser.step()
    z = {name: value.detach() for name, value in model.embed(h).items()}
    found = {}
    for query, target in permutations(SINGLES, 2):
        scores = model.score(query, target, z, z)
        better = (scores > scores.diagonal()[:, None]).sum(dim=1)
        found[f"{query}->{target}"] = (better < 10).float().mean().item()
    return found | {"loss": terms["loss"].item()}


def block_seconds(name: str, rows: int = 1000, dim: int = 512) -> float:
    """Seconds for a block of scores, 2->1, one thread; the best of three."""
    model = naive.model_of(name, dim=dim)
    generator = torch.Generator().manual_seed(0)
    z = {m: F.normalize(torch.randn(rows, dim, generator=generator), dim=-1) for m in SINGLES}
    z["image+audio"], z["text@audio"] = z["image"], z["text"]
    spent = []
    for _ in range(3):
        started = time.perf_counter()
        with torch.inference_mode():
            model.score("image+audio", "text", z, z)
        spent.append(time.perf_counter() - started)
    return min(spent)


def markdown() -> str:
    """The whole report."""
    lines = [
        "# Parity",
        "",
        f"Written by `benchmarks/parity.py`; torch {torch.__version__.split('+')[0]}, {platform.machine()}, CPU,"
        " float32.",
        "",
        "## Losses against naive float64 loops",
        "",
        f"Random encoder outputs, batches of {', '.join(map(str, BATCHES))}, widths {', '.join(map(str, DIMS))},"
        f" {DRAWS} draws each; the naive loops read the same float32 embeddings.",
        "",
        "| method | options | species masked | cases | max abs difference | max difference / (1 + loss) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, cases in CASES.items():
        for options in cases:
            for masked in (False, True):
                worst, relative, count = distances(name, options, masked)
                shown = ", ".join(f"{k}={v}" for k, v in options.items()) or "defaults"
                lines.append(
                    f"| {name} | {shown} | {'yes' if masked else 'no'} | {count} | {worst:.1e} | {relative:.1e} |"
                )
    lines += [
        "",
        "## Scores against loops over items",
        "",
        "| method | pairs | max abs difference |",
        "| --- | --- | --- |",
    ]
    for name in CASES:
        worst, pairs = score_distance(name)
        lines.append(f"| {name} | {pairs} | {worst:.1e} |")
    lines += [
        "",
        "## Published test vectors",
        "",
        "| what | published | ours | difference |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {what} | {a:.7f} | {b:.7f} | {abs(a - b):.1e} |" for what, a, b in vectors()]
    lines += ["", "## One anchor is not enough", ""]
    lines += ["GRAM on free vectors (64 rows of 32 values, 1,500 Adam steps at 0.02); chance is 0.156.", ""]
    runs = {anchor: free_embeddings(anchor) for anchor in ("image", "all")}
    lines += ["| recall@10 | " + " | ".join(runs["all"]) + " |", "| --- " * (len(runs["all"]) + 1) + "|"]
    for anchor, found in runs.items():
        lines.append(f"| anchor {anchor} | " + " | ".join(f"{v:.3f}" for v in found.values()) + " |")
    lines += [
        "",
        "## Time of a block of scores",
        "",
        "1,000 x 1,000 scores of 512 values, two ask for the third, one thread.",
        "",
    ]
    lines += ["| method | seconds |", "| --- | --- |", *(f"| {m} | {block_seconds(m):.3f} |" for m in CASES)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "PARITY.md")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    text = markdown()
    out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""Many small models trained as one, every weight with a leading axis K over seeds and shares p; and their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from birdmml.bench.suites._contract import LEVEL
from birdmml.bench.xor.plan import XorNetwork, XorRun, XorSettings, network, signs
from birdmml.errors import TrainingError
from birdmml.evalsets import xor
from birdmml.results.metrics import Ints, Ranks, hit, rank
from birdmml.results.paper import reported

_BATCHES = 1  # Keeps the stream of batches apart from other uses of a seed.


@dataclass(frozen=True)
class Fitted:
    """K = seeds x p trained models: `weights` [K, ...] by name, the last losses [K]; seeds vary slowest."""

    template: XorNetwork
    weights: dict[str, Tensor]
    losses: Tensor
    seconds: float

    def models(self) -> Iterator[XorNetwork]:
        """One model after the other, ready to be scored: the template with its weights."""
        self.template.eval()
        for k in range(len(self.losses)):
            # One template for all: a module for each would cost more than its few weights.
            self.template.load_state_dict({name: w[k] for name, w in self.weights.items()})
            yield self.template


def fit(run: XorRun, chosen: XorSettings) -> Fitted:
    """Train one model a seed and p, all at once, with AdamW; deterministic.

    A seed fixes a model's initial weights and its samples. What a loss draws at random (Symile's shuffle, ConFu's
    dropout) is drawn once a step for all models: a model ends the same whatever others are trained beside it, up
    to rounding. Raises TrainingError with the step, p and seed where a loss is not finite.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # The caller's random numbers go on as if nothing had been drawn.
        models: list[nn.Module] = []
        for seed in chosen.seeds:
            torch.manual_seed(seed)
            models += [network(run, chosen)] * len(chosen.p)  # The same start for every p: only the data differ.
        stacked, _ = stack_module_state(models)
        template = network(run, chosen)
        weights = {name: w.detach().clone().requires_grad_() for name, w in stacked.items()}
        optimiser = torch.optim.AdamW(_groups(template, weights, chosen))
        rates = [group["lr"] for group in optimiser.param_groups]
        losses = vmap(lambda w, x: functional_call(template, w, (x,)), randomness="same")
        torch.manual_seed(0)
        for step, x in enumerate(batches(chosen)):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, (1 - step / chosen.steps) / chosen.decay)
            optimiser.zero_grad()
            values = losses(weights, x)
            if bad := torch.nonzero(~values.isfinite()).flatten().tolist():
                seed, p = divmod(bad[0], len(chosen.p))
                raise TrainingError(
                    f"{run.name}: the loss at step {step} is {values[bad[0]]:g} with p = {chosen.p[p]:g}, seed"
                    f" {chosen.seeds[seed]}: choose a smaller --learning-rate"
                )
            values.sum().backward()  # No weight is shared: each model gets its own gradient.
            optimiser.step()
    done = {name: w.detach() for name, w in weights.items()}
    return Fitted(template, done, values.detach(), time.perf_counter() - started)


def batches(chosen: XorSettings) -> Iterator[dict[str, Tensor]]:
    """`steps` batches: signs [K, batch, 5] a variable. A seed's samples depend on nothing but the seed."""
    p = np.asarray(chosen.p)
    rngs = [np.random.default_rng(np.random.SeedSequence([seed, _BATCHES])) for seed in chosen.seeds]
    for _ in range(chosen.steps):
        drawn = [xor.draw(p, chosen.batch_size, chosen.modalities, rng) for rng in rngs]
        yield {name: signs(np.concatenate([codes[name] for codes in drawn])) for name in chosen.names}


def _groups(template: XorNetwork, weights: dict[str, Tensor], chosen: XorSettings) -> list[dict[str, object]]:
    """The method's own groups (Symile's l has its own rate), and all other trainable weights."""
    names = {id(w): name for name, w in template.named_parameters() if w.requires_grad}
    groups: list[dict[str, object]] = []
    for group in getattr(template.head, "parameter_groups", list)():
        own = [names.pop(id(w)) for w in group["params"]]
        groups.append({**group, "params": [weights[name] for name in own]})
    groups.append({"params": [weights[name] for name in names.values()]})
    plain = {"lr": chosen.learning_rate, "weight_decay": chosen.weight_decay}
    return [plain | group for group in groups]


@dataclass(frozen=True)
class XorAnswers:
    """For K models and the C cells of `evalsets.xor.cells`: values above b, level with b, and the best [K, C]."""

    greater: Ints
    ties: Ints
    best: Ints


def answers(fitted: Fitted, chosen: XorSettings) -> XorAnswers:
    """Every model's answer to every cell. Raises ResultError where a score is not finite."""
    codes, _ = xor.cells(chosen.modalities)
    ranks = [place(model, codes, chosen.query) for model in fitted.models()]
    return XorAnswers(
        np.stack([r.greater for r in ranks]), np.stack([r.ties for r in ranks]), np.stack([r.best for r in ranks])
    )


@torch.no_grad()
def place(model: XorNetwork, codes: dict[str, xor.Codes], query: str) -> Ranks:
    """Where b [C] lands among the 32 values when the others ask; level scores count as ties."""
    candidates = model.embed({xor.TARGET: signs(np.arange(xor.CLASSES))})
    queries = model.embed({name: signs(of) for name, of in codes.items() if name != xor.TARGET})

    def block(part: slice) -> NDArray[np.floating]:
        part_queries = {name: z[part] for name, z in queries.items()}
        scores: NDArray[np.floating] = model.head.score(query, xor.TARGET, part_queries, candidates).numpy()
        return scores

    return rank(block, codes[xor.TARGET], xor.CLASSES, LEVEL)


def exact(ranks: XorAnswers, chosen: XorSettings) -> NDArray[np.float64]:
    """Accuracies [seeds, P] over all cells, each with its probability: no sampling is left in them."""
    _, switch = xor.cells(chosen.modalities)
    hits = hit(ranks.greater, ranks.ties, 1).reshape(len(chosen.seeds), len(chosen.p), -1)
    weights = np.stack([xor.weights(p, switch) for p in chosen.p])
    return np.asarray(np.einsum("spc,pc->sp", hits, weights))


def authors() -> dict[str, dict[float, float]]:
    """What the authors' figure shows: method -> p -> accuracy; benchmarks/paper/xor.csv says how it was read."""
    values: dict[str, dict[float, float]] = {}
    for row in reported(suite="xor"):
        values.setdefault(row.method, {})[float(row.conditions["p"])] = row.value
    return values

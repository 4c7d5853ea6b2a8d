"""Write the cards in this folder from the code: the demo dataset, the evaluation sets, an example of a model's.

python cards/make_cards.py            # writes them
python cards/make_cards.py --check    # exit 1 if one would change
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from birdmml.core import discover
from birdmml.core.text import markdown
from birdmml.dataset import card

HERE = Path(__file__).parent
# Small, so that a test can build it: --species 6 --per-species 10 --image-size 48 --clip-seconds 2
DEMO = {"species": 6, "per_species": 10, "image_size": 48, "clip_seconds": 2.0, "eval_videos": 1}
# What differs between machines in the last digit: the digest of encoded media, and what a probe names right.
_VARIES = ((re.compile(r"build [0-9a-f]{16}"), "build " + "0" * 16), (re.compile(r"; a bag of words [^.\n]+ %\)"), ""))


def cards(demo: Path) -> dict[str, str]:
    """{file name: text}; `demo` is the demo dataset, built with the settings above."""
    texts = {
        "demo/README.md": (demo / "README.md").read_text(encoding="utf-8"),
        f"demo/{card.FILE}": (demo / card.FILE).read_text(encoding="utf-8"),
        "model-example.md": model(),
        **{f"evalsets/{name}.md": evalset(name) for name in discover.names("evaluation set")},
    }
    return {name: steady(text) for name, text in texts.items()}


def steady(text: str) -> str:
    """A card without what no other machine would give bit for bit."""
    for pattern, instead in _VARIES:
        text = pattern.sub(instead, text)
    return text


def evalset(name: str) -> str:
    """The card of an evaluation set, from its CARD."""
    module = discover.load("evaluation set", name)
    card = module.CARD
    rows = [
        ("modalities", ", ".join(card.modalities)),
        ("licence", card.license or "not stated"),
        ("from", Markup(card.url) or "computed by birdmml"),  # noqa: S704  # our own plug-ins' addresses
        ("cite", card.citation or "birdmml"),
        ("splits", ", ".join(getattr(module, "SPLITS", ())) or "not split"),
    ]
    shown = ((key, value if isinstance(value, Markup) else markdown(value)) for key, value in rows)
    table = "\n".join(f"| {key} | {value} |" for key, value in shown)
    return (
        f"# {markdown(name)}\n\n{markdown(card.summary)}\n\n| | |\n|---|---|\n{table}\n\n"
        "birdmml does not pass it on. [What it holds and how it is prepared](../../docs/evalsets.md).\n"
    )


def model() -> str:
    """The card of a model that nobody trained: what `birdmml push-model` writes, without results."""
    from birdmml.hub.model_card import ModelAbout, render
    from birdmml.models.checkpoint import Checkpoint
    from birdmml.models.network import Network
    from birdmml.models.presets import preset

    tiny: Any = preset("tiny")
    config = discover.load("method", "confu").Config()
    network = Network(tiny, discover.load("method", "confu"), config, tiny.encoders.text.vocabulary)
    data = {"name": "birdmml-demo", "demo": True, "digest": "0" * 64, "rows": {"train": 816}}
    ready = Checkpoint("confu", config, tiny, 0, network, None, data)  # type: ignore[arg-type]  # not on the card
    return render(ready, "0" * 64, (), ModelAbout("user/name", "cc0-1.0"))


def build_demo(out: Path) -> Path:
    """The demo dataset in small."""
    from birdmml.dataset.build import build
    from birdmml.dataset.recipe import BuildSettings, Limits

    settings = discover.load("source", "demo").Settings(**DEMO)
    build(BuildSettings("demo", settings, limits=Limits(clip_s=DEMO["clip_seconds"])), out)
    return out


def stale(made: dict[str, str]) -> Iterator[str]:
    """Names of cards that are not what the code makes, and of cards that it does not make."""
    there = {p.relative_to(HERE).as_posix(): p for p in HERE.glob("*/*.md")}
    there |= {p.name: p for p in HERE.glob("*.md") if p.name != "README.md"}
    yield from sorted(
        name
        for name in {*made, *there}
        if name not in there or there[name].read_text(encoding="utf-8") != made.get(name)
    )


def main() -> int:
    """Write the cards, or with --check compare them; the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        made = cards(build_demo(Path(folder) / "data"))
    old = list(stale(made))
    if "--check" in sys.argv:
        sys.stdout.write("".join(f"{name} is stale: run python cards/make_cards.py\n" for name in old))
        return int(bool(old))
    for name, text in made.items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

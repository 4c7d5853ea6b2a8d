"""`birdmml bench` by a protocol, over prepared sets, and for many methods: plumbing, with untrained networks."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fakes
import numpy as np
import pytest
from helpers import Ran, untrained
from helpers.small import OPTIONS

from birdmml.bench import protocol, subjects
from birdmml.bench.plan import Choice, canonical, plans, providers
from birdmml.bench.score import Pass, passes_of
from birdmml.core import discover
from birdmml.errors import EvalsetError, TrainingError, UnknownName, UsageError
from birdmml.leaderboard.verify import verify
from birdmml.load import Built
from birdmml.results.result import read_result

Cli = Callable[..., Ran]
QUICK = [word for option in OPTIONS for word in ("--set", option)]
OWN = """
schema_version = 1
name = "mine"
summary = "s"
purpose = "p"
seeds = [3, 4]
[data]
source = "any"
split = "grouped"
caption = "caption_name_free"
[train]
preset = "tiny"
overrides = {overrides}
[[methods]]
name = "confu"
variant = "paper"
overrides = ["fused_weight=0.3"]
[[methods]]
name = "tri-clip"
variant = "reference"
[[evaluate]]
suite = "zero-shot"
evalset = "dataset"
options.zero_shot.templates = ["a photo of a {{common_name}}"]
[[evaluate]]
suite = "zero-shot"
evalset = "demo"
split = "all"
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birdmml.models.recipe.train", untrained.train)


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    def write(*changes: tuple[str, str]) -> Path:
        text = OWN.format(overrides=json.dumps(OPTIONS))
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "mine.toml").write_text(text)
        return tmp_path / "mine.toml"

    return write


def test_a_protocol_decides_suites_options_seeds_variant_and_text(
    own: Callable[..., Path], small_demo: Path, tmp_path: Path, cli: Cli, quick: None
) -> None:
    common = ("bench", "--data", small_demo, "--out", tmp_path / "out", "--device", "cpu", "--json")
    ran = cli(*common, "--protocol", own(), "--method", "confu")
    result = verify(Path(json.loads(ran.out)["folder"]))
    assert result.seeds == (3, 4)
    assert result.settings["method"]["fused_weight"] == 0.3
    assert result.settings["protocol"] == {
        "name": "mine", "digest": protocol.digest(str(own())), "departures": [],
    }  # fmt: skip
    assert set(result.settings["suites"]) == {"zero-shot dataset test", "zero-shot demo all"}
    templates = [s["templates"] for s in result.settings["suites"].values()]
    assert templates == [["a photo of a {common_name}"], ["{common_name}"]]
    assert {f.evalset for f in result.figures} == {"test-split", "demo-videos-all"}
    assert result.dataset["caption"] == "caption_name_free"
    free = Built(small_demo, Built.open(small_demo).manifest, "caption_name_free").split("train")
    assert (
        free.column("caption")
        == free.column("caption_name_free")
        != Built.open(small_demo).split("train").column("caption")
    )
    (plan,) = plans(protocol.load(str(own())), ["tri_clip"], small_demo, Choice())
    assert plan.recipe.config.variant == "reference"


def test_fewer_seeds_a_limit_other_data_and_other_methods_are_departures(
    own: Callable[..., Path], small_demo: Path
) -> None:
    other = own(('source = "any"', 'source = "release"'), ('split = "grouped"', 'split = "released"'))
    (plan,) = plans(protocol.load(str(other)), ["siglip"], small_demo, Choice(seeds=1, limit=8))
    assert plan.seeds == (3,)
    assert plan.protocol is not None
    assert plan.protocol["departures"] == [
        "1 of 2 seeds",
        "at most 8 rows a split",
        "trained on data of source demo, not the release",
        "split grouped, not released",
        "method siglip is added",
    ]
    both = plans(protocol.load(str(own())), [], small_demo, Choice())
    assert [p.method for p in both] == ["confu", "tri_clip"]
    assert len({p.name for p in (*both, plan)}) == 3
    with pytest.raises(UsageError, match="--seeds 3: protocol mine has 2"):
        plans(protocol.load(str(own())), [], small_demo, Choice(seeds=3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--suite", "retrieval"], ["--suite", "--protocol"]),
        (["--preset", "paper"], ["--preset", "--protocol"]),
        (["--seed", "0"], ["--seed ", "--protocol"]),
        (["--set", "dim=8"], ["--set", "--protocol"]),
        (["--epochs", "2"], ["--epochs", "--protocol"]),
        (["--batch-size", "2"], ["--batch-size", "--protocol"]),
        (["--checkpoint", "x"], ["--checkpoint", "--protocol"]),
        (["--evalset", "demo"], ["--evalset", "--protocol"]),
        (["--model", "x.py"], ["--model", "--protocol"]),
        ([], ["2 methods", "confu, tri-clip", "--all-methods"]),
        (["--method", "confuu"], ["confuu", "confu"]),
        (["--method", "confu", "--all-methods"], ["--all-methods", "--method"]),
    ],
    ids=str,
)
def test_what_contradicts_a_protocol_is_refused_by_both_names(
    own: Callable[..., Path], small_demo: Path, cli: Cli, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    out = tmp_path / "out"
    ran = cli("bench", "--protocol", own(), "--data", small_demo, "--out", out, *options)
    assert ran.code == 2
    assert len(ran.err.strip().splitlines()) == 1
    assert all(word in ran.err for word in words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('evalset = "demo"', 'evalset = "nonesuch"'), "needs evaluation set nonesuch"),
        (('suite = "zero-shot"\nevalset = "demo"', 'suite = "nonesuch"\nevalset = "demo"'), "needs suite nonesuch"),
        (('"paper"\noverrides = ["fused_weight=0.3"]', '"paper"\noverrides = ["fused=0.3"]'), "method.fused"),
    ],
    ids=str,
)
def test_what_this_installation_lacks_is_named(
    own: Callable[..., Path], small_demo: Path, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plans(protocol.load(str(own(change))), [], small_demo, Choice())


def test_protocols_that_train_on_no_built_dataset_say_what_to_do(cli: Cli, tmp_path: Path) -> None:
    ran = cli("bench", "--protocol", "paper-xor", "--all-methods", "--data", tmp_path / "none")
    assert ran.code == 2
    command = ran.err.split("`")[1].split()
    assert command[:4] == ["birdmml", "bench", "--suite", "xor"]
    assert cli(*command[1:], "--dry-run").code == 0
    assert "birdmml prepare" in cli("bench", "--protocol", "paper-affect", "--all-methods", "--data", tmp_path).err


class Prepared:
    """What `birdmml.evalsets.read` offers, of arrays: two films of three long enough for a frame at 1 s."""

    name, digest, demo, class_names = "ssw60", "d" * 64, True, ("One", "Two")

    def __init__(self, root: Path) -> None:
        self.frames = [np.full((8, 30, 40, 3), 40 * i, dtype=np.uint8) for i in range(1, 4)]

    @classmethod
    def open(cls, root: Path) -> Prepared:
        return cls(root)

    def collections(self) -> tuple[str, ...]:
        return ("audio", "videos", "images_x")

    def kind(self, collection: str) -> str:
        return collection.split("_")[0]

    def splits(self, collection: str) -> tuple[str, ...]:
        return ("train", "test")

    def rows(self, collection: str, split: str) -> Any:
        films = [
            SimpleNamespace(id=f"f{i}", frames=f, sweep=f[:2], sweep_s=(0.5, 1.0)[: 2 - i % 2], audio=None)
            for i, f in enumerate(self.frames)
        ]

        class Rows(list[Any]):
            ids, labels = ("f0", "f1", "f2"), np.array([0, 1, 0])

            def cells(self, columns: list[str]) -> Iterator[dict[str, Any]]:
                return ({"sweep_s": f.sweep_s} for f in self)

        return Rows(films)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(subjects, "Prepared", Prepared)
    known = discover.names

    def names(kind: str) -> tuple[str, ...]:
        found = known(kind)
        return tuple(sorted({*found, "ssw60", "vb100"})) if kind == "evaluation set" else found

    monkeypatch.setattr("birdmml.core.discover.names", names)
    (tmp_path / "evalsets" / "ssw60").mkdir(parents=True)
    return tmp_path / "evalsets"


def test_prepared_sets_are_opened_where_a_suite_wants_them(small_demo: Path, prepared: Path) -> None:
    built = Built.open(small_demo)
    zero_shot, _ = passes_of(["zero-shot"])
    labels = [p.subject.label for p in providers(built, prepared, zero_shot)]
    assert labels == ["{split}-split", "demo-videos", "ssw60-videos"]
    retrieval, _ = passes_of(["retrieval"])
    assert [p.subject.name for p in providers(built, prepared, retrieval)] == ["dataset"]
    only = providers(built, prepared, zero_shot, ["SSW-60"])
    assert [(p.subject.name, p.demo, p.subject.splits) for p in only] == [("ssw60", True, ("train", "test", "all"))]
    assert [p.subject.name for p in providers(built, None, zero_shot)] == ["dataset", "demo"]
    named = (Pass("zero-shot", zero_shot[0].options, "ssw60"),)
    assert [p.subject.name for p in providers(built, prepared, named)] == ["ssw60"]


def test_names_of_evaluation_sets_are_forgiving_and_helpful(prepared: Path) -> None:
    assert (canonical("VE100"), canonical("Dataset")) == ("vb100", "dataset")
    with pytest.raises(UnknownName) as caught:
        canonical("ssw6")
    assert caught.value.nearest[0] == "ssw60"


def test_a_set_that_is_asked_for_and_not_there_says_how_to_get_it(
    small_demo: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = SimpleNamespace(argument="vb100.zip", words=lambda: "download vb100.zip (7 GB; for research) from URL")
    card = SimpleNamespace(url="URL", license="for research")
    module = SimpleNamespace(DOWNLOAD=download, CARD=card, KIND="media")
    load = discover.load
    monkeypatch.setattr("birdmml.core.discover.load", lambda k, n: module if n == "vb100" else load(k, n))
    asked, _ = passes_of(["zero-shot"])
    with pytest.raises(EvalsetError) as caught:
        providers(Built.open(small_demo), prepared, asked, ["ve100"])
    words = str(caught.value)
    for part in ("vb100", "7 GB", "for research", "birdmml prepare vb100 --from vb100.zip --out", str(prepared)):
        assert part in words
    assert "\n" not in words


@pytest.mark.parametrize(("frames", "there"), [("mean", [1, 1, 1]), ("1.0", [1, 0, 1]), ("0.5", [1, 1, 1])])
def test_a_prepared_film_too_short_for_a_frame_is_left_out(
    small_demo: Path, prepared: Path, frames: str, there: list[int]
) -> None:
    from birdmml.bench.own_model import OwnEmbedder
    from birdmml.bench.suites._contract import Request

    (films,) = providers(Built.open(small_demo), prepared, passes_of(["zero-shot"])[0], ["ssw60"])
    module = ModuleType("mine")
    module.__dict__["embed_images"] = lambda images: [[i.mean(), 1.0] for i in images]
    module.__dict__["embed_texts"] = lambda texts: [[1.0, 0.0] for _ in texts]
    embedder = OwnEmbedder(module, Path("mine.py"))
    found = films.embed(Request("ssw60", "test", frames=frames), embedder, None, True)
    assert found.ids == ("f0", "f1", "f2")
    assert found.present["image"].tolist() == list(map(bool, there))
    expected = np.array([[40.0 * i, 1.0] for i in (1, 2, 3)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.arrays["image"][found.present["image"]], expected[np.array(there) == 1], rtol=1e-6)
    assert np.isnan(found.arrays["image"][~found.present["image"]]).all()
    labels, names = films.classes(Request("ssw60", "test"), None)
    assert (labels.tolist() if labels is not None else [], names) == ([0, 1, 0], ("One", "Two"))


def test_a_real_prepared_set_is_read(small_demo: Path, tmp_path: Path) -> None:
    from birdmml.bench.own_model import OwnEmbedder
    from birdmml.bench.suites._contract import Request
    from birdmml.evalsets import prepare

    module = discover.load("evaluation set", "ssw60")
    source = fakes.evalset("ssw60", tmp_path / "fake")
    prepare.prepare(module, source, tmp_path / "evalsets" / "ssw60")
    asked, _ = passes_of(["zero-shot"])
    (films,) = providers(Built.open(small_demo), tmp_path / "evalsets", asked, ["ssw60"])
    own = ModuleType("mine")
    own.__dict__["embed_images"] = lambda images: [[float(i.mean()), 1.0] for i in images]
    own.__dict__["embed_audio"] = lambda clips, rate_hz: [[1.0, float(np.abs(c).mean())] for c in clips]
    found = films.embed(Request("ssw60", "test"), OwnEmbedder(own, Path("mine.py")), None, True)
    labels, names = films.classes(Request("ssw60", "test"), None)
    assert len(found.ids) == len(labels if labels is not None else ()) > 0
    assert films.demo
    assert len(names) == 4
    of_demo = Built.open(small_demo)
    assert subjects.ceiling(of_demo, "zero-shot", "demo-videos", "audio") == pytest.approx(1 / 3)
    assert subjects.ceiling(of_demo, "zero-shot", films.subject.label, "audio") is None  # Its birds are others.
    # The fake's videos are short: no frame is asked for that none of them has.
    assert films.subject.sweep == ("0.5", "1", "1.5")
    for at in films.subject.sweep:
        found = films.embed(Request("ssw60", "all", frames=at), OwnEmbedder(own, Path("mine.py")), None, True)
        assert found.present["image"].any()


def test_many_methods_give_one_table_and_are_not_done_twice(
    small_demo: Path, tmp_path: Path, cli: Cli, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("bench", "--method", "confu", "--method", "tri-clip", "--data", small_demo, "--out", tmp_path)
    words += ("--device", "cpu", "--suite", "zero-shot", *QUICK)
    ran = cli(*words)
    assert ran.code == 0
    assert ran.out.count("done in") == 2
    for part in ("DEMO DATA", "confu", "tri_clip", "chance", "16.7", "A+V accuracy"):
        assert part in ran.out
    with (tmp_path / "table.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 12  # two methods, A, V and A+V, rows and films
    results = {r.method: r for r in map(read_result, tmp_path.glob("*/result.json"))}
    for row in rows:
        (figure,) = (
            f
            for f in results[row["method"]].figures
            if (f.suite, f.evalset, f.task, f.metric) == (row["suite"], row["evalset"], row["task"], row["metric"])
        )
        assert float(row["value"]) == figure.value
        assert float(row["chance"]) == pytest.approx(1 / 6)
    assert "| confu |" in (tmp_path / "table.md").read_text()
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")}
    assert cli(*words).out.count("there already") == 2
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    (changed,) = tmp_path.glob("confu-*/result.json")
    altered = json.loads(changed.read_text())
    altered["figures"][0]["value"] = 1.0
    changed.write_text(json.dumps(altered))
    # What does not follow from its items any more is made again, and never shown.
    ran = cli(*words)
    assert (ran.out.count("there already"), ran.out.count("confu: done in")) == (1, 1)
    assert json.loads(changed.read_text())["figures"][0]["value"] != 1.0
    monkeypatch.setattr("birdmml.bench.run.provenance.figures_digest", lambda: "another")
    assert cli(*words).out.count("done in") == 2
    assert cli(*words, "--again").out.count("there already") == 0


def test_a_method_that_fails_stops_no_other(
    small_demo: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(rows: Any, method: str, *more: Any) -> Any:
        if method == "confu":
            raise TrainingError("diverged at step 3")
        if method == "gram":
            raise ZeroDivisionError("x")
        return untrained.train(rows, method, *more)

    monkeypatch.setattr("birdmml.models.recipe.train", train)
    ran = cli(
        "bench", "--method", "confu", "--method", "gram", "--method", "siglip", "--data", small_demo, "--out",
        tmp_path, "--device", "cpu", "--suite", "zero-shot", *QUICK,
    )  # fmt: skip
    assert ran.code == 1
    assert "siglip: done" in ran.out
    assert "2 of 3 methods failed: confu: diverged at step 3; gram: ZeroDivisionError: x" in ran.err
    assert "siglip" in (tmp_path / "table.csv").read_text()

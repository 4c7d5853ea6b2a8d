"""Protocols: frozen by their digests, strict about every key, found in a checkout and in a wheel."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from birdmml.bench import protocol
from birdmml.bench.protocol import Evaluate, FewShot, Protocol, SuiteOptions, ZeroShotTable, load
from birdmml.core import discover, files, settings
from birdmml.errors import UnknownName, UsageError
from birdmml.results import paper

ROOT = Path(__file__).parents[2]
# A frozen protocol is never changed: give what differs a name of its own.
DIGESTS = {
    "avmnist-cpu": "a27fb90b1ff1ddec79cd36d5262cfd475edee9aed2a3be8dadc1e1d537707abd",
    "birdmml-v1": "9fff893b97e7a0acc81e56eb60146c603ead6dcacf8bcea4f0dbbf1c02af238b",
    "paper-affect": "51ba6bd37011dede4e61604ee552dc530c516f3c477ec5ff7183f0401455507d",
    "paper-avmnist": "adb3306cd9cf46f7d0b1a6d27d15585cf26909e5fc415375bf70b3b8d3e82a4f",
    "paper-birds": "586658f0274157816a7a1d484e23035f885751eda2f0da1069530774b3ed2862",
    "paper-fewshot": "4e1cae5be58266c55246b35b293e88959ffc3b4f0bfddd63c7938eec049e3425",
    "paper-noise": "bda27ec59ee35fe7c146b60bc5465f6e0082b1de9d4a405c00a3e28c34d1474e",
    "paper-xor": "f2039cbb854fd4c62043ae8e49ae3477d6105c874012a4514b55dc969a1438ec",
}
OWN = """
schema_version = 1
name = "mine"
summary = "s"
purpose = "p"
seeds = [0, 1]
[data]
source = "any"
split = "grouped"
caption = "caption"
[train]
preset = "tiny"
overrides = ["training.epochs=3"]
[[methods]]
name = "confu"
variant = "paper"
overrides = ["fused_weight=0.3"]
[[evaluate]]
suite = "few-shot"
evalset = "dataset"
options.few_shot.shots = [1, 5]
"""
Own = Callable[..., str]


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """A protocol of the user's own, with words replaced: its path."""

    def write(*changes: tuple[str, str]) -> str:
        text = OWN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "mine.toml").write_text(text)
        return str(tmp_path / "mine.toml")

    return write


def test_the_frozen_protocols_are_what_they_were() -> None:
    assert {name: protocol.digest(name) for name in protocol.names()} == DIGESTS


@pytest.mark.parametrize("name", DIGESTS)
def test_a_shipped_protocol_is_frozen_named_as_its_file_and_describes_itself(name: str) -> None:
    found = load(name)
    assert (found.name, found.frozen) == (name, True)
    assert 20 < len(found.summary) < 110
    assert "\n" not in found.summary
    assert found.purpose.strip() == found.purpose
    assert f"**{name}.**" in (ROOT / "benchmarks" / "protocols" / "README.md").read_text(encoding="utf-8")
    assert load(name.upper().replace("-", "_")) == found


@pytest.mark.parametrize("name", DIGESTS)
def test_the_settings_of_a_shipped_protocol_exist(name: str) -> None:
    from birdmml.models.presets import preset

    found = load(name)
    if found.train:
        settings.override(preset(found.train.preset), found.train.overrides)
    for method in found.methods:
        module = discover.load("method", method.name)
        bare = [text.removeprefix("method.") for text in method.assignments]
        assert settings.override(module.Config(), bare, "method.")
        has_variants = "variant" in {f.name for f in dataclasses.fields(module.Config)}
        assert bool(method.variant) == has_variants


def test_the_papers_protocols_measure_what_the_papers_tables_report() -> None:
    for name in protocol.names():
        found = load(name)
        measured = {e.evalset for e in found.evaluate}
        for table in found.paper.tables:
            rows = [r for r in paper.reported() if r.table == table]
            assert {r.evalset for r in rows} & measured
            assert {r.method for r in rows} <= {m.name.replace("-", "_") for m in found.methods} | {"clip"}
    wanted = {row.conditions["snr_db"] for row in paper.reported("noise")}
    noise = load("paper-noise").evaluate[0].options.noise
    assert noise is not None and {f"{level:g}" for level in noise.snr_db} == wanted
    shares = load("paper-xor").evaluate[0].options.xor
    assert shares is not None and set(shares.p) == {float(r.conditions["p"]) for r in paper.reported("xor")}


def test_xor_is_trained_as_its_suite_does_by_default() -> None:
    from birdmml.bench.xor.plan import XorSettings

    (run,) = load("paper-xor").evaluate
    said, default = run.options.xor, XorSettings()
    assert said is not None
    for field in dataclasses.fields(said):
        assert getattr(said, field.name) == getattr(default, field.name)
    assert load("paper-xor").seeds == default.seeds


def test_the_recommended_protocol_leaks_nothing() -> None:
    found = load("birdmml-v1")
    assert (found.data.split, found.data.caption) == ("grouped", "caption_name_free")
    assert {e.split for e in found.evaluate} == {"test"}
    assert found.seeds == (0, 1, 2, 3, 4)
    assert {m.variant for m in found.methods} == {"paper", ""}


def test_ones_own_file_is_read(own: Own) -> None:
    found = load(own())
    assert found.methods[0].assignments == ("method.variant=paper", "method.fused_weight=0.3")
    assert found.evaluate == (Evaluate("few-shot", "dataset", "test", SuiteOptions(few_shot=FewShot((1, 5), 10))),)
    assert not found.frozen
    assert "suite no-such" in load(own(("few-shot", "no-such"))).missing()
    assert load("paper-xor").missing() == ()


def test_the_digest_hears_what_is_said_and_not_how(own: Own) -> None:
    plain = protocol.digest(own())
    assert re.fullmatch("[0-9a-f]{64}", plain)
    same = [
        ("[data]", "# a word\nfrozen = false\n[data]"),
        ('name = "mine"\nsummary = "s"', 'summary = "s"\nname = "mine"'),
        ("shots = [1, 5]", "shots = [1,5]\noptions.few_shot.draws = 10"),
    ]
    assert all(protocol.digest(own(change)) == plain for change in same)
    other = [("seeds = [0, 1]", "seeds = [1, 0]"), ('"grouped"', '"released"'), ("epochs=3", "epochs=4")]
    other += [("[1, 5]", "[1, 5]\noptions.few_shot.draws = 9"), ("[data]", "frozen = true\n[data]")]
    assert len({plain, *(protocol.digest(own(change)) for change in other)}) == len(other) + 1


def test_an_unknown_protocol_key_or_word_names_the_nearest(own: Own) -> None:
    with pytest.raises(UnknownName, match="unknown protocol 'paper-bird': nearest are paper-birds"):
        load("paper-bird")
    for change, nearest in (
        (('split = "grouped"', 'splt = "grouped"'), "data.split"),
        (("seeds =", "seed ="), "seeds"),
        (('"grouped"', '"group"'), "grouped"),
        (("few_shot.shots", "fewshot.shots"), "evaluate[0].options.few_shot"),
        (('variant = "paper"', 'varient = "paper"'), "methods[0].variant"),
        (("[[methods]]", '[paper]\ntables = ["avmnits"]\n[[methods]]'), "avmnist"),
    ):
        with pytest.raises(UnknownName) as caught:
            load(own(change))
        assert caught.value.nearest[0] == nearest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("schema_version = 1", "schema_version = 2"), "reads 1"),
        (("schema_version = 1\n", ""), "schema_version is None"),
        (("seeds = [0, 1]", "seeds = []"), "seeds has 0 entries"),
        (("seeds = [0, 1]", "seeds = [0, 0]"), "seeds has 0 twice"),
        (("seeds = [0, 1]", "seeds = [-1]"), "seeds must lie"),
        (("seeds = [0, 1]", "seeds = [true]"), "must be of type int"),
        (("seeds = [0, 1]", "seeds = [1" + 5000 * "0" + "]"), "not a protocol in TOML"),
        (("seeds = [0, 1]", "seeds = " + 5000 * "["), "not a protocol in TOML"),
        (('"mine"', '"../mine"'), "is no name"),
        (('"mine"', '"paper-birds"'), "is another, frozen protocol"),
        (('source = "any"', 'source = "evalset"'), "bring their own"),
        (('split = "grouped"\n', ""), "must be said"),
        (('[train]\npreset = "tiny"\noverrides = ["training.epochs=3"]\n', ""), "train must be there"),
        (('preset = "tiny"\n', ""), "train.preset has no value"),
        (("training.epochs=3", "training.epochs"), "is not NAME=VALUE"),
        (("shots = [1, 5]", "shots = [0, 5]"), "must lie in 1 to 1000"),
        (("few-shot", "retrieval"), "options.few_shot means nothing"),
        (("few_shot.shots = [1, 5]", "noise.snr_db = [nan]"), "must be finite"),
        (("few-shot", "noise"), "options.few_shot means nothing"),
        (('"confu"', "1"), "must be of type str"),
        (("[data]", "[data"), "not a protocol in TOML"),
        (('summary = "s"', f'summary = "{70_000 * "s"}"'), "larger than 64.0 KiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused_in_one_line(change: tuple[str, str], said: str, own: Own) -> None:
    path = own(change)
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        load(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.toml").mkdir()
    for name in ("binary.toml", "folder.toml", "none.toml", "nul\0.toml"):
        with pytest.raises(UsageError, match=re.escape(name)):
            load(str(tmp_path / name))


def test_prompts_name_a_class_by_a_field_that_exists() -> None:
    assert ZeroShotTable(("a photo of {common_name}", "{scientific_name}")).templates
    for wrong in ("a bird", "{common_name", "{}", "{common_nam}", "{common_name.__class__}"):
        with pytest.raises(UsageError):
            ZeroShotTable((wrong,))


def test_a_copy_of_a_shipped_protocol_is_that_protocol(tmp_path: Path) -> None:
    copy = tmp_path / "copy.toml"
    copy.write_bytes((files.folder("protocols") / "paper-birds.toml").read_bytes())
    assert load(str(copy)) == load("paper-birds")


def test_a_wheel_carries_the_files_to_where_they_are_looked_for(tmp_path: Path) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert included == {f"benchmarks/{n}": f"birdmml/benchmarks/{n}" for n in ("paper", "protocols")}
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        for folder, suffix in (("paper", "csv"), ("protocols", "toml")):
            for path in (ROOT / "benchmarks" / folder).glob(f"*.{suffix}"):
                assert wheel.read(f"birdmml/benchmarks/{folder}/{path.name}") == path.read_bytes()
        assert not [n for n in wheel.namelist() if n.startswith("benchmarks/")]


def test_protocols_are_values() -> None:
    found = load("paper-birds")
    assert isinstance(found, Protocol)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "x"  # type: ignore[misc]
    assert hash(found) == hash(load("paper-birds"))

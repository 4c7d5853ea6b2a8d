"""`birdmml push-model`: a card whose figures are the result's, exactly the listed files, and nothing unasked."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import markdown_it
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import Ran, tree
from helpers.hub_server import REPO, TOKEN, Hub
from helpers.report_data import HOSTILE
from helpers.small import OPTIONS
from huggingface_hub import ModelCard

from birdmml.errors import CheckpointError, DatasetError, ResultError, UsageError
from birdmml.hub import model as hub_model
from birdmml.hub.model import stage
from birdmml.hub.model_card import ModelAbout, render
from birdmml.models import checkpoint
from birdmml.results.result import read_result

Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def ran(small_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result folder of two models of one epoch, seeds 3 and 4."""
    from birdmml.bench.plan import Choice, plan
    from birdmml.bench.run import run

    overrides = [*OPTIONS, "training.epochs=1"]
    made = plan(small_demo, "confu", Choice(["zero-shot"], overrides=overrides, seeds=2, first_seed=3))
    return run(made, tmp_path_factory.mktemp("out"), quiet=True)[1]


@pytest.fixture
def result(ran: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(ran, tmp_path / ran.name))


def models_of(folder: Path) -> Path:
    """Where the models beside a result lie."""
    (found,) = (folder.parent / "models").iterdir()
    return found


@pytest.fixture
def model(ran: Path, result: Path) -> Path:
    return Path(shutil.copytree(models_of(ran) / "seed-4", result.parent / "models" / "seed-4"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def front(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def body(text: str) -> str:
    return text.split("\n---\n", 1)[1]


def tokens(text: str) -> list[str]:
    parsed = markdown_it.MarkdownIt("commonmark").enable("table").parse(text)
    return [t.type for block in parsed for t in [block, *(block.children or [])]]


def card_of(model: Path, results: list[Path], out: Path, **about: Any) -> str:
    stage(model, results, ModelAbout(REPO, **about), out)
    return (out / "README.md").read_text()


def test_each_figure_of_the_card_is_that_of_the_result(result: Path, model: Path, tmp_path: Path) -> None:
    text = card_of(model, [result], tmp_path / "out")
    found = read_result(result)
    data = ModelCard(text).data
    told = {(r.dataset_config, r.metric_name): r for r in data.eval_results}
    assert len(told) == len(data.eval_results) == len(found.figures)
    for f in found.figures:
        r = told[f.evalset, f"{f.task} {f.metric}"]
        assert r.metric_value == f.per_seed[1]  # seed 4 is the second
        wanted = {
            "n": f.n, "chance": f.chance, "mean": f.value, "low": f.low, "high": f.high, "sd": f.sd,
            "best_possible": f.ceiling, "seeds": [3, 4],
        }  # fmt: skip
        assert r.metric_args == {name: value for name, value in wanted.items() if value is not None}
        assert r.dataset_revision == found.dataset["digest"]
        row = f"| {f.task} | {f.metric} | {100 * f.per_seed[1]:.1f} % | {100 * f.value:.1f} %"
        row += f" | {100 * (f.sd or 0):.1f} % | {100 * f.low:.1f} % to {100 * f.high:.1f} % | {100 * f.chance:.1f} % |"
        assert row in text
    assert (data.library_name, data.model_name, data.license) == ("birdmml", "birds", "unknown")


def test_the_demo_is_marked_wherever_somebody_may_look(result: Path, model: Path, tmp_path: Path) -> None:
    text = card_of(model, [result], tmp_path / "out")
    assert "DEMO. This model knows nothing about real birds." in text
    assert {"demo", "synthetic"} <= set(front(text)["tags"])
    (names,) = {r["dataset"]["name"] for r in front(text)["model-index"][0]["results"]}
    assert "not Bird-MML" in names
    edit(model / checkpoint.META, lambda m: m["dataset"].update(demo=False))
    with pytest.raises(ResultError, match="another model: demo True, the checkpoint's is False"):
        card_of(model, [result], tmp_path / "out")


def test_a_model_of_real_data_has_no_banner_and_its_dataset_is_linked(
    result: Path, model: Path, tmp_path: Path
) -> None:
    edit(model / checkpoint.META, lambda m: m["dataset"].update(demo=False, name="birds"))
    text = card_of(model, [], tmp_path / "out", dataset="someone/songs", license="cc-by-nc-4.0")
    assert "DEMO" not in text
    assert "Nothing is known of how good it is" in text
    assert (front(text)["datasets"], front(text)["license"]) == (["someone/songs"], "cc-by-nc-4.0")
    assert "model-index" not in front(text)


def test_exactly_the_listed_files_are_staged(cli: Cli, result: Path, model: Path, tmp_path: Path) -> None:
    training = tmp_path / "training"
    shutil.copytree(model, training / "last")
    for name in ("train.jsonl", "steps/step-00000001/training.safetensors", "last/optimizer.pkl", "last/notes.txt"):
        (training / name).parent.mkdir(parents=True, exist_ok=True)
        (training / name).write_text("/home/somebody")
    out = tmp_path / "staged"
    found = cli("push-model", training, "--results", result, "--repo", REPO, "--out", out, "--json")
    told = json.loads(found.out)
    items = {f"predictions/zero-shot.{e}.{t}.parquet" for e in ("test-split", "demo-videos") for t in ("A", "V", "A+V")}
    wanted = {"README.md", "checkpoint.json", "model.safetensors", "tokenizer.json"}
    wanted |= {f"results/{result.name}/{name}" for name in {"result.json", *items}}
    assert {f["path"] for f in told["files"]} == wanted
    assert {f["path"]: f["sha256"] for f in told["files"]} == tree(out)
    assert all((out / f["path"]).stat().st_size == f["size"] for f in told["files"])
    assert (told["uploaded"], told["url"], told["demo"]) == (False, None, True)
    assert checkpoint.load(out).seed == 4
    assert (out / "results" / result.name / "result.json").read_bytes() == (result / "result.json").read_bytes()
    again = tree(out)
    cli("push-model", training, "--results", result, "--repo", REPO, "--out", out)
    assert tree(out) == again


@pytest.mark.usefixtures("no_network")
def test_a_dry_run_asks_no_hub_and_says_so(cli: Cli, result: Path, model: Path) -> None:
    found = cli("push-model", model, "--results", result, "--repo", REPO)
    assert found.code == 0
    assert found.out.splitlines()[0].startswith("DEMO DATA")
    assert found.out.splitlines()[-1] == "nothing was uploaded: add --push"
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert re.search(rf"model\.safetensors +[\d.]+ KiB +{digest}", found.out)


def test_what_cannot_be_compared_is_told(result: Path, model: Path, tmp_path: Path) -> None:
    whole = stage(model, [result], ModelAbout(REPO), tmp_path / "one")
    assert whole.results[0].unknown == ()
    edit(result / "result.json", lambda r: r.update(models=[]))  # as a result of an earlier version
    alone = stage(model, [result], ModelAbout(REPO), tmp_path / "two")
    assert alone.results[0].unknown == ("weights",)
    assert "taken on the publisher's word: weights" in (tmp_path / "two" / "README.md").read_text()


def test_a_tampered_figure_is_refused(cli: Cli, result: Path, model: Path) -> None:
    edit(result / "result.json", lambda r: r["figures"][0].update(value=0.99))
    found = cli("push-model", model, "--results", result, "--repo", REPO)
    assert (found.code, found.out) == (1, "")
    assert "value is given as 0.99, its items give" in found.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(method="clip"), "method clip, the checkpoint's is confu"),
        (lambda r: r["settings"]["method"].update(fused_weight=0.25), "method.fused_weight 0.25"),
        (lambda r: r["settings"]["preset"]["training"].update(epochs=7), "training.epochs 7"),
        (lambda r: r["settings"]["preset"].update(unheard=1), "does not know"),
        (lambda r: r["dataset"].update(trained_on="f" * 64), "training data ffff"),
        (lambda r: r["settings"].update(method_file={"path": "my.py", "sha256": "e" * 64}), "method file eeee"),
        (lambda r: r["settings"].update(limit=12), "limit 12"),
    ],
)
def test_a_result_of_another_model_is_refused(
    result: Path, model: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit(result / "result.json", change)
    with pytest.raises(ResultError, match=words):
        stage(model, [result], ModelAbout(REPO), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_result_of_another_seed_or_of_other_weights_is_refused(result: Path, model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    edit(other / checkpoint.META, lambda m: m.update(seed=9))
    with pytest.raises(ResultError, match="seed 3, 4, the checkpoint's is 9"):
        stage(other, [result], ModelAbout(REPO), tmp_path / "out")
    edit(other / checkpoint.META, lambda m: m.update(seed=3))
    with pytest.raises(ResultError, match="weights of SHA-256"):
        stage(other, [result], ModelAbout(REPO), tmp_path / "out")


def test_text_of_strangers_stays_text(result: Path, model: Path, tmp_path: Path) -> None:
    plain = card_of(model, [result], tmp_path / "plain")

    def change(values: dict[str, Any]) -> None:
        values["dataset"]["name"] = HOSTILE
        values["provenance"] = {"birdmml": HOSTILE, "packages": {HOSTILE: HOSTILE}, "code": HOSTILE, "hardware": [1]}
        values["training"] = {"history": [{HOSTILE: HOSTILE}], "seconds": HOSTILE}
        values["dataset"]["rows"] = {HOSTILE: HOSTILE}

    def change_result(values: dict[str, Any]) -> None:
        values["dataset"]["name"] = HOSTILE
        values["figures"][0].update(note=HOSTILE, task=HOSTILE, evalset=HOSTILE)

    edit(model / checkpoint.META, change)
    edit(result / "result.json", change_result)
    text = card_of(model, [result], tmp_path / "hostile", licenses={HOSTILE: {HOSTILE: 1}})
    assert set(front(text)) == set(front(plain))
    types, usual = tokens(body(text)), tokens(body(plain))
    assert not {"html_block", "html_inline", "image", "link_open"} & set(types)
    assert types.count("fence") == usual.count("fence")
    assert types.count("heading_open") == usual.count("heading_open")
    assert not re.search(r"https?://evil|www\.evil", body(text))
    assert "49 " not in text
    assert len(ModelCard(text).data.eval_results) == len(ModelCard(plain).data.eval_results)


def test_a_benchmark_gets_a_file_of_its_own_and_nothing_of_the_demo(
    cli: Cli, result: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("push-model", model, "--results", result, "--repo", REPO, "--out", tmp_path / "out")
    found = cli(*args, "--benchmark", "someone/bench")
    assert (found.code, found.out) == (1, "")
    assert "of the demo, which no benchmark takes: leave out --benchmark" in found.err
    monkeypatch.setattr(hub_model, "render", lambda *given: f"{given[:2]}")
    assert "someone/bench is a benchmark of the Hub" in cli(*args, "--benchmark", "someone/bench").out
    assert (tmp_path / "out" / hub_model.EVAL_RESULTS_FILE).read_text() == f"{(REPO, 'someone/bench')}"


def test_licences_of_the_training_data_are_counted_and_nc_and_nd_said(model: Path, small_demo: Path) -> None:
    ready = checkpoint.load(model)
    licenses = {"image": {"CC-BY-NC-4.0": 7, "CC0-1.0": 1}, "audio": {"CC-BY-NC-ND-4.0": 5, "unknown": 2}}
    text = render(ready, "0" * 64, [], ModelAbout(REPO, licenses=licenses))
    assert "| audio | CC-BY-NC-ND-4.0 | 5 |" in text
    assert "**NC**: 12 media" in text
    assert "**ND**: 5 media" in text
    assert "**unknown**: for 2 media" in text
    silent = render(ready, "0" * 64, [], ModelAbout(REPO))
    assert "not recorded in the checkpoint" in silent
    free = render(ready, "0" * 64, [], ModelAbout(REPO, licenses={"image": {"CC0-1.0": 1}}))
    assert "**NC**" not in free


def test_the_dataset_of_the_licences_must_be_that_of_the_training(
    model: Path, small_demo: Path, tmp_path: Path
) -> None:
    stage(model, [], ModelAbout(REPO), tmp_path / "out", data=small_demo)
    assert "| caption | CC0-1.0 | 60 |" in (tmp_path / "out" / "README.md").read_text()
    edit(model / checkpoint.META, lambda m: m["dataset"].update(digest="0" * 64))
    with pytest.raises(DatasetError, match="give --data the dataset of its training"):
        stage(model, [], ModelAbout(REPO), tmp_path / "out", data=small_demo)


def test_a_local_encoder_is_published_by_its_last_name(model: Path, result: Path, tmp_path: Path) -> None:
    secret = "/home/somebody/models/minilm"
    edit(model / checkpoint.META, lambda m: m["provenance"].update(encoder=secret))
    edit(result / "result.json", lambda r: r["provenance"].update(encoder=secret))
    stage(model, [result], ModelAbout(REPO), tmp_path / "out")
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and b"somebody/models" in p.read_bytes()]
    assert checkpoint.load(tmp_path / "out").provenance["encoder"] == "minilm"


def test_links_that_lead_out_are_refused(model: Path, result: Path, tmp_path: Path) -> None:
    shutil.move(model / "tokenizer.json", tmp_path / "secret.json")
    (model / "tokenizer.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(CheckpointError, match="link out of its folder"):
        stage(model, [], ModelAbout(REPO), tmp_path / "out")
    (model / "tokenizer.json").unlink()
    shutil.move(tmp_path / "secret.json", model / "tokenizer.json")
    shutil.move(result / "result.json", tmp_path / "result.json")
    (result / "result.json").symlink_to(tmp_path / "result.json")
    with pytest.raises(ResultError, match="link out of its folder"):
        stage(model, [result], ModelAbout(REPO), tmp_path / "out")


def test_items_with_more_than_outcomes_are_refused(model: Path, result: Path, tmp_path: Path) -> None:
    path = result / "predictions" / "zero-shot.test-split.A.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("path", pa.array(["/home/me"] * len(table))), path)
    with pytest.raises(ResultError, match=r"columns of its own \(path\)"):
        stage(model, [result], ModelAbout(REPO), tmp_path / "out")


def test_a_folder_with_other_things_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    with pytest.raises(UsageError, match=r"diary\.txt.*empty folder"):
        stage(model, [], ModelAbout(REPO), tmp_path / "mine")
    assert tree(tmp_path / "mine").keys() == {"diary.txt"}


@pytest.mark.parametrize("broken", ["nothing", "truncated"])
def test_a_missing_or_broken_checkpoint_gives_one_line(cli: Cli, model: Path, tmp_path: Path, broken: str) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    found = cli("push-model", model if broken == "truncated" else tmp_path / "no", "--repo", REPO, "--push")
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub().serving(monkeypatch) as made:
        yield made


def test_push_sends_exactly_the_listed_files_and_never_tells_the_token(
    cli: Cli, hub: Hub, result: Path, model: Path
) -> None:
    found = cli("push-model", model, "--results", result, "--repo", REPO, "--push", "--json")
    assert found.code == 0, found.err
    told = json.loads(found.out)
    sent = {path: hashlib.sha256(content).hexdigest() for path, content in hub.files.items()}
    assert sent == {f["path"]: f["sha256"] for f in told["files"]}
    assert (told["uploaded"], told["url"].startswith(hub.url)) == (True, True)
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in found.out + found.err


def test_a_refusal_of_the_hub_is_one_line_without_the_token(cli: Cli, hub: Hub, model: Path) -> None:
    hub.status = 401
    found = cli("push-model", model, "--repo", REPO, "--push", "--json")
    assert (found.code, found.out, hub.files) == (1, "", {})
    assert found.err.count("\n") == 1
    assert "401" in found.err
    assert "hf auth login" in found.err
    assert TOKEN not in found.err


def test_a_public_repository_gets_nothing_that_was_to_be_private(cli: Cli, hub: Hub, model: Path) -> None:
    found = cli("push-model", model, "--repo", REPO, "--push", "--private")
    assert (found.code, hub.files) == (1, {})
    assert "is public" in found.err
    hub.private = True
    assert cli("push-model", model, "--repo", REPO, "--push", "--private").code == 0


@pytest.mark.usefixtures("no_network")
def test_without_a_hub_or_a_token_the_next_step_is_said(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    found = cli("push-model", model, "--repo", REPO, "--push")
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "HF_HUB_OFFLINE is set, so nothing was uploaded" in found.err
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    found = cli("push-model", model, "--repo", REPO, "--push")
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "hf auth login" in found.err

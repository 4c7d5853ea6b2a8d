"""Names that the Hub takes, and names that stay here."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from helpers import Ran
from huggingface_hub.utils import validate_repo_id

from birdmml.errors import UsageError
from birdmml.hub.model import check_names, without_folders

Cli = Callable[..., Ran]


@pytest.mark.parametrize(
    ("local", "told"),
    [("/home/me/models/minilm", "minilm"), ("~/minilm", "minilm"), ("C:\\Users\\me\\minilm", "minilm"),
     ("../../me/minilm/", "minilm"), ("google/vit", "google/vit"), ("retrieval", "retrieval")],
)  # fmt: skip
def test_folders_of_this_machine_stay_here(local: str, told: str) -> None:
    values = {"a": [{"name": local, "config": json.dumps({"_name_or_path": local, "n": 1})}], "n": 1.5, "b": None}
    expected = {"a": [{"name": told, "config": json.dumps({"_name_or_path": told, "n": 1})}], "n": 1.5, "b": None}
    assert without_folders(values) == expected


@pytest.mark.parametrize(
    "repo", ["", "birds", "a/b/c", "a/b c", "a/../b", "-a/b", "a/b.git", "a/b--c", "https://x/y", "a/" + "b" * 97]
)
def test_a_name_that_is_no_repository_is_refused(cli: Cli, repo: str) -> None:
    found = cli("push-model", "nowhere", f"--repo={repo}")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert "USER/NAME" in found.err


@pytest.mark.parametrize("repo", ["a/b", "Some-one/birds_2.1", "a/" + "b" * 94])
def test_a_plain_repository_is_accepted_as_the_hub_accepts_it(repo: str) -> None:
    validate_repo_id(repo)
    check_names(repo, "mit", repo)


@pytest.mark.parametrize(("license_id", "dataset"), [("my own: free", ""), ("", ""), ("mit", "songs")])
def test_a_licence_or_dataset_that_the_hub_would_not_take_is_refused(license_id: str, dataset: str) -> None:
    with pytest.raises(UsageError, match="--license|--dataset"):
        check_names("a/b", license_id, dataset)

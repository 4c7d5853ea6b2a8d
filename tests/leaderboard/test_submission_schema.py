"""One JSON Schema for the reader and for other tools: both refuse, and take, the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import submitted
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.leaderboard.submission import form

VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 2**40, 0.5, "", "a", "A b", "x" * 5000, "a\n", [], [1], {}, {"a": 1}),
    *("0" * 64, "results/x", "2026-01-02", "../x", "MIT", "demo", ["demo"], ["demo", "demo"]),
)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = submitted.submission_in(tmp_path_factory.mktemp("schema")).folder
    return dict(json.loads((folder / "submission.json").read_text()))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def test_a_submission_follows_the_schema_in_the_readers_eyes_and_in_others(head: dict[str, Any]) -> None:
    assert list(form.problems(head)) == []
    validator(form.schema())(head)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_reader_and_jsonschema_judge_every_change_alike(head: dict[str, Any], data: st.DataObject) -> None:
    changed = copy.deepcopy(head)
    *path, last = data.draw(st.sampled_from([p for p in places(head) if p]))
    parent: Any = changed
    for key in path:
        parent = parent[key]
    action = data.draw(st.sampled_from(["set", "remove", "add"]))
    if action == "remove":
        del parent[last]
    elif action == "set" or not isinstance(parent, dict):
        parent[last] = data.draw(st.sampled_from(VALUES))
    else:
        parent["more"] = data.draw(st.sampled_from(VALUES))
    mine = bool(list(form.problems(changed)))
    assert mine == (not accepted(changed)), (path, last, action)


def test_no_text_that_has_a_form_may_end_in_a_newline(head: dict[str, Any]) -> None:
    """Python's `$` would let it; other tools of other languages would not."""
    told = 0
    for *path, last in [p for p in places(head) if p]:
        changed = copy.deepcopy(head)
        parent: Any = changed
        for key in path:
            parent = parent[key]
        if isinstance(parent[last], str):
            parent[last] += "\n"
            mine = bool(list(form.problems(changed)))
            assert mine == (not accepted(changed)), (path, last)
            told += mine
    assert told >= 20


def accepted(value: Any) -> bool:
    try:
        validator(form.schema())(value)
    except Exception:  # noqa: BLE001  # whatever the other tool calls it
        return False
    return True


def validator(schema: dict[str, Any]) -> Any:
    """jsonschema's, of whatever draft it knows: the schema uses nothing that draft 7 lacks."""
    tool = pytest.importorskip("jsonschema")
    kind = getattr(tool, "Draft202012Validator", tool.Draft7Validator)
    return kind(schema).validate


def test_every_word_of_the_schema_is_enforced_and_every_object_lists_its_parts() -> None:
    known = {*form._RULES, *form._WORDS, "type", "required", "properties", "additionalProperties", "items", "$ref"}

    def walk(rule: Any) -> None:
        assert set(rule) <= known
        assert set(rule.get("required", ())) <= set(rule.get("properties", ()))
        for inner in (*rule.get("properties", {}).values(), *rule.get("$defs", {}).values()):
            walk(inner)
        for word in ("items", "additionalProperties"):
            if isinstance(rule.get(word), dict):
                walk(rule[word])

    walk(form.schema())


def test_the_labels_of_the_schema_are_those_that_are_given() -> None:
    from birdmml.leaderboard.submission.checking import LABELS

    assert tuple(form.schema()["properties"]["labels"]["items"]["enum"]) == LABELS


def test_the_documentation_names_every_part() -> None:
    text = (Path(__file__).parents[2] / "docs" / "submissions.md").read_text(encoding="utf-8")
    for rule in (form.schema(), form.part("result"), form.part("items"), form.part("file")):
        assert [name for name in rule["properties"] if f"`{name}`" not in text] == []

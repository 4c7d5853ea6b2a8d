"""Options of commands are fields of dataclasses, and those that set a setting have its name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from birdmml.cli import _build_options, train
from birdmml.cli._options import argument, command, flag, option, spelled, typed_names, values_of
from birdmml.core import discover
from birdmml.models import presets


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int | None = option(None, "How large.", "--inner-size", min=1)
    depth_px: int | None = option(None, "How deep.")


@dataclass(frozen=True, kw_only=True)
class Outer:
    folder: Path = argument(..., "Where.")
    name: str = option(..., "What.")
    inner: Inner
    more: list[str] = option([], "Again for more.")
    as_json: bool = flag("--json", "Print JSON.")
    typed: frozenset[str] = typed_names()


def run(*args: str) -> tuple[Any, str]:
    taken = []

    class Show(Outer):
        """Say what was given."""

        def _run(self) -> None:
            taken.append(Outer(**vars(self)))

    app = typer.Typer()
    app.command()(command(Show))
    output = CliRunner().invoke(app, list(args)).output
    return (taken or [None])[0], output


def test_a_command_gets_its_options_and_those_of_groups() -> None:
    options, _ = run("here", "--name", "x", "--inner-size", "3", "--more", "a", "--more", "b", "--json")
    assert options == Outer(
        folder=Path("here"),
        name="x",
        inner=Inner(size=3, depth_px=None),
        more=["a", "b"],
        as_json=True,
        typed=frozenset({"folder", "name", "size", "more", "as_json"}),
    )
    assert values_of(options.inner) == {"size": 3}
    assert spelled(options.inner, "size") == "--inner-size"
    assert spelled(options.inner, "depth_px") == "--depth-px"


def test_what_is_typed_is_told_from_a_default() -> None:
    options, _ = run("here", "--name", "x")
    assert (options.more, options.as_json, options.inner) == ([], False, Inner())
    assert options.typed == {"folder", "name"}


def test_help_lists_options_in_the_order_of_the_fields() -> None:
    _, output = run("--help")
    places = [output.index(name) for name in ("--name", "--inner-size", "--depth-px", "--more", "--json")]
    assert places == sorted(places)
    assert "Say what was given." in output


@pytest.mark.parametrize("args", [("here",), ("here", "--name", "x", "--inner-size", "0")])
def test_a_missing_or_wrong_option_is_wrong_usage(args: tuple[str, ...]) -> None:
    options, output = run(*args)
    assert options is None
    assert "--name" in output or "--inner-size" in output


def names(settings: Any) -> set[str]:
    return {f.name for f in fields(settings)}


def test_options_of_build_and_train_have_the_names_of_settings() -> None:
    sources = set().union(*(names(discover.load("source", s).Settings) for s in discover.names("source")))
    assert names(_build_options.PlaceOptions) | names(_build_options.SourceOptions) <= sources
    assert names(_build_options.CaptionerOptions) == names(discover.load("captioner", "hf").Settings)
    assert names(train.TrainingOptions) <= names(presets.Training)

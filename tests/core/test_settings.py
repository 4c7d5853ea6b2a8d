from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core import settings
from birdmml.errors import UnknownName, UsageError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str
    steps: int = 3
    kind: Literal["fast", "slow"] = "fast"
    inner: Inner = Inner()
    limit: int | None = None
    on: bool = False


@given(
    st.text(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(0, 99)), st.booleans(), st.none() | st.integers(0, 9),
)  # fmt: skip
def test_json_gives_the_settings_back(
    name: str, steps: int, rate: float, sizes: list[int], on: bool, limit: int | None
) -> None:
    value = Outer(name, steps, "slow", Inner(rate, tuple(sizes)), limit, on)
    assert settings.from_dict(Outer, settings.to_dict(value)) == value


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"name": "a", "stepz": 1}, "steps"),
        ({"name": "a", "inner": {"rat": 1}}, "inner.rate"),
        ({"name": "a", "kind": "fasst"}, "fast"),
        ({"name": 3}, "str"),
        ({"name": "a", "steps": 1.5}, "int"),
        ({"name": "a", "steps": True}, "int"),
        ({"name": "a", "inner": {"sizes": ["x"]}}, "sizes"),
        ({"name": "a", "inner": 4}, "inner"),
        ({}, "name"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word.replace(".", r"\.")):
        settings.from_dict(Outer, values)


def test_an_integer_is_a_float_where_one_is_wanted() -> None:
    assert settings.from_dict(Inner, {"rate": 2}).rate == 2.0


def test_overrides_reach_into_nested_settings_and_keep_the_rest() -> None:
    found = settings.override(Outer("a"), ["inner.rate=1e-3", "steps = 7", "name=plain words", "inner.sizes=[4]"])
    assert found == Outer("plain words", 7, inner=Inner(0.001, (4,)))


@pytest.mark.parametrize("bad", ["inner.rates=1", "inner.rate.x=1", "nothing=1"])
def test_an_unknown_override_names_the_nearest(bad: str) -> None:
    with pytest.raises(UnknownName) as caught:
        settings.override(Outer("a"), [bad])
    assert caught.value.nearest
    with pytest.raises(UsageError, match="NAME=VALUE"):
        settings.override(Outer("a"), ["steps"])


def test_digest_depends_on_values_only() -> None:
    assert settings.digest(Outer("a")) == settings.digest({**settings.to_dict(Outer("a"))})
    assert settings.digest(Outer("a")) != settings.digest(Outer("b"))

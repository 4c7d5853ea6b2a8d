"""A command takes SIGTERM for Ctrl-C while it works, and gives it back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import evalset
from helpers import Ran

Cli = Callable[..., Ran]
Handler = Callable[..., None]


@pytest.fixture
def handler() -> Iterator[Handler]:
    """What the process did on SIGTERM before the command."""

    def own(*_: object) -> None:
        raise AssertionError("no command was there to take it")

    before = signal.signal(signal.SIGTERM, own)
    yield own
    signal.signal(signal.SIGTERM, before)


def test_the_handler_is_back_after_a_build(cli: Cli, handler: Handler, tmp_path: Path) -> None:
    sizes = ("--species", "6", "--per-species", "10", "--image-size", "48", "--clip-seconds", "2")
    assert cli("build", *sizes, "--out", tmp_path / "data", "--workers", "1").code == 0
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_handler_is_back_after_a_preparation(cli: Cli, handler: Handler, tmp_path: Path) -> None:
    photos = evalset("cub200", tmp_path / "mine")
    ran = cli("prepare", "cub200", "--from", photos, "--out", tmp_path / "out", "--workers", "1")
    assert ran.code == 0
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_handler_is_back_after_a_polite_kill(
    cli: Cli, handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr("birdmml.dataset.build.build", killed)
    ran = cli("build", "--out", tmp_path / "data")
    assert ran.code == 130
    assert "interrupted" in ran.err
    assert signal.getsignal(signal.SIGTERM) is handler

"""A real browser for tests of pages: headless Chromium, offline, with a profile of its own."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
    # Any request that leaves the page fails at once instead of reaching a network.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def find() -> str | None:
    """The browser's path: $CHROMIUM, or what Linux distributions and vendors call it."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


needs_browser = pytest.mark.skipif(find() is None, reason="no Chromium here (set CHROMIUM, or install one)")


@dataclass(frozen=True)
class Page:
    """A page as shown: the DOM as text, and what the console said."""

    dom: str
    console: tuple[str, ...]


def visit(page: Path | str, *options: str) -> Page:
    """Open a file or an address, wait until it has settled, and dump its DOM."""
    done = _run("--dump-dom", *options, _address(page))
    return Page(done.stdout, tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line))


def screenshot(page: Path | str, out: Path, width: int = 1280, height: int = 1600, dark: bool = False) -> Path:
    """Photograph a page to a PNG; `dark` asks for its dark colours."""
    theme = ("--force-dark-mode",) if dark else ()
    done = _run(f"--screenshot={out}", f"--window-size={width},{height}", *theme, _address(page))
    assert out.exists(), done.stderr
    return out


def _address(page: Path | str) -> str:
    return page.resolve().as_uri() if isinstance(page, Path) else page


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    browser = find()
    assert browser is not None
    with tempfile.TemporaryDirectory(prefix="birdmml-browser-", ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

"""Builds from the three services, which fail in one request of five, that are killed and end as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pytest
from fakes import inaturalist
from helpers import tree
from helpers.raw_sources import KEY, Served, key, make, services
from helpers.services import Faults

from birdmml.sources.inat_xc import settings

__all__ = ["key"]
PHOTOS_PER_S, SOUNDS_PER_S = 40.0, 20.0
PASSING = ("500", "503", "page", "slow", "reset", "cut")


def command(settings: settings.RawSettings, served: Served, out: Path) -> list[str]:
    """The build as a process of its own."""
    given = {
        "inat": settings.inat, "species-list": settings.species_list.path, "per-species": settings.per_species,
        "clip-seconds": settings.clip_seconds, "contact": settings.contact, "seed": settings.seed,
        "photos": served.photos.url, "xeno-canto": served.xeno_canto.url, "wikipedia": served.wikipedia.url,
        "photos-per-second": PHOTOS_PER_S, "recordings-per-second": SOUNDS_PER_S, "workers": 2,
        "max-rejects": 0.2, "out": out,
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "birdmml", "build", "--source", "inat-xc", *words]


def killed(words: list[str], served: Served, after: int) -> bool:
    """One build that is killed, its workers with it, once so many requests have come; whether it really was."""
    start = sum(served.counts())
    running = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "XENO_CANTO_KEY": KEY},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while running.poll() is None and sum(served.counts()) - start < after and time.monotonic() < deadline:
        time.sleep(0.01)
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
    return running.wait() == -signal.SIGKILL


def there(out: Path, served: Served, tmp_path: Path) -> dict[tuple[str, str], int]:
    """What a killed build has on its disk: (service, name) -> how often it was asked for until now."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in (out.with_name("out.partial") / "source").glob("*.sqlite*"):
        shutil.copy(path, copy / path.name)
    urls: list[str] = []
    for name, table in (("ledger", "files"), ("answers", "answers")):
        if (copy / f"{name}.sqlite").is_file():
            with closing(sqlite3.connect(copy / f"{name}.sqlite")) as db:
                query = f"SELECT url FROM {table} WHERE state IN ('done', 'missing')"
                urls += [row[0] for row in db.execute(query)]
    found = {}
    for url in urls:
        service = next(s for s in served.all if url.startswith(f"{s.url}/"))
        path, _, query = url.removeprefix(service.url).partition("?")
        words = "&".join(f"{k}={v}" for k, v in sorted(parse_qsl(query)))
        name = unquote(path) + (f"?{words}" if words else "")
        found[service.url, name] = service.seen(name).requests
    return found


def fetched(served: Served) -> dict[str, int]:
    """How often each name was answered with all that there is, over all services."""
    return {f"{s.url}{n}": times for s in served.all for n, times in s.whole.items()}


def drill(tmp_path: Path, species: int, photos: int, recordings: int, kills: int, lost: int, seed: int) -> int:
    """Undisturbed and killed builds of one world; returns how many rows there are."""
    settings = inaturalist.write(
        tmp_path / "world", seed, species=species, photos=photos, recordings=recordings, seconds=1.0
    )
    faults = Faults(every=5, lost=lost, passing=PASSING, lasting=("403", "404", "metadata"))
    settings = replace(settings, allow_private=False)
    none = replace(faults, every=0)
    with services(tmp_path / "world", none, Faults()) as calm:
        # On the same port nothing would differ; what a dataset says of its rows must not depend on it.
        made = make(settings, calm, tmp_path / "calm", max_rejects=0.2)
        needed = sum(calm.counts())
    with services(tmp_path / "world", faults, replace(faults, lost=0)) as served:
        words = command(settings, served, tmp_path / "out")
        rng, died, settled = random.Random(seed), 0, dict[tuple[str, str], int]()
        for _ in range(kills):
            died += killed(words, served, rng.randrange(needed // (4 * kills), needed // kills))
            assert not (tmp_path / "out").exists()
            settled |= {k: n for k, n in there(tmp_path / "out", served, tmp_path).items() if k not in settled}
        assert died == kills
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "XENO_CANTO_KEY": KEY})
        assert done.returncode == 0, done.stderr
        bad, asked = sum(s.misbehaved.total() for s in served.all), sum(served.counts())
        again = sum(n - 1 for n in fetched(served).values() if n > 1)
        print(f"{asked} requests, {bad} of them answered badly, {again} asked again that came too "
              f"late for a kill, {len(settled)} there at a kill and never asked again; "
              f"{served.photos.rate()} and {served.xeno_canto.rate()} in the busiest second")  # fmt: skip
        # Nothing that was there, or known not to be anywhere, was asked for again.
        now = {s.url: s for s in served.all}
        assert settled and all(now[url].seen(name).requests == n for (url, name), n in settled.items())
        # What was on its way when the build was killed may have been answered without having come.
        assert again <= died * (8 + 2 + 2)
        # Requests are spaced; what a slow connection delays may come together with the next one.
        assert served.photos.rate() <= PHOTOS_PER_S * 1.25
        assert served.xeno_canto.rate() <= SOUNDS_PER_S * 1.25
        assert bad > asked / 10
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")
    rows: int = made.manifest["counts"]["rows"]
    return rows


@pytest.mark.usefixtures("key")
def test_two_kills_of_a_small_build(tmp_path: Path) -> None:
    assert drill(tmp_path, species=3, photos=10, recordings=6, kills=2, lost=12, seed=4) >= 28


@pytest.mark.drill
@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("seed", [1, 2])
def test_five_kills_of_a_thousand_rows(seed: int, tmp_path: Path) -> None:
    rows = drill(tmp_path, species=12, photos=100, recordings=24, kills=5, lost=40, seed=seed)
    print(rows, "rows")
    assert rows >= 1000

"""Two services with a fault in one request of five, a reader that is killed five times: all there, nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes.wikipedia
import fakes.xeno_canto
from helpers.services import Faults, Service, wikipedia, xeno_canto

from birdmml.core.species import all_species
from birdmml.sources.inat_xc.wikipedia import names_of

KEY = "0123456789abcdef0123"
RATE = 60.0
DRIVER = """
import json, sys
from pathlib import Path
from birdmml.fetch.api import Answers, Api
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import WantedFile as Wanted
from birdmml.fetch.ledger import Ledger
from birdmml.fetch.pace import Budget, Pace, Politeness
from birdmml.sources.inat_xc.wikipedia import names_of
from birdmml.sources.inat_xc.wikipedia import Wikipedia
from birdmml.sources.inat_xc.xeno_canto import Wish, XenoCanto, key_from
from birdmml.core.species import all_species

xc, wp, out, birds, rate = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
told = {}
polite = Politeness(
    "x", paces={xc: Pace(rate, 2), wp: Pace(rate, 1)}, named=[xc, wp], back_off_s=0.01, budget=Budget(),
)
with (
    Ledger(out / "ledger.sqlite") as ledger,
    Answers(out / "answers.sqlite") as answers,
    Fetcher(ledger, polite) as fetcher,
):
    service = XenoCanto(
        Api(fetcher, answers, xc, secrets={"key": key_from()}),
        Wish(lambda l: l != "unknown" and "ND" not in l), per_page=50,
    )
    for species in all_species()[:birds]:
        names = names_of(species)
        listing = service.listing(names)
        article = Wikipedia(Api(fetcher, answers, wp)).article(names)
        jobs = [(Wanted(t.recording.id, t.url), out / t.recording.locator) for t in listing.takes]
        came = {o.key: [o.state, o.sha256] for o in fetcher.fetch_all(jobs)}
        told[names.scientific] = [str(listing.takes), str(listing.rejects), str(article), sorted(came.items())]
    print(json.dumps(told))
"""


def run(services: tuple[Service, Service], out: Path, birds: int) -> subprocess.Popen[str]:
    urls = [s.url for s in services]
    command = [sys.executable, "-c", DRIVER, *urls, str(out), str(birds), str(RATE)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "XENO_CANTO_KEY": KEY})


def test_killed_five_times_it_ends_as_if_it_never_was(tmp_path: Path) -> None:
    kills = 5
    birds = [names_of(s) for s in all_species()[:3]]
    truth = fakes.xeno_canto.write(tmp_path / "xc", birds, each=55, seconds=0.2)
    fakes.wikipedia.write(tmp_path / "wp", birds)
    faults = Faults(every=5, passing=("500", "503", "page", "reset", "cut"), seed=1)
    with xeno_canto(tmp_path / "xc") as xc, wikipedia(tmp_path / "wp") as wp:
        calm = json.loads(run((xc, wp), tmp_path / "calm", len(birds)).communicate()[0])
        undisturbed = xc.requests
        port = xc.url.rpartition(":")[2]
    with xeno_canto(tmp_path / "xc", faults) as xc, wikipedia(tmp_path / "wp", faults) as wp:
        for n in range(kills):
            process = run((xc, wp), tmp_path / "killed", len(birds))
            while len(xc.whole) < undisturbed * (n + 1) / (kills + 2) and process.poll() is None:
                time.sleep(0.005)
            assert process.poll() is None  # It was in the middle.
            process.send_signal(signal.SIGKILL)
            process.communicate()
        last = json.loads(run((xc, wp), tmp_path / "killed", len(birds)).communicate()[0])
        again = xc.url.rpartition(":")[2]
        # What was on the wire at a kill may come twice: two answers of Xeno-canto at a time, one of Wikipedia.
        assert len(xc.twice()) <= 2 * kills and len(wp.twice()) <= kills
        assert max(*xc.whole.values(), *wp.whole.values()) == 1 + bool(xc.twice() or wp.twice())
        assert sum(xc.misbehaved.values()) > 10 and xc.peak <= 2 and wp.peak == 1
        # The rate as the server saw it, with one request more at the edge of the window and one for each new start.
        assert xc.rate(0.5) <= RATE / 2 + 3
        assert json.dumps(last).replace(again, port) == json.dumps(calm)
    assert sum(not reason for reason in truth.values()) == 55 * len(birds)
    assert all(state == "done" for _, _, _, came in last.values() for _, (state, _) in came)
    kept = b"".join(p.read_bytes() for p in (tmp_path / "killed").rglob("*.sqlite*"))
    assert KEY.encode() not in kept

"""What a build from raw sources asks for: photos, recordings, articles, each in a thread of its own.

A stream works in rounds: what is wanted is fetched, what turns out to be gone is replaced by the next choice, until
nothing is lacking or there is no choice left. So what is taken depends on what can be had, and on no order or break.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from birdmml.core.species import Species
from birdmml.errors import SourceError
from birdmml.fetch.download import Fetcher, FetchOutcome, Job
from birdmml.fetch.ledger import WantedFile
from birdmml.schema import Reject
from birdmml.sources.inat_xc.index import RawIndex, Row
from birdmml.sources.inat_xc.settings import RawSettings
from birdmml.sources.inat_xc.wikipedia import Wikipedia, names_of
from birdmml.sources.inat_xc.xeno_canto import XenoCanto

PASSING = (408, 425, 429)
# So many photos gone and none there: the address is wrong, not the photos.
ALL_GONE = 200


@dataclass(frozen=True)
class Arrival:
    """A file that came: of which row, and where it lies."""

    kind: str
    label: int
    place: int
    doc: str
    path: Path


class Streams:
    """The streams of a reading: `rows` photos and clips of each species, and at least `least` recordings."""

    def __init__(
        self,
        fetcher: Fetcher,
        index: RawIndex,
        settings: RawSettings,
        folder: Path,
        xeno_canto: XenoCanto,
        wikipedia: Wikipedia,
        rows: int,
        least: int,
    ) -> None:
        self._fetcher, self._index, self._settings, self._folder = fetcher, index, settings, folder
        self._xeno_canto, self._wikipedia = xeno_canto, wikipedia
        self._rows, self._least = rows, least

    def photos(self, labels: Sequence[int]) -> Iterator[Arrival]:
        """Photos at `{bucket}/photos/{id}/{size}.{extension}`."""
        base, size = self._settings.photos.rstrip("/"), self._settings.photo_size

        def job(row: Row) -> Job:
            number, extension = int(row[2]), json.loads(row[3])["extension"]
            name = f"photos/{number}/{size}.{extension}"
            # A folder of a million files is slow on most file systems: a thousand folders.
            to = self._folder / "photos" / f"{number % 1000:03d}" / f"{number}.{extension.casefold()}"
            return WantedFile(name, f"{base}/{name}"), to

        def wanted(label: int) -> list[Row]:
            return self._index.photos_for(label, self._rows)

        return self._rounds("photos", labels, wanted, self._fetcher.fetch_small, job)

    def recordings(self, species: Sequence[Species]) -> Iterator[Arrival]:
        """Recordings of Xeno-canto, listed species by species as the downloads go on."""
        by_label = {s.label: s for s in species}

        def job(row: Row) -> Job:
            take = json.loads(row[3])
            return WantedFile(row[2], take["url"]), self._folder / take["locator"]

        def wanted(label: int) -> list[Row]:
            self.list_one(by_label[label])
            return self._index.recordings_for(label, self._rows, self._least)

        return self._rounds("recordings", list(by_label), wanted, self._fetcher.fetch_all, job)

    def list_one(self, species: Species) -> None:
        """Ask for the list of a species, once."""
        if self._index.listing(species.label) is not None:
            return
        listing = self._xeno_canto.listing(names_of(species))
        takes = []
        for take in listing.takes:
            record = take.recording
            doc = {"url": take.url, "locator": record.locator, "credit": asdict(record.credit)}
            takes.append((record.id, json.dumps(doc), clips_in(take.seconds, self._settings.clip_seconds)))
        failed = any(r.reason == "list_failed" for r in listing.rejects)
        facts = {"matched": listing.matched, "by": listing.by, "notes": list(listing.notes), "failed": failed}
        self._index.add_listing(species.label, facts, takes, listing.rejects)

    def articles(self, species: Sequence[Species]) -> Iterator[Arrival]:
        """Summaries of Wikipedia; nothing of it is delivered, it lies in the index."""
        for one in species:
            if self._index.article(one.label)[0]:
                continue
            article = self._wikipedia.article(names_of(one))
            self._index.reject(one.label, "article", [article] if isinstance(article, Reject) else [])
            self._index.add_article(one.label, None if isinstance(article, Reject) else article)
        yield from ()

    def _rounds(
        self,
        kind: str,
        labels: Sequence[int],
        wanted: Callable[[int], list[Row]],
        fetch: Callable[[Iterator[Job]], Iterator[FetchOutcome]],
        job: Callable[[Row], Job],
    ) -> Iterator[Arrival]:
        """Fetch what is wanted until nothing is; yields what came, and notes in the index what did not."""
        gone, came = 0, self._index.counts(kind).get("done", 0)
        while labels:
            flying: dict[str, Row] = {}
            lost: set[int] = set()

            def jobs() -> Iterator[Job]:
                for label in labels:  # noqa: B023  # used up before the next round
                    for row in wanted(label):
                        file, to = job(row)
                        flying[file.key] = row  # noqa: B023  # as above
                        yield file, to

            for outcome in fetch(jobs()):
                label, place, name, doc, _ = flying.pop(outcome.key)
                state = fate(outcome)
                self._index.mark(kind, label, place, state, outcome.reason)
                if state == "gone":
                    lost.add(label)
                    gone += 1
                came += state == "fetched"
                if gone >= ALL_GONE and not came and kind == "photos":
                    raise SourceError(
                        f"the first {ALL_GONE} photos are all gone (the last, photo {name}: {outcome.reason}): check "
                        "--photos, and whether the tables are those of this bucket"
                    )
                if outcome.path is not None:
                    yield Arrival(kind, label, place, doc, outcome.path)
            labels = sorted(lost)


def fate(outcome: FetchOutcome) -> str:
    """What an outcome means for the choice: fetched, gone (there will be no such file), or failed (for now).

    A server that forbids a file, or sends us where we do not go, will do so again.
    """
    if outcome.state == "done":
        return "fetched"
    lasting = outcome.code is not None and 300 <= outcome.code < 500 and outcome.code not in PASSING
    return "gone" if outcome.state == "missing" or lasting else "failed"


def clips_in(seconds: float, clip_s: float) -> int:
    """How many clips a recording of this length gives: whole ones and an end of a second or more, at least one."""
    full, rest = divmod(seconds, clip_s)
    return max(1, int(full) + (rest >= 1.0))


def together(streams: Sequence[Iterator[Arrival]], stop: Callable[[], None], room: int = 32) -> Iterator[Arrival]:
    """What all streams yield, as it comes; each runs in a thread of its own, at most `room` ahead.

    What one raises ends all: `stop` makes the others give up, and it is raised here.
    """
    arrivals: queue.Queue[Arrival | BaseException | None] = queue.Queue(room)
    over = threading.Event()

    def put(what: Arrival | BaseException | None) -> None:
        while not over.is_set():
            try:
                arrivals.put(what, timeout=0.1)
                return
            except queue.Full:
                continue

    def run(stream: Iterator[Arrival]) -> None:
        try:
            for arrival in stream:
                put(arrival)
                if over.is_set():
                    return
            put(None)
        except BaseException as e:  # noqa: BLE001 - raised again by the thread that reads
            put(e)

    threads = [threading.Thread(target=run, args=(s,), daemon=True) for s in streams]
    for thread in threads:
        thread.start()
    left, ended = len(threads), False
    try:
        while left:
            got = arrivals.get()
            if isinstance(got, BaseException):
                raise got
            if got is None:
                left -= 1
            else:
                yield got
        ended = True
    finally:
        over.set()
        if not ended:
            stop()
        for thread in threads:
            thread.join(5)

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
from birdmml.fetch.download import Fetcher, FetchOutcome
from birdmml.fetch.ledger import WantedFile
from birdmml.schema import Reject
from birdmml.sources.inat_xc.index import RawIndex, Row
from birdmml.sources.inat_xc.wikipedia import Wikipedia, names_of
from birdmml.sources.inat_xc.xeno_canto import Take, XenoCanto

MOST_CHOICES = 1_000_000
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


@dataclass(frozen=True)
class Need:
    """How much of a species is wanted: photos, clips of `clip_s` seconds, and at least so many recordings."""

    photos: int
    clips: int
    clip_s: float
    recordings: int


class Photos:
    """Photos at `{bucket}/photos/{id}/{size}.{extension}`."""

    def __init__(
        self, fetcher: Fetcher, index: RawIndex, bucket: str, size: str, folder: Path, labels: Sequence[int], need: Need
    ) -> None:
        self._fetcher, self._index, self._folder = fetcher, index, folder
        self._base, self._size = bucket.rstrip("/"), size
        self._labels, self._need = labels, need

    def __iter__(self) -> Iterator[Arrival]:
        return _rounds(self._index, "photos", self._labels, self._wanted, self._fetcher.fetch_small, self._job)

    def _wanted(self, label: int) -> list[Row]:
        return self._index.photos_for(label, self._need.photos)

    def _job(self, row: Row) -> tuple[WantedFile, Path]:
        number, extension = int(row[2]), json.loads(row[3])["extension"]
        name = f"photos/{number}/{self._size}.{extension}"
        to = self._folder / "photos" / f"{number % 1000:03d}" / f"{number}.{extension.casefold()}"
        return WantedFile(name, f"{self._base}/{name}"), to


class Recordings:
    """Recordings of Xeno-canto, listed species by species as the downloads go on."""

    def __init__(
        self,
        fetcher: Fetcher,
        index: RawIndex,
        service: XenoCanto,
        folder: Path,
        species: Sequence[Species],
        need: Need,
    ) -> None:
        self._fetcher, self._index, self._service = fetcher, index, service
        self._folder, self._need = folder, need
        self._names = {s.label: names_of(s) for s in species}

    def __iter__(self) -> Iterator[Arrival]:
        labels = list(self._names)
        return _rounds(self._index, "recordings", labels, self._wanted, self._fetcher.fetch_all, self._job)

    def list_one(self, label: int) -> None:
        """Ask for the list of a species, once."""
        if self._index.listing(label) is not None:
            return
        listing = self._service.listing(self._names[label], MOST_CHOICES)
        takes = [(t.recording.id, _doc(t), clips_in(t.seconds, self._need.clip_s)) for t in listing.takes]
        failed = any(r.reason == "list_failed" for r in listing.rejects)
        doc = {"matched": listing.matched, "by": listing.by, "notes": list(listing.notes), "failed": failed}
        self._index.add_listing(label, doc, takes, listing.rejects)

    def _wanted(self, label: int) -> list[Row]:
        self.list_one(label)
        return self._index.recordings_for(label, self._need.clips, self._need.recordings)

    def _job(self, row: Row) -> tuple[WantedFile, Path]:
        take = json.loads(row[3])
        return WantedFile(row[2], take["url"]), self._folder / take["locator"]


class Articles:
    """Summaries of Wikipedia; nothing of it is delivered, it lies in the index."""

    def __init__(self, index: RawIndex, service: Wikipedia, species: Sequence[Species]) -> None:
        self._index, self._service, self._species = index, service, species

    def __iter__(self) -> Iterator[Arrival]:
        for species in self._species:
            if self._index.article(species.label)[0]:
                continue
            article = self._service.article(names_of(species))
            self._index.reject(species.label, "article", [article] if isinstance(article, Reject) else [])
            self._index.add_article(species.label, None if isinstance(article, Reject) else article)
        yield from ()


def _rounds(
    index: RawIndex,
    kind: str,
    labels: Sequence[int],
    wanted: Callable[[int], list[Row]],
    fetch: Callable[[Iterator[tuple[WantedFile, Path]]], Iterator[FetchOutcome]],
    job: Callable[[Row], tuple[WantedFile, Path]],
) -> Iterator[Arrival]:
    """Fetch what is wanted until nothing is; yields what came, and tells the index of what did not."""
    labels = list(labels)
    gone, came = 0, index.counts(kind).get("done", 0)
    while labels:
        flying: dict[str, Row] = {}
        lost: set[int] = set()

        def jobs() -> Iterator[tuple[WantedFile, Path]]:
            for label in labels:  # noqa: B023  # used up before the next round
                for row in wanted(label):
                    file, to = job(row)
                    flying[file.key] = row  # noqa: B023  # as above
                    yield file, to

        for outcome in fetch(jobs()):
            row = flying.pop(outcome.key)
            state = fate(outcome)
            index.mark(kind, row[0], row[1], state, outcome.reason)
            if state == "gone":
                lost.add(row[0])
                gone += 1
            came += state == "fetched"
            if gone >= ALL_GONE and not came and kind == "photos":
                raise _nothing_there(row[2], outcome.reason)
            if outcome.path is not None:
                yield Arrival(kind, row[0], row[1], row[3], outcome.path)
        labels = sorted(lost)


def fate(outcome: FetchOutcome) -> str:
    """What an outcome means for the choice: fetched, gone (there will be no such file), or failed (for now).

    A server that forbids a file, or sends us where we do not go, will do so again.
    """
    if outcome.state == "done":
        return "fetched"
    lasting = outcome.code is not None and 300 <= outcome.code < 500 and outcome.code not in PASSING
    return "gone" if outcome.state == "missing" or lasting else "failed"


def _nothing_there(name: str, reason: str) -> SourceError:
    return SourceError(
        f"the first {ALL_GONE} photos are all gone (the last, photo {name}: {reason}): check --photos, and whether the "
        "tables are those of this bucket"
    )


def clips_in(seconds: float, clip_s: float) -> int:
    """How many clips a recording of this length gives: whole ones and an end of a second or more, at least one."""
    full, rest = divmod(seconds, clip_s)
    return max(1, int(full) + (rest >= 1.0))


def _doc(take: Take) -> str:
    record = take.recording
    return json.dumps({"url": take.url, "locator": record.locator, "credit": asdict(record.credit)})


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
    left = len(threads)
    ended = False
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

"""One reading of the raw sources: the tables joined once, then three services asked at their own pace.

Everything that came, or will not come, stands in the index; a file is deleted once the build has it safe, and nothing
that is there is asked for again.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from birdmml.core import files
from birdmml.core.licenses import normalise, policy
from birdmml.core.pool import Progress
from birdmml.errors import SourceError, UsageError
from birdmml.fetch.api import Answers, Api
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger
from birdmml.fetch.pace import Budget, Pace, Politeness
from birdmml.fetch.web import user_agent
from birdmml.schema import Article, Credit, Delivery, Photo, Recording, Reject
from birdmml.sources.inat_xc import inaturalist
from birdmml.sources.inat_xc.inaturalist import tables_of
from birdmml.sources.inat_xc.index import RawIndex, absent, by_species
from birdmml.sources.inat_xc.settings import RawSettings
from birdmml.sources.inat_xc.streams import Arrival, Streams, together
from birdmml.sources.inat_xc.wikipedia import MOST_BYTES, Wikipedia
from birdmml.sources.inat_xc.xeno_canto import Wish, XenoCanto, key_from

# A split needs recordings on each side, however long they are.
LEAST_RECORDINGS = 20
# Photos that are noted beyond a quarter more than are wanted: they replace those that are gone.
SPARES = 100
LOADED = "loaded"


class Share(Protocol):
    """The part of a build that this machine does (birdmml.dataset.place.BuildPart)."""

    @property
    def count(self) -> int:
        """How many parts there are."""

    @property
    def sharing(self) -> int:
        """How many parts share what a service allows."""

    def takes(self, key: str) -> bool:
        """Whether the work on this species is done here."""


class RawSession:
    """Photos and recordings as they come; see `birdmml.dataset.intake.SourceSession`.

    `folder` keeps what must not be forgotten; `part` is the share of this machine (None: all).
    """

    def __init__(
        self,
        settings: RawSettings,
        folder: Path,
        limit: int | None,
        retry_failed: bool,
        progress: Progress,
        part: Share | None = None,
    ) -> None:
        check(settings)
        self._settings, self._folder, self._progress = settings, folder, progress
        self.resumes = True
        self.turn: Callable[[], None] = lambda: None
        self._rows = min(settings.per_species, limit or settings.per_species)
        taxonomy = settings.species_list.taxonomy
        self._species = [s for s in taxonomy.species if part is None or part.takes(s.scientific_name)]
        self._undivided = part is None or part.count == 1
        self._speaks = part is None or part.takes("")  # For all parts, of what all have seen.
        self._pending: deque[tuple[int, Arrival]] = deque()
        self._seq = 0
        agent, key = user_agent(settings.contact), key_from()
        with ExitStack() as stack:
            stack.callback(_tidy, folder)
            self._index = stack.enter_context(RawIndex(folder / "raw.sqlite"))
            self._index.begin(retry_failed)
            ledger = stack.enter_context(Ledger(folder / "ledger.sqlite"))
            answers = stack.enter_context(Answers(folder / "answers.sqlite"))
            if retry_failed:
                ledger.retry_failed()
                answers.retry_failed()
            self._fetcher = stack.enter_context(fetcher_for(settings, ledger, agent, part.sharing if part else 1))
            self._guard()
            self._ask_services(answers, key, limit)
            self._load(agent)
            self._opened = stack.pop_all()
        self.total: int | None = sum(
            min(self._rows, sum(self._index.held("photos", s.label).values())) for s in self._species
        )

    def __iter__(self) -> Iterator[Delivery]:
        photos = self._streams.photos([s.label for s in self._species])
        streams = [photos, self._streams.recordings(self._species), self._streams.articles(self._species)]
        for arrival in together(streams, self._fetcher.close):
            self._seq += 1
            self._pending.append((self._seq, arrival))
            yield Delivery(self._record(arrival), arrival.path.read_bytes(), self._seq)
        self._index.commit()
        if self._undivided:
            self._require()

    def acknowledge(self, seq: int) -> None:
        """Everything delivered so far up to `seq` is safe: its files may go."""
        safe: list[Path] = []
        while self._pending and self._pending[0][0] <= seq:
            _, arrival = self._pending.popleft()
            self._index.mark(arrival.kind, arrival.label, arrival.place, "done")
            safe.append(arrival.path)
        self._index.commit()
        for path in safe:
            path.unlink(missing_ok=True)

    def absent(self) -> Iterator[Reject]:
        """What did not come, each with its reason and what it cost."""
        return absent(self._index, self._species, self._rows, self._settings, self._speaks)

    def withdrawn(self) -> Iterator[str]:
        """Nothing: what was delivered stays."""
        return iter(())

    def recovered(self) -> Iterator[str]:
        """Nothing: there are no holes."""
        return iter(())

    def articles(self) -> Mapping[str, Article]:
        """Species -> what Wikipedia says of it, where it says anything."""
        return {a.species: a for a in self._index.articles()}

    def facts(self) -> dict[str, Any]:
        """What the manifest says: the tables, what they hold, and what came of it."""
        return {
            "demo": False,
            "tables": self._index.fact("tables"),
            "found": self._index.fact("found"),
            "photos": self._index.counts("photos"),
            "recordings": self._index.counts("recordings"),
            "by_species": by_species(self._index, self._species),
        }

    def unfinished(self) -> str:
        """What failed and may come another time."""
        failed = {kind: self._index.counts(kind).get("failed", 0) for kind in ("photos", "recordings")}
        causes = [f"{n:,} {kind}" for kind, n in failed.items() if n]
        causes += [f"{n:,} {what}" for what, n in self._index.unanswered().items() if n]
        if not causes:
            return ""
        return f"{' and '.join(causes)} failed for now: run the same command with --resume --retry-failed"

    def close(self) -> None:
        """Close files and connections; what was not acknowledged comes again, from the disk."""
        self._opened.close()

    def _ask_services(self, answers: Answers, key: str, limit: int | None) -> None:
        """The three services. Raises SourceError where Xeno-canto refuses the key, before anything else is asked."""
        settings = self._settings
        wish = Wish(policy(settings.licenses).allows, most_s=settings.max_recording_s)
        xeno_canto = Api(self._fetcher, answers, settings.xeno_canto, secrets={"key": key})
        wikipedia = Api(self._fetcher, answers, settings.wikipedia, most_bytes=MOST_BYTES)
        self._streams = Streams(
            self._fetcher, self._index, settings, self._folder / "files",
            XenoCanto(xeno_canto, wish, seed=settings.seed), Wikipedia(wikipedia),
            self._rows, min(self._rows, LEAST_RECORDINGS, limit or LEAST_RECORDINGS),
        )  # fmt: skip
        # One list shows whether the key is good, before an hour goes into the tables.
        for species in self._species[:1]:
            self._streams.list_one(species)

    def _guard(self) -> None:
        """Unfinished work was made with these settings, or it is not gone on with."""
        settings = self._settings
        which = {
            "seed": settings.seed, "licenses": sorted(policy(settings.licenses).ids), "min_side": settings.min_side,
            "photo_size": settings.photo_size, "rows": self._rows, "clip_seconds": settings.clip_seconds,
            "max_recording_s": settings.max_recording_s,
            "species": files.digest([s.scientific_name for s in self._species]),
        }  # fmt: skip
        recorded = self._index.fact("settings")
        if recorded is None:
            self._index.note("settings", which)
            self._index.commit()
        elif recorded != which:
            changed = ", ".join(k for k in which if which[k] != recorded.get(k))
            raise SourceError(
                f"the unfinished build was made with other settings ({changed}): give those, or delete the .partial "
                "folder to start over"
            )

    def _load(self, agent: str) -> None:
        """Join the tables, once; a changed one may not be mixed with what was chosen from the old one."""
        settings, index = self._settings, self._index
        if index.fact("loaded"):
            (self._folder / LOADED).touch()
            if settings.is_url:
                return
        tables = tables_of(settings, self._folder, agent, self._progress)
        stamps = {name: table.stamp() for name, table in tables.items()}
        if (loaded := index.fact("loaded")) is not None:
            # Copied tables have other times and the same bytes: only then are gigabytes hashed again.
            changed = not settings.is_url and loaded != stamps
            if changed and inaturalist.identities(tables) != index.fact("tables"):
                raise SourceError(
                    "the iNaturalist tables are others than in the unfinished build: put the former ones back, or "
                    "delete the .partial folder to start over"
                )
            return
        self._progress("join the tables", 0, 1)
        rules = inaturalist.PhotoRules(
            settings.seed, lambda text: policy(settings.licenses).allows(normalise(text)), min_side=settings.min_side
        )
        # All species are joined in every part: a photo of two is one of two, whoever does which.
        mine = {s.label for s in self._species}
        wanted = []
        for s in settings.species_list.taxonomy.species:
            ids = tuple(i for i in (s.inat_taxon_id, *s.former_inat_ids) if i is not None)
            names = (s.scientific_name, *s.synonyms)
            wanted.append(inaturalist.WantedSpecies(s.label, names, ids, s.label in mine))
        most = self._rows + self._rows // 4 + SPARES
        with inaturalist.Selection(tables, wanted, rules, self._folder / "join", settings.memory_mb) as selection:
            selected = selection.run()
            index.add_photos(selection.candidates(most))
        refused = Counter[str]()
        for (_, why, _), n in selected.refused.items():
            refused[why] += n
        totals = {
            "photos_that_may_be_taken": sum(selected.offered.values()),
            "photos_refused": dict(sorted(refused.items())),
            "duplicate_photo_ids": sum(selected.duplicates.values()),
            "lines_that_are_no_rows": dict(sorted(selected.bad_lines.items())),
        }
        index.note("found", totals)
        for name in ("taxa", "today", "duplicates", "offered"):
            index.note(name, getattr(selected, name))
        index.note("refused", [[*key, n] for key, n in sorted(selected.refused.items())])
        index.note("tables", inaturalist.identities(tables))
        index.note("loaded", stamps)
        index.commit()
        (self._folder / LOADED).touch()
        shutil.rmtree(self._folder / "join", ignore_errors=True)
        if settings.is_url:  # Gigabytes that nobody asks again.
            shutil.rmtree(self._folder / "tables", ignore_errors=True)
        self._progress("join the tables", 1, 1)

    def _record(self, arrival: Arrival) -> Photo | Recording:
        doc = json.loads(arrival.doc)
        species = self._settings.species_list.taxonomy.by_label(arrival.label).scientific_name
        if arrival.kind == "recordings":
            name = doc["locator"].rpartition("/")[2].partition(".")[0]
            return Recording(name, species, doc["locator"], name, Credit(**doc["credit"]))
        number = doc["photo_id"]
        record = {
            "inat_observer_login": doc["login"], "inat_observer_name": doc["author"],
            "inat_taxon_id": doc["taxon_id"],
            "inat_observation_url": f"https://www.inaturalist.org/observations/{doc['observation']}",
        }  # fmt: skip
        return Photo(
            id=f"inat-{number}",
            species=species,
            locator=f"photos/{number}/{self._settings.photo_size}.{doc['extension']}",
            observation=doc["observation"],
            credit=Credit(
                normalise(doc["license"]), doc["license"], doc["author"], f"https://www.inaturalist.org/photos/{number}"
            ),
            metadata=json.dumps(record, ensure_ascii=False, sort_keys=True),
        )

    def _require(self) -> None:
        """Stop where one half is missing altogether: the build would be empty."""
        for kind, what in (("photos", "photo"), ("recordings", "recording")):
            if not self._index.counts(kind).get("done", 0) and not any(a.kind == kind for _, a in self._pending):
                reasons = Counter(r.reason for r in self.absent())
                message = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items())) or "none was offered"
                raise SourceError(
                    f"not one {what} could be had ({message}): check --inat, --licenses and the species, or try again "
                    "with --resume --retry-failed"
                )


def _tidy(folder: Path) -> None:
    """After a start that failed: a folder in which nothing is of use the next time goes."""
    if not ((folder / "tables").exists() or (folder / LOADED).exists()):
        shutil.rmtree(folder, ignore_errors=True)


def check(settings: RawSettings) -> None:
    """Raise UsageError for settings that make no sense."""
    if not settings.inat:
        raise UsageError(
            "the inat-xc source needs the tables of iNaturalist Open Data: add --inat DIR, or "
            "--inat URL to download them"
        )
    if settings.photo_size not in SIZES:
        raise UsageError(f"--photo-size {settings.photo_size!r} is none of {', '.join(SIZES)}")
    if settings.per_species < 1 or settings.memory_mb < 64:
        raise UsageError("--per-species begins at 1, --memory at 64 MB")
    policy(settings.licenses)


# Their longer sides are 2048 px at most, 1024, 500 and 240; there are smaller ones, of no use to a network.
SIZES = ("original", "large", "medium", "small")


def fetcher_for(settings: RawSettings, ledger: Ledger, agent: str, sharing: int) -> Fetcher:
    """The fetcher of all three services, each at its pace."""
    paces = {
        settings.photos: Pace(settings.photos_per_second, 8),
        settings.xeno_canto: Pace(settings.recordings_per_second, 2),
        settings.wikipedia: Pace(settings.articles_per_second, 2),
    }
    politeness = Politeness(
        agent,
        per_minute=60,
        most_bytes=settings.most_bytes,
        paces={base: pace.shared(sharing) for base, pace in paces.items()},
        named=list(paces),
        allow_private=settings.allow_private,
        back_off_s=settings.back_off_s,
        timeout_s=settings.timeout_s,
        budget=Budget(),
    )
    return Fetcher(ledger, politeness)

"""One reading of the raw sources: the tables joined once, then three services asked at their own pace.

Everything that came, or will not come, stands in the index; a file is deleted once the build has it safe, and nothing
that is there is asked for again.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from birdmml.core import files
from birdmml.core.licenses import normalise, policy
from birdmml.core.pool import Progress
from birdmml.core.species import Species
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
from birdmml.sources.inat_xc.streams import Arrival, Articles, Need, Photos, Recordings, together
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
    """Photos and recordings as they come; see `birdmml.dataset.intake.SourceSession`."""

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
        self._settings, self._folder, self._tell = settings, folder, progress
        self.resumes = True
        self.turn: Callable[[], None] = lambda: None
        self._rows = min(settings.per_species, limit or settings.per_species)
        taxonomy = settings.species_list.taxonomy
        self._species = [s for s in taxonomy.species if part is None or part.takes(s.scientific_name)]
        self._whole = part is None or part.count == 1
        self._speaks = part is None or part.takes("")  # For all parts, of what all have seen.
        self._pending: deque[tuple[int, Arrival]] = deque()
        self._seq = 0
        agent, key = user_agent(settings.contact), key_from()
        with ExitStack() as stack:
            stack.callback(_tidy, folder)
            self._index = RawIndex(folder / "raw.sqlite")
            stack.callback(self._index.close)
            self._index.begin(retry_failed)
            ledger = Ledger(folder / "ledger.sqlite")
            stack.callback(ledger.close)
            answers = Answers(folder / "answers.sqlite")
            stack.callback(answers.close)
            if retry_failed:
                ledger.retry_failed()
                answers.retry_failed()
            self._fetcher = fetcher_for(settings, ledger, agent, part.sharing if part else 1)
            stack.callback(self._fetcher.close)
            self._streams(answers, key, limit)
            self._load(agent)
            self._opened = stack.pop_all()
        self.total: int | None = sum(
            min(self._rows, sum(self._index.held("photos", s.label).values())) for s in self._species
        )

    def __iter__(self) -> Iterator[Delivery]:
        streams = [iter(self._photos), iter(self._recordings), iter(self._articles)]
        for arrival in together(streams, self._fetcher.close):
            self._seq += 1
            self._pending.append((self._seq, arrival))
            yield Delivery(self._record(arrival), arrival.path.read_bytes(), self._seq)
        self._index.commit()
        if self._whole:
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

    def _streams(self, answers: Answers, key: str, limit: int | None) -> None:
        """The three services. Raises SourceError where Xeno-canto refuses the key, before anything else is asked."""
        settings, index, folder = self._settings, self._index, self._folder / "files"
        need = Need(self._rows, self._rows, settings.clip_seconds, min(self._rows, LEAST_RECORDINGS, limit or 1 << 30))
        wish = Wish(policy(settings.licenses).allows, most_s=settings.max_recording_s)
        xeno_canto = Api(self._fetcher, answers, settings.xeno_canto, secrets={"key": key})
        wikipedia = Api(self._fetcher, answers, settings.wikipedia, most_bytes=MOST_BYTES)
        service = XenoCanto(xeno_canto, wish, seed=settings.seed)
        labels = [s.label for s in self._species]
        self._photos = Photos(self._fetcher, index, settings.photos, settings.photo_size, folder, labels, need)
        self._recordings = Recordings(self._fetcher, index, service, folder, self._species, need)
        self._articles = Articles(index, Wikipedia(wikipedia), self._species)
        self._guard()
        if self._species:
            self._recordings.list_one(labels[0])

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
        tables = tables_of(settings, self._folder, agent, self._tell)
        stamps = {name: table.stamp() for name, table in tables.items()}
        if (loaded := index.fact("loaded")) is not None:
            if not settings.is_url and loaded != stamps:
                identities = {name: inaturalist.identity(table) for name, table in tables.items()}
                if identities != index.fact("tables"):
                    raise SourceError(
                        "the iNaturalist tables are others than in the unfinished build: put the former ones back, or "
                        "delete the .partial folder to start over"
                    )
            return
        self._tell("join the tables", 0, 1)
        rules = inaturalist.PhotoRules(
            settings.seed, lambda text: policy(settings.licenses).allows(normalise(text)), min_side=settings.min_side
        )
        # All species are joined in every part: a photo of two is one of two, whoever does which.
        mine = {s.label for s in self._species}
        wanted = [_wanted(s, s.label in mine) for s in settings.species_list.taxonomy.species]
        most = self._rows + self._rows // 4 + SPARES
        with inaturalist.Selection(tables, wanted, rules, self._folder / "join", settings.memory_mb) as selection:
            selected = selection.run()
            index.add_photos(selection.candidates(most))
        index.note("found", _selection_facts(selected))
        index.note("taxa", {str(k): v for k, v in selected.taxa.items()})
        index.note("today", {str(k): v for k, v in selected.today.items()})
        index.note("duplicates", {str(k): v for k, v in selected.duplicates.items()})
        index.note("offered", {str(k): v for k, v in selected.offered.items()})
        index.note("refused", [[*key, n] for key, n in sorted(selected.refused.items())])
        index.note("tables", {name: inaturalist.identity(table) for name, table in tables.items()})
        index.note("loaded", stamps)
        index.commit()
        (self._folder / LOADED).touch()
        shutil.rmtree(self._folder / "join", ignore_errors=True)
        if settings.is_url:  # Gigabytes that nobody asks again.
            shutil.rmtree(self._folder / "tables", ignore_errors=True)
        self._tell("join the tables", 1, 1)

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
                reasons: dict[str, int] = {}
                for r in self.absent():
                    reasons[r.reason] = reasons.get(r.reason, 0) + 1
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


# The longer side of each in px; the original is what was uploaded, at most 2048 px.
SIZES: Mapping[str, int] = {"original": 2048, "large": 1024, "medium": 500, "small": 240}


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


def _wanted(species: Species, mine: bool) -> inaturalist.WantedSpecies:
    ids = (species.inat_taxon_id,) if species.inat_taxon_id is not None else ()
    names = (species.scientific_name, *species.synonyms)
    return inaturalist.WantedSpecies(species.label, names, (*ids, *species.former_inat_ids), mine)


def _selection_facts(selected: inaturalist.TableCounts) -> dict[str, Any]:
    refused: dict[str, int] = {}
    for (_, why, _), n in selected.refused.items():
        refused[why] = refused.get(why, 0) + n
    return {
        "photos_that_may_be_taken": sum(selected.offered.values()),
        "photos_refused": dict(sorted(refused.items())),
        "duplicate_photo_ids": sum(selected.duplicates.values()),
        "lines_that_are_no_rows": dict(sorted(selected.bad_lines.items())),
    }

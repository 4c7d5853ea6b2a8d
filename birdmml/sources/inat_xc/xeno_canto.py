"""Recordings of a species from Xeno-canto's API v3: listed page by page, judged one by one, chosen by rule.

    service = XenoCanto(api, Wish(allows=policy.allows), seed=0)
    listing = service.listing(names_of(species))
    for take in listing.takes:
        fetch take.url to folder / take.recording.locator

Names there follow the IOC list: the scientific name is asked for first, then each synonym, then each English name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from birdmml.core.licenses import normalise
from birdmml.core.species import normalise as species_normalise
from birdmml.errors import SourceError, UsageError
from birdmml.fetch.api import Answer, Api
from birdmml.schema import Credit, Recording, Reject
from birdmml.sources.common import web_address
from birdmml.sources.inat_xc.wikipedia import SpeciesNames, plain

READINGS = 3
MOST_PAGES = 2000


class NoPages(Exception):
    """The list cannot be had, with the reason."""


class _Changed(Exception):
    """The list is another one than it was on an earlier page."""


@dataclass(frozen=True)
class Listed:
    """The records of a query, each number once, in the order of their numbers; `notes` are for the report."""

    records: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


Ask = Callable[[int, bool], Answer]


def read_all(ask: Ask) -> Listed:
    """Every page; `ask(page, fresh)` gives one. Raises NoPages.

    A list that changes while it is read (another count, a number twice, fewer than were said) is read anew, and
    after three readings taken as the sum of all, with a note.
    """
    # Recordings come in every hour, and each shifts the pages behind it: one could be missed, another come twice.
    everything: dict[str, dict[str, Any]] = {}
    for reading in range(READINGS):
        records: dict[str, dict[str, Any]] = {}
        try:
            _read(ask, reading > 0, records)
            return Listed(_sorted(records))
        except _Changed as e:
            change = str(e)
            everything |= records
    note = f"the list of Xeno-canto changed while it was read, {READINGS} times ({change}): what was seen is taken"
    return Listed(_sorted(everything), (note,))


def _read(ask: Ask, fresh: bool, records: dict[str, dict[str, Any]]) -> None:
    """One reading to the end, into `records`; raises _Changed where the pages did not fit together."""
    total, pages = 0, 1
    page, nameless, change = 0, 0, ""
    while page < pages:
        page += 1
        value = _value(ask(page, fresh), page)
        recordings, stated_pages = _number(value, "numRecordings"), _number(value, "numPages")
        if page > 1 and (recordings, stated_pages) != (total, pages):
            change = change or f"{total:,} recordings on {pages:,} pages became {recordings:,} on {stated_pages:,}"
        total, pages = recordings, stated_pages
        if pages > MOST_PAGES:
            raise NoPages(f"{pages:,} pages are more than a species can have")
        for record in value["recordings"]:
            key = _key(record)
            if not key:
                key, nameless = f"?{nameless}", nameless + 1
            if key in records:
                change = change or f"XC{key} stands there twice"
            records[key] = record if isinstance(record, dict) else {"id": None}
    if len(records) != total:
        change = change or f"{total:,} recordings were said, {len(records):,} came"
    if change:
        raise _Changed(change)


def _value(answer: Answer, page: int) -> dict[str, Any]:
    if not answer.ok:
        raise NoPages(f"page {page}: {answer.reason}")
    value = answer.value
    if not isinstance(value, dict) or not isinstance(value.get("recordings"), list):
        error = value.get("error") if isinstance(value, dict) else None
        message = f": {error!r:.120}" if error else ""
        raise NoPages(f"page {page} has no list of recordings{message}")
    if "page" in value and _number(value, "page") != page:
        raise NoPages(f"page {page} was asked for, page {value['page']!r:.20} came")
    return value


def _number(value: dict[str, Any], name: str) -> int:
    """A count; Xeno-canto writes some as text."""
    number = value.get(name)
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
        return int(number)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**9:
        return number
    raise NoPages(f"{name} is {number!r:.40}, not a number")


def _key(record: Any) -> str:
    """The number of a recording as text, "" where it has none."""
    number = record.get("id") if isinstance(record, dict) else None
    text = str(number) if isinstance(number, str | int) and not isinstance(number, bool) else ""
    return text if text.isascii() and text.isdigit() and len(text) <= 12 else ""


def _sorted(records: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(records[k] for k in sorted(records, key=lambda k: (len(k), k)))


RESTRICTED = "restricted_species"
_LENGTH = re.compile(r"(?:(\d{1,3}):)?(\d{1,4}):(\d{1,2}(?:\.\d{1,3})?)")
_EXTENSION = re.compile(r"\.(mp3|wav|flac|ogg|m4a|opus)\Z")


class UnreadableRecord(Exception):
    """A record that cannot even be read, in words."""


@dataclass(frozen=True)
class RecordingEntry:
    """One recording. `problem` (a slug and words) says why it cannot be used whatever is wished.

    `file` is where its bytes lie, `seconds` its length, `quality` A to E or "".
    """

    number: int
    species: str
    english: str
    credit: Credit
    file: str
    extension: str
    quality: str
    seconds: float
    problem: tuple[str, str] | None = None


def read_record(value: dict[str, Any], base: str) -> RecordingEntry:
    """A recording from its JSON; `base` is the service's address. Raises UnreadableRecord."""
    key = _key(value)
    if not key:
        raise UnreadableRecord(f"a recording whose id is {value.get('id')!r:.40}")
    number = int(key)
    file = web_address(value.get("file"), base)
    original = plain(value.get("lic"))
    page = web_address(value.get("url"), "https:") or f"https://xeno-canto.org/{number}"
    credit = Credit(normalise(original), original, plain(value.get("rec"), 200), page)
    quality = plain(value.get("q"), 20).upper()
    suffix = _EXTENSION.search(plain(value.get("file-name")).lower())
    length = value.get("length")
    seconds: float | None = None  # Of "m:ss" or "h:mm:ss"; none of anything else.
    match = _LENGTH.fullmatch(length.strip()) if isinstance(length, str) and length.isascii() else None
    if match and float(match[3]) < 60 and not (match[1] and int(match[2]) >= 60):
        seconds = 3600 * int(match[1] or 0) + 60 * int(match[2]) + float(match[3])
    return RecordingEntry(
        number=number,
        species=f"{plain(value.get('gen'), 100)} {plain(value.get('sp'), 100)}".strip(),
        english=plain(value.get("en"), 200),
        credit=credit,
        file=file,
        extension=suffix[0] if suffix else "",
        quality=quality if quality in tuple("ABCDE") else "",
        seconds=seconds or 0.0,
        problem=_problem(value, file, credit, seconds),
    )


def _problem(value: dict[str, Any], file: str, credit: Credit, seconds: float | None) -> tuple[str, str] | None:
    address = value.get("file")
    if address is None or address == "" or (isinstance(address, str) and RESTRICTED in address.casefold()):
        return "restricted", "its file is withheld, as for species that must be protected"
    if not file:
        return "bad_record", f"its file is {address!r:.80}, no web address"
    if not credit.author:
        return "no_author", "it names no recordist"
    if seconds is None:
        return "bad_record", f"its length is {value.get('length')!r:.40}, not m:ss"
    return None


XENO_CANTO = "https://xeno-canto.org"
KEY = "XENO_CANTO_KEY"
PATH = "/api/3/recordings"
QUALITIES = ("A", "B", "C", "D", "E", "")  # "" has no score.
PER_SECOND = 1.0  # What the service asks for.


@dataclass(frozen=True)
class Wish:
    """Which recordings may be taken. `allows` is asked with an SPDX id; lengths in seconds."""

    allows: Callable[[str], bool]
    qualities: tuple[str, ...] = QUALITIES
    least_s: float = 0.0
    most_s: float = 3600.0

    def __post_init__(self) -> None:
        if unknown := [q for q in self.qualities if q not in QUALITIES]:
            raise UsageError(f"quality {unknown[0]!r} is none of A, B, C, D, E and '' (not scored)")
        if not 0 <= self.least_s <= self.most_s:
            raise UsageError(f"recordings of {self.least_s:g} to {self.most_s:g} s: no length fits")


@dataclass(frozen=True)
class Take:
    """A recording that may be used: its record, where its bytes lie, and what the service says of it."""

    recording: Recording
    url: str
    quality: str
    seconds: float


@dataclass(frozen=True)
class SpeciesListing:
    """What the service has of one species.

    `takes` are those that may be used, in the order in which they are to be chosen.
    `rejects` are all others, each with its reason, or the one reason for which there is no list. `matched` is the
    name under which they were found and `by` the kind of that name ("" where none was); `notes` are for the report.
    """

    species: str
    takes: tuple[Take, ...] = ()
    rejects: tuple[Reject, ...] = ()
    matched: str = ""
    by: str = ""
    notes: tuple[str, ...] = ()


def key_from(environ: Mapping[str, str] = os.environ) -> str:
    """The user's key; raises UsageError, naming the variable, where there is none or it cannot be one."""
    key = environ.get(KEY, "").strip()
    if not key:
        raise UsageError(
            f"{KEY} is not set: Xeno-canto's API needs a key; sign in at {XENO_CANTO}, copy the key from your "
            f"account page, and export {KEY}"
        )
    if not (key.isascii() and key.isprintable()) or " " in key or not 8 <= len(key) <= 200:
        raise UsageError(f"{KEY} holds no key (8 to 200 letters, digits and signs): copy it again")
    return key


class XenoCanto:
    """The service behind `api`, which carries the key. `seed` decides which recordings are chosen of many."""

    def __init__(self, api: Api, wish: Wish, *, seed: int = 0, per_page: int = 500) -> None:
        if not 50 <= per_page <= 500:
            raise UsageError(f"{per_page} recordings a page: Xeno-canto gives 50 to 500")
        self._api, self._wish, self._seed, self._per_page = api, wish, seed, per_page

    def listing(self, names: SpeciesNames) -> SpeciesListing:
        """What there is of a species.

        A service that does not answer as it should gives a listing with that one reject. Raises SourceError where
        the key is refused, BuildError and Stopped as `Api.get` does.
        """
        where = f"xeno-canto: {names.scientific}"
        queries: list[str] = []
        earlier: tuple[Reject, ...] = ()
        for name, by, query in _queries(names):
            try:
                listed = read_all(partial(self._page, query))
            except NoPages as e:
                failed = Reject(where, "list_failed", f"{name}: {e}", absent=True, species=names.scientific)
                return SpeciesListing(names.scientific, rejects=(*earlier, failed))
            listing = self._judged(names, name, by, listed)
            earlier += listing.rejects
            if listing.matched:
                return replace(listing, rejects=earlier)
            queries.append(name)
        detail = f"no recordings under {', '.join(queries)}" if queries else "no name that can be asked for"
        none = Reject(where, "no_recordings", detail, absent=True, species=names.scientific)
        return SpeciesListing(names.scientific, rejects=(*earlier, none))

    def _page(self, query: str, page: int, fresh: bool) -> Answer:
        params = {"query": query, "page": str(page), "per_page": str(self._per_page)}
        answer = self._api.get(PATH, params, fresh=fresh)
        if answer.code in (401, 403) and not answer.ok:
            raise SourceError(
                f"Xeno-canto refuses the key in {KEY} ({answer.reason}): copy it again from your account page at "
                f"{XENO_CANTO}, then run the same command; it goes on from what is there"
            )
        return answer

    def _judged(self, names: SpeciesNames, name: str, by: str, listed: Listed) -> SpeciesListing:
        """The recordings of the species among those listed; none of it at all gives an empty listing."""
        recordings: list[RecordingEntry] = []
        others: list[RecordingEntry] = []
        rejects: list[Reject] = []
        rejected = partial(Reject, absent=True, species=names.scientific)
        for value in listed.records:
            try:
                record = read_record(value, self._api.base)
            except UnreadableRecord as e:
                rejects.append(rejected("xeno-canto", "bad_record", str(e)))
                continue
            if by == "English name":
                same = species_normalise(record.english) == species_normalise(name)
            else:
                same = record.species.casefold() == name.casefold()
            (recordings if same else others).append(record)
        if by == "English name" and len({r.species for r in recordings}) > 1:
            kinds = ", ".join(sorted({r.species for r in recordings}))
            detail = f"{name} is the English name of {kinds}: which is meant cannot be known"
            rejects.append(rejected(f"xeno-canto: {name}", "ambiguous_name", detail))
            return SpeciesListing(names.scientific, rejects=tuple(rejects))
        if not recordings:
            return SpeciesListing(names.scientific, rejects=tuple(rejects))
        takes = []
        for record in recordings:
            number = f"XC{record.number}"
            if unfit := self._unfit(record):
                rejects.append(rejected(number, *unfit))
            else:
                locator = f"xeno-canto/{record.number % 1000:03d}/{number}{record.extension}"
                recording = Recording(number, names.scientific, locator, number, record.credit)
                takes.append(Take(recording, record.file, record.quality, record.seconds))
        for record in others:
            detail = f"it is of {record.species}, not of {name}"
            rejects.append(rejected(f"XC{record.number}", "other_species", detail))
        takes.sort(key=self._order)
        matched = name if by != "English name" else recordings[0].species
        notes = [*listed.notes]
        if by != "scientific name":
            notes.append(f"{names.scientific}: found on Xeno-canto as {matched}, by its {by} {name}")
        rejects.sort(key=lambda r: (r.path, r.reason, r.detail))
        return SpeciesListing(names.scientific, tuple(takes), tuple(rejects), matched, by, tuple(notes))

    def _unfit(self, record: RecordingEntry) -> tuple[str, str] | None:
        """Why a recording may not be taken: a slug and words."""
        wish, credit = self._wish, record.credit
        if record.problem:
            return record.problem
        if not wish.allows(credit.license):
            shown = credit.license if credit.license != "unknown" else f"unknown ({credit.license_original!r:.80})"
            return "license", f"its licence is {shown}"
        if record.quality not in wish.qualities:
            return "quality", f"its quality is {record.quality or 'not scored'}"
        if not wish.least_s <= record.seconds <= wish.most_s:
            return "length", f"it is {record.seconds:g} s long, wanted are {wish.least_s:g} to {wish.most_s:g} s"
        return None

    def _order(self, take: Take) -> tuple[int, bytes]:
        """Better quality first; within one, an order that only the seed and the number decide."""
        # Python's own hash differs from run to run, and its random numbers may from version to version.
        chance = hashlib.sha256(f"{self._seed}:{take.recording.id}".encode()).digest()
        return QUALITIES.index(take.quality), chance


def _queries(names: SpeciesNames) -> Iterator[tuple[str, str, str]]:
    """Each name to ask for, its kind, and the tagged query."""
    for name in names.binomials:
        genus, species = name.split(" ")
        kind = "scientific name" if name == names.scientific else "synonym"
        yield name, kind, f"gen:{genus} sp:{species} grp:birds"
    for name in names.english:
        # Several words stand in quotes, which none of them may hold.
        words = " ".join(name.replace('"', " ").split())
        value = f'"{words}"' if " " in words or ":" in words else words
        yield name, "English name", f"en:{value} grp:birds"

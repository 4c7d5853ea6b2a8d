"""Recordings of a species from Xeno-canto's API v3: listed page by page, judged one by one, chosen by rule.

    service = XenoCanto(api, Wish(allows=policy.allows), seed=0)
    listing = service.listing(names_of(species), most=1000)
    for take in listing.takes:
        fetch take.url to folder / take.recording.locator

Names there follow the IOC list: the scientific name is asked for first, then each synonym, then each English name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from birdmml.errors import SourceError, UsageError
from birdmml.fetch.api import Answer, Api
from birdmml.schema import Recording, Reject
from birdmml.sources._names import Names
from birdmml.sources._xeno_canto_pages import Listed, NoPages, read_all
from birdmml.sources._xeno_canto_record import Found, Unfit, read_record
from birdmml.taxonomy import normalise

XENO_CANTO = "https://xeno-canto.org"
KEY = "XENO_CANTO_KEY"
PATH = "/api/3/recordings"
QUALITIES = ("A", "B", "C", "D", "E", "")  # "" has no score.
PER_SECOND = 1.0  # What the service asks for.


@dataclass(frozen=True)
class Wish:
    """Which recordings may be taken. `allows` is asked with an SPDX id; lengths in seconds.

    `types` (song, call, ...) takes a recording that has any of them, none given takes all; with `alone` one in
    whose background other species are named is left out.
    """

    allows: Callable[[str], bool]
    qualities: tuple[str, ...] = QUALITIES
    least_s: float = 0.0
    most_s: float = 3600.0
    types: tuple[str, ...] = ()
    alone: bool = False

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
    types: tuple[str, ...]
    also: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """What the service has of one species.

    `takes` are those chosen, `spares` the rest that may be used, in the order in which they would be chosen.
    `rejects` are all others, each with its reason, or the one reason for which there is no list. `matched` is the
    name under which they were found and `by` the kind of that name ("" where none was); `notes` are for the report.
    """

    species: str
    takes: tuple[Take, ...] = ()
    spares: tuple[Take, ...] = ()
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

    def listing(self, names: Names, most: int) -> Listing:
        """What there is of a species, at most `most` of it chosen.

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
                return Listing(names.scientific, rejects=(*earlier, failed))
            listing = self._judged(names, name, by, listed, most)
            earlier += listing.rejects
            if listing.matched:
                return replace(listing, rejects=earlier)
            queries.append(name)
        detail = f"no recordings under {', '.join(queries)}" if queries else "no name that can be asked for"
        none = Reject(where, "no_recordings", detail, absent=True, species=names.scientific)
        return Listing(names.scientific, rejects=(*earlier, none))

    def _page(self, query: str, page: int, fresh: bool) -> Answer:
        params = {"query": query, "page": str(page), "per_page": str(self._per_page)}
        answer = self._api.get(PATH, params, fresh=fresh)
        if answer.code in (401, 403) and not answer.ok:
            raise SourceError(
                f"Xeno-canto refuses the key in {KEY} ({answer.reason}): copy it again from your account page at "
                f"{XENO_CANTO}, then run the same command; it goes on from what is there"
            )
        return answer

    def _judged(self, names: Names, name: str, by: str, listed: Listed, most: int) -> Listing:
        """The recordings of the species among those listed; none of it at all gives an empty listing."""
        recordings: list[Found] = []
        others: list[Found] = []
        rejects: list[Reject] = []
        for value in listed.records:
            try:
                record = read_record(value, self._api.base)
            except Unfit as e:
                rejects.append(Reject(e.where, e.reason, e.detail, absent=True, species=names.scientific))
                continue
            (recordings if _is(record, name, by) else others).append(record)
        if by == "English name" and len({r.species for r in recordings}) > 1:
            kinds = ", ".join(sorted({r.species for r in recordings}))
            detail = f"{name} is the English name of {kinds}: which is meant cannot be known"
            reject = Reject(
                f"xeno-canto: {name}", "ambiguous_name", detail, absent=True, species=names.scientific
            )
            return Listing(names.scientific, rejects=(*rejects, reject))
        if not recordings:
            return Listing(names.scientific, rejects=tuple(rejects))
        takes = []
        for record in recordings:
            if unfit := self._unfit(record):
                rejects.append(Reject(f"XC{record.number}", *unfit, absent=True, species=names.scientific))
            else:
                takes.append(self._take(record, names.scientific))
        for record in others:
            detail = f"it is of {record.species}, not of {name}"
            rejects.append(
                Reject(f"XC{record.number}", "other_species", detail, absent=True, species=names.scientific)
            )
        takes.sort(key=self._order)
        matched = name if by != "English name" else recordings[0].species
        notes = [*listed.notes]
        if by != "scientific name":
            notes.append(f"{names.scientific}: found on Xeno-canto as {matched}, by its {by} {name}")
        rejects.sort(key=lambda r: (r.path, r.reason, r.detail))
        return Listing(
            names.scientific,
            tuple(takes[:most]),
            tuple(takes[most:]),
            tuple(rejects),
            matched,
            by,
            tuple(notes),
        )

    def _unfit(self, record: Found) -> tuple[str, str] | None:
        """Why a recording may not be taken: a slug and words."""
        wish, credit = self._wish, record.credit
        if record.problem:
            return record.problem
        if not wish.allows(credit.license):
            shown = (
                credit.license
                if credit.license != "unknown"
                else f"unknown ({credit.license_original!r:.80})"
            )
            return "license", f"its licence is {shown}"
        if record.quality not in wish.qualities:
            return "quality", f"its quality is {record.quality or 'not scored'}"
        if not wish.least_s <= record.seconds <= wish.most_s:
            return (
                "length",
                f"it is {record.seconds:g} s long, wanted are {wish.least_s:g} to {wish.most_s:g} s",
            )
        if wish.types and not {t.casefold() for t in record.types} & {t.casefold() for t in wish.types}:
            return "type", f"it is of type {', '.join(record.types) or 'unknown'}"
        if wish.alone and record.also:
            return "background", f"also heard: {', '.join(record.also)[:200]}"
        return None

    def _take(self, record: Found, species: str) -> Take:
        name = f"XC{record.number}"
        locator = f"xeno-canto/{record.number % 1000:03d}/{name}{record.extension}"
        recording = Recording(name, species, locator, name, record.credit)
        return Take(recording, record.file, record.quality, record.seconds, record.types, record.also)

    def _order(self, take: Take) -> tuple[int, bytes]:
        """Better quality first; within one, an order that only the seed and the number decide."""
        chance = hashlib.sha256(f"{self._seed}:{take.recording.id}".encode()).digest()
        return QUALITIES.index(take.quality), chance


def _queries(names: Names) -> Iterator[tuple[str, str, str]]:
    """Each name to ask for, its kind, and the tagged query."""
    for name in names.binomials:
        genus, species = name.split(" ")
        kind = "scientific name" if name == names.scientific else "synonym"
        yield name, kind, f"gen:{genus} sp:{species} grp:birds"
    for name in names.english:
        yield name, "English name", f"en:{_quoted(name)} grp:birds"


def _quoted(text: str) -> str:
    """A value of a tag; several words stand in quotes, which none of them may hold."""
    text = " ".join(text.replace('"', " ").split())
    return f'"{text}"' if " " in text or ":" in text else text


def _is(record: Found, name: str, by: str) -> bool:
    if by == "English name":
        return normalise(record.english) == normalise(name)
    return record.species.casefold() == name.casefold()

"""All pages of one query to Xeno-canto, read until they fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from birdmml.fetch.api import Answer

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
    everything: dict[str, dict[str, Any]] = {}
    change = ""
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
            change = (
                change or f"{total:,} recordings on {pages:,} pages became {recordings:,} on {stated_pages:,}"
            )
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

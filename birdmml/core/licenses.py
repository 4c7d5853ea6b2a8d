"""Licences as SPDX ids, from the spellings of iNaturalist, Xeno-canto, Wikipedia and SPDX; never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from birdmml.errors import UsageError

UNKNOWN_LICENSE = "unknown"
DEFAULT = "default"
_TERMS = ("BY", "BY-SA", "BY-NC", "BY-NC-SA", "BY-ND", "BY-NC-ND")
_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
# Creative Commons published no BY-NC-ND 1.0: its first version was named by-nd-nc.
_KNOWN = {f"CC-{t}-{v}" for t in _TERMS for v in _VERSIONS} - {"CC-BY-NC-ND-1.0"} | {"CC0-1.0"}

_SHORT = re.compile(r"(?:cc[- ])?(by(?:-(?:nc|sa|nd))*)", re.IGNORECASE)
_SPDX = re.compile(r"cc[- ](by(?:-(?:nc|sa|nd))*)[- ](\d\.\d)", re.IGNORECASE)
_ZERO = re.compile(r"cc-?0(?:[- ]1\.0)?|cc-zero(?:-1\.0)?", re.IGNORECASE)
_PREFIX = r"(?:https?:)?//(?:www\.)?creativecommons\.org/"
_SUFFIX = r"(?:/(?:deed|legalcode)(?:\.[a-z_-]{2,8})?)?/?"
_URL = re.compile(rf"{_PREFIX}licenses/(by(?:-(?:nc|sa|nd))*)/(\d\.\d){_SUFFIX}", re.IGNORECASE)
_ZERO_URL = re.compile(rf"(?:{_PREFIX})?publicdomain/zero/1\.0{_SUFFIX}", re.IGNORECASE)


def normalise(text: str | None) -> str:
    """The SPDX id of a Creative Commons licence (`CC-BY-NC-4.0`, `CC0-1.0`), or `unknown`.

    Reads iNaturalist's short forms (`CC-BY-NC`, `by-nc`: version 4.0), licence URLs with or without a scheme, and
    SPDX ids in any case. Anything else, and any version or combination of terms that does not exist, is `unknown`.
    """
    text = (text or "").strip()
    if _ZERO.fullmatch(text) or _ZERO_URL.fullmatch(text):
        return "CC0-1.0"
    match = _SPDX.fullmatch(text) or _URL.fullmatch(text) or _SHORT.fullmatch(text)
    # Only iNaturalist writes no version, and means the newest.
    terms, version = (*match.groups(), "4.0")[:2] if match else ("", "")
    spdx = f"CC-{terms.upper()}-{version}"
    return spdx if spdx in _KNOWN else UNKNOWN_LICENSE


@dataclass(frozen=True)
class Policy:
    """Which licences may enter a dataset, or leave in one. `ids` are SPDX ids; none: all known that allow derivatives.

    A clip is cut and resampled, a photo scaled, a caption rewritten without names: each is a derivative, which an ND
    licence does not allow to be passed on. A rights holder's own permission is told by naming the licence. `text` is
    what would be given to --licenses.
    """

    ids: frozenset[str] = frozenset()
    text: str = DEFAULT

    def why_not(self, spdx: str) -> str:
        """Why something under this licence may not be taken; "" where it may. `unknown`, or no SPDX id, never may."""
        if spdx not in _KNOWN:
            return "unknown licence"
        if not self.ids:
            return "forbids derivatives" if "-ND-" in spdx else ""
        return "" if spdx in self.ids else "not among --licenses"

    def allows(self, spdx: str) -> bool:
        """Whether something under this licence (an SPDX id or `unknown`) may be taken."""
        return not self.why_not(spdx)


def policy(text: str = "") -> Policy:
    """The policy of a list of SPDX ids and families (`CC0,CC-BY,CC-BY-NC-4.0`); the default of "" and `default`.

    A family stands for its versions and not for its relatives: CC-BY holds no CC-BY-NC. Raises UsageError.
    """
    words = [w for w in (w.strip() for w in text.split(",")) if w]
    if [w.casefold() for w in words] in ([], [DEFAULT]):
        return Policy()
    ids: set[str] = set()
    classes: set[str] = set()
    for word in words:
        if normalise(word) == UNKNOWN_LICENSE:
            raise UsageError(
                f"--licenses: {word[:60]!r} is no Creative Commons licence: give SPDX ids or families such as "
                "CC0,CC-BY,CC-BY-NC-4.0 (what has no known licence is not taken: ask its author)"
            )
        match = _SHORT.fullmatch(word)
        family = f"CC-{match[1].upper()}" if match else "CC0" if word.upper() == "CC0" else ""
        ids |= {k for k in _KNOWN if k[:-4] == family} if family else {normalise(word)}
        classes.add(family or normalise(word))
    return Policy(frozenset(ids), ",".join(sorted(classes)))

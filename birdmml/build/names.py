"""Captions without the name of their bird: what is replaced by "the bird", and how much of it there was.

What gives a species away, and goes (in any case, with hyphens, spaces or nothing between words, straight or curly
apostrophes, grey or gray, singular or plural; full-width letters, accents and soft hyphens do not hide a name):

- its English names, scientific names and eBird codes, older ones included;
- "S. coronata", and genus or epithet alone, unless the word is English too (minor, spatula-shaped);
- the head noun, with any of the name's other words before it (warbler, rumped warbler, blue heron); where it is also
  an everyday word (swallow, rail, teal) it goes alone only where it is clearly the bird: "a swallow perched";
- compounds of a body part (yellow-rumped, red-tail), eponyms (Cooper's, and Cooper with a capital), words that hardly
  occur elsewhere (pileated, semipalmated), and places that ranges seldom name (Baltimore, Cape May, Carolina but
  not North Carolina).

What stays: the name's ordinary words alone (song, house, great, blue, American, hooded), places that ranges do name
(Canada, California), "a yellow rump", and the names of other birds. The rules read any name, so birds outside the
taxonomy work as well (`Names`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from birdmml.build.name_patterns import Names, fold, letters, names_of, pattern
from birdmml.taxonomy import Species

__all__ = ["Matches", "Names", "name_free", "name_matches", "names_of"]

_WINDOW = 64
_ONES = "a an the this that its his her their my our your each every another one any no some which".split()
_BEFORE_NOUNS = ("of", "with", "for", "like", "by")
_MANIES = "these those two three four five six many several few both some all various".split()
_ADJECTIVES = (
    "small large big tiny little young old adult male female juvenile immature wild beautiful pretty colorful "
    "colourful lone single solitary black white brown gray grey blue red yellow green orange and"
).split()
# After these words a bird begins afresh ("of the bird"); after others it ends what they began ("male bird").
_FRESH = frozenset(
    "of in on at by with from to for near like than and or but nor is are was were be been has have had between among "
    "into onto over under behind beside besides above below against toward towards around through across per via "
    "versus vs when where while because if unlike as called named known aka featuring showing depicting shows "
    "features depicts seen saw see photographing capturing including includes also then so about once "
    "formerly now only just even not without after before during within since until".split()
)
_FOLLOWS = re.compile(
    r"\s{0,3}(?:$|[.,;:!?)\]\"'])|\s{1,3}(?!birds?\b)(?:is|are|was|were|has|have|had|with|without|in|on|at|near|by|and|"
    r"or|that|which|who|from|under|over|can|flies|flying|fly|sits?|[a-z]{2,20}ing|perched|seen)\b",
    re.IGNORECASE,
)
_LOOKS = rf"(?:(?:{'|'.join(_ADJECTIVES)})\s{{1,3}}){{0,3}}"
_LICENSED = re.compile(
    rf"(?:^|[.!?:\n]\s{{0,3}}|\b(?:{'|'.join([*_ONES, *_MANIES, *_BEFORE_NOUNS])})\s{{1,3}}{_LOOKS})$",
    re.IGNORECASE,
)
# Where a bird sits is seldom a bird: "on a rail".
_PERCH = re.compile(
    rf"\b(?:on|onto|over|along|behind|against|top of)\s{{1,3}}(?:an?|the|its|their)\s{{1,3}}{_LOOKS}$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?:[.!?][\"')\]]{0,2}\s{1,5}|\n\s{0,5})$")
# A capital article may begin here; a capital name says nothing, names have capitals everywhere.
_CLAUSE = re.compile(r"(?::\s{1,3}|[\"(]\s?)$")
_ARTICLE = re.compile(r"(?<!\w)(?:(an?|the)\s{1,3}){1,9}$", re.IGNORECASE)
_LEAD = re.compile(r"(?<!\w)birds?[ ]$", re.IGNORECASE)
_SOME_OF = re.compile(
    r"\b(?:pair|couple|flock|group|number|colony|lot|lots|dozens|hundreds|thousands|species|type|kind) of\s{1,3}$",
    re.IGNORECASE,
)
# "the mallard duck", "Killdeer plovers": a kind said after a name names the same bird.
_TRAIL = re.compile(r"[ ](?:bird|duck|goose|plover|sandpiper|rail|finch|warbler|gull)(s?)\b", re.IGNORECASE)
_LAST_WORD = re.compile(r"([\w']{1,40}|[)\]])\s{1,3}$")
_BARE_APOSTROPHE = re.compile(r"'(?!\w)")
# "a small, " and "a black and ", whose end goes with the name.
_OPEN_PHRASE = re.compile(
    rf"\ban?\s{{1,3}}(?:[\w-]{{1,30}}(?:,?\s{{1,3}}[\w-]{{1,30}})?(?=,)|(?:{'|'.join(_ADJECTIVES)})(?=\sand))"
    r"(,\s{1,3}|\sand\s{1,3})$",
    re.IGNORECASE,
)
_ARE = re.compile(r"\s{1,3}(?:are|were|have)\b", re.IGNORECASE)
_BESIDE = re.compile(r"[ \t_/-]{1,3}|,?\s(?:or|aka|a\.k\.a\.)\s(?:(?:an?|the)\s)?", re.IGNORECASE)
_OPENS, _CLOSES = re.compile(r"\s{0,2}[(\[][\s*_\"]{0,2}"), re.compile(r"[\s*_\"]{0,2}[)\]]")
_COMMA, _COMMA_ON = re.compile(r",\s"), re.compile(r",\s[a-z]")


@dataclass(frozen=True)
class Matches:
    """What a text says of its species: a whole English name, a scientific name, something else that gives it away."""

    common: bool
    scientific: bool
    part: bool


@dataclass(frozen=True)
class _Found:
    """A name, or several of one bird that belong together, at [start, end) of the folded text."""

    start: int
    end: int
    kind: str
    plural: bool


def name_free(text: str, species: Species | Names) -> str:
    """`text` with everything that names the species replaced by "the bird", its articles and numbers kept right.

    A text without a name comes back as it was; a second pass changes nothing. Takes time linear in the text.
    """
    folded, origin = fold(text)
    pieces, done, floor = [], 0, 0
    for found in _joined(folded, _find(folded, species)):
        start, floor, words = _rewrite(folded, found, floor)
        pieces += [text[done : _place(origin, start, text)], words]
        done = _place(origin, floor, text)
    return "".join([*pieces, text[done:]]) if pieces else text


def name_matches(text: str, species: Species | Names) -> Matches:
    """Which kinds of names `text` holds; all False exactly where `name_free` leaves it as it is."""
    kinds = {found.kind for found in _find(fold(text)[0], species)}
    return Matches("c" in kinds, "s" in kinds, "p" in kinds)


def _place(origin: list[int] | None, index: int, text: str) -> int:
    """Where index of the folded text lies in the text; dropped marks belong to the letter before them."""
    if origin is None:
        return index
    return origin[index] if index < len(origin) else len(text)


def _find(text: str, species: Species | Names) -> Iterator[_Found]:
    """Every name in the folded text, in order, with its kind: c(ommon), s(cientific) or p(art)."""
    regex, plurals = pattern(species if isinstance(species, Names) else names_of(species))
    for match in regex.finditer(text) if regex else ():
        kind = match.lastgroup or ""
        if kind == "o" and not _means_the_bird(text, match.start(), match.end()):
            continue
        plural = _ends_in(letters(match[0]), plurals)
        yield _Found(match.start(), match.end(), "p" if kind == "o" else kind, plural and kind != "s")


def _ends_in(letters: str, plurals: frozenset[str]) -> bool:
    return any(letters.endswith(p) for p in plurals)


def _left(text: str, index: int, floor: int = 0) -> str:
    """What comes before `index` and after `floor`, where the last name ended; a mark stands for what is cut off."""
    floor = max(floor, index - _WINDOW)
    return "\x00" + text[floor:index] if floor else text[:index]


def _means_the_bird(text: str, start: int, end: int) -> bool:
    """Whether an everyday word is the bird here: "a small swallow perched", not "swallow insects"."""
    left = _left(text, start)
    return bool(_LICENSED.search(left) and not _PERCH.search(left) and _FOLLOWS.match(text, end))


def _joined(text: str, found: Iterator[_Found]) -> Iterator[_Found]:
    """Names that stand together as one: adjacent, joined by "or", in brackets, or as an apposition."""
    one: _Found | None = None
    for after in found:
        if one and (end := _together(text, one, after)):
            one = _Found(one.start, end, after.kind, one.plural or after.plural)
            continue
        if one:
            yield one
        one = after
    if one:
        yield one


def _together(text: str, one: _Found, after: _Found) -> int | None:
    """Where two names end if they are one; None if they are two."""
    gap = text[one.end : after.start]
    if len(gap) > 12:
        return None
    if _OPENS.fullmatch(gap) and (close := _CLOSES.match(text, after.end)):
        return close.end()
    if _BESIDE.fullmatch(gap) or (_COMMA.fullmatch(gap) and "s" in (one.kind, after.kind)):
        # The comma that closes an apposition goes with the one that opened it.
        return after.end + (gap[0] == "," and bool(_COMMA_ON.match(text, after.end)))
    return None


def _rewrite(text: str, found: _Found, floor: int) -> tuple[int, int, str]:
    """What to replace, from where to where, and by which words; nothing before `floor` is touched."""
    start, end, plural = found.start, found.end, found.plural
    if trail := _TRAIL.match(text, end):
        end, plural = trail.end(), bool(trail[1])
    if lead := _LEAD.search(_left(text, start, floor)):
        start -= len(lead[0])
    left = _left(text, start, floor)
    article = _ARTICLE.search(left)
    plural = plural or _is_many(text, left, end, bool(article))
    noun = "birds" if plural else "bird"
    if text[end - 1] in "sS" and not plural and _BARE_APOSTROPHE.match(text, end):
        noun, end = "bird's", end + 1
    if article:
        start -= len(article[0])
        if text[end : end + 1] == "-" and article[1].casefold() != "the":
            return start, end, f"{'A' if article[1][0].isupper() else 'a'} {noun}"
    elif not plural and (opened := _OPEN_PHRASE.search(left)):
        return start - len(opened[1]), end, f" {noun}"
    elif _continues(left):
        return start, end, noun
    before = _left(text, start, floor)
    begins = not before.strip() or _SENTENCE.search(before) or (article and _CLAUSE.search(before))
    upper = begins and text[start].isupper()
    return start, end, f"{'The' if upper else 'the'} {noun}"


def _is_many(text: str, left: str, end: int, article: bool) -> bool:
    """Whether the words around say that there are several ("two killdeer", "a pair of teal", "killdeer are")."""
    if _last_word(left) in _MANIES or _SOME_OF.search(left):
        return True
    return not article and bool(_ARE.match(text, end))


def _continues(left: str) -> bool:
    """Whether the words before belong to the bird ("a small", "this", "male"), so that it needs no article."""
    if left[-1:] and left[-1] in "-#@_/.=&%+":
        return True
    return bool(_SOME_OF.search(left)) or (_last_word(left) or "of") not in _FRESH


def _last_word(left: str) -> str:
    """The word just before, lower case, "" where there is none; a closed bracket counts as one."""
    found = _LAST_WORD.search(left)
    return found[1].casefold() if found else ""

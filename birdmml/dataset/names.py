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
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from birdmml.core.species import Species


@dataclass(frozen=True)
class BirdNames:
    """What one bird is called; enough to free a text of a species that the taxonomy lacks."""

    english: tuple[str, ...]
    scientific: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


def names_of(species: Species) -> BirdNames:
    """The names of a species of the taxonomy; lower-case words among its other names are retired codes."""
    others = (species.common_name, *species.other_names)
    english = [n for n in others if not n.islower()]
    if species.vb100_class:
        english.append(species.vb100_class.replace("_", " "))
    codes = (species.ebird_code, *(n for n in others if n.islower()))
    return BirdNames(tuple(english), (species.scientific_name, *species.synonyms), codes)


def fold(text: str) -> tuple[str, list[int] | None]:
    """Plain letters, hyphens and apostrophes for `text`, and where each came from (None: nothing changed)."""
    if text.isascii():
        return text, None
    pieces, origin = [], []
    for index, char in enumerate(text):
        plain = char if char.isascii() else _plain(char)
        pieces.append(plain)
        origin += [index] * len(plain)
    return "".join(pieces), origin


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    category = unicodedata.category(char)
    if char in "\u2018\u2019\u201b\u02bc\u00b4\u2032\uff07":
        return "'"
    if category == "Pd" or char == "\u2212":
        return "-"
    if category in ("Mn", "Cf"):  # Accents standing alone, soft hyphens, joiners.
        return ""
    plain = "".join(c for c in unicodedata.normalize("NFKD", char) if unicodedata.category(c) != "Mn")
    return " " if category == "Zs" else plain


# Bounded everywhere: no run of spaces or words makes a search quadratic.
_GAP = r"[\s_-]{1,3}"
_GAP0 = r"[\s_-]{0,3}"
_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"

_NEVER = frozenset("a an the and of or bird birds s".split())
_EVERYDAY_HEADS = frozenset(
    "swallow swift flicker rail teal hermit stilt skimmer duck dove kite crane roller creeper diver loon runner knot "
    "snipe turkey tit crow darter trumpeter parson".split()
)
_GIVEAWAYS = frozenset("pileated semipalmated fulvous tricolored calliope hudsonian kentish cordilleran".split())
_PLACES = ("Baltimore", "Cape May", "Carolina", "Nashville", "Philadelphia", "Pacific-slope")
# English words and regions among the scientific ones: never alone, or only as Latin is written.
_EVERYDAY_EPITHETS = frozenset("minor major media minima maxima".split())
_LOWER_EPITHETS = frozenset("niger rufus carolina americana".split())
_EVERYDAY_GENERA = frozenset("spatula".split())
_TAILS = "bird finch hawk catcher thrush lark eye legs bill stone hatch sucker pecker mouse beak poll start".split()
_COLOURS = frozenset("black blue red yellow brown white green gray grey".split())
_SPELLINGS = {"canada": "canad(?:a|ian)", "california": "californian?", "virginia": "virginian?"}
_PLURALS = {"goose": "geese", "titmouse": "titmice"}


@lru_cache(maxsize=512)
def pattern(names: BirdNames) -> tuple[re.Pattern[str] | None, frozenset[str]]:
    """One regex for all that names the bird (groups s, c, o, p by kind), and the plural forms of its nouns."""
    english = [words for name in names.english if (words := _words(name))]
    # The noun is the last word, of "Whistling-Duck" its last part, of "Whip-poor-will" all of it.
    lasts = [(words[-1], words[-1].split("-")[-1]) for words in english if len(words) > 1]
    nouns = [part if part[:1].isupper() else word for word, part in lasts]
    heads = {noun.casefold() for noun in nouns if letters(noun) not in _NEVER and len(letters(noun)) >= 3}
    codes = [re.escape(c) for code in names.codes if (c := code.strip()[:40]) and letters(c) not in _NEVER]
    groups = {
        "s": [p for name in names.scientific for p in _binomial(name)],
        "c": [_full(words) for words in sorted(english, key=lambda w: -len("".join(w)))],
        "p": [*_phrases(english, heads), *_modifiers(english), *codes, *_latin(names.scientific)],
        "o": [_noun(h) for h in sorted(heads & _EVERYDAY_HEADS)],
    }
    plurals = frozenset(letters(p) for noun in {*heads, *(w[-1].casefold() for w in english)} for p in _plural(noun))
    options = [f"(?P<{kind}>{'|'.join(some)})" for kind, some in groups.items() if some]
    if not options:
        return None, plurals
    return re.compile(f"{_BEFORE}(?:{'|'.join(options)}){_AFTER}", re.IGNORECASE), plurals


def _words(name: str) -> tuple[str, ...]:
    """The words of a name, its spelling kept; () for one that says nothing, or too much to be a name."""
    words = tuple(w for w in re.split(r"[\s_]+", fold(name)[0][:100]) if letters(w))
    return () if {letters(w) for w in words} <= _NEVER else words


def letters(word: str) -> str:
    """The letters and digits of a word, lower case."""
    return "".join(c for c in word.casefold() if c.isalnum())


def _one(word: str) -> str:
    """A pattern for one word: parts of a compound apart or together, possessives with or without their sign."""
    stem = re.sub(r"['`]s$", "", word.casefold())
    parts = [re.escape(p).replace("gray", "gr[ae]y").replace("grey", "gr[ae]y") for p in stem.split("-") if p]
    parts = [_SPELLINGS.get(p, p.replace("color", "colou?r")) for p in parts]
    return _GAP0.join(parts) + ("(?:['`]?s)?" if stem != word.casefold() else "")


def _noun(word: str, split: bool = False) -> str:
    """A pattern for a noun in both numbers; `split` also takes "cat bird" for "catbird"."""
    word = word.casefold()
    forms = [_one(w) for w in (word, *_plural(word))]
    for tail in _TAILS if split else ():
        if word.endswith(tail) and len(word) > len(tail) + 2:
            stem = re.escape(word[: -len(tail)])
            forms += [f"{stem}[ -]{re.escape(t)}" for t in (tail, *_plural(tail))]
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"


def _plural(noun: str) -> tuple[str, ...]:
    """The plurals of a noun; none where it already looks like one."""
    for one, many in _PLURALS.items():
        if noun.endswith(one):
            return noun[: -len(one)] + many, noun + "s"
    if "-of-" in noun:  # birds-of-paradise
        return (noun.replace("-of-", "s-of-", 1),)
    if noun.endswith("legs"):
        return ()
    if re.search(r"(?:[sxz]|[cs]h)$", noun):
        return (noun + "es",)
    return (noun[:-1] + "ies", noun + "s") if re.search(r"[^aeiou]y$", noun) else (noun + "s",)


def _full(words: tuple[str, ...]) -> str:
    last = words[-1].casefold()
    split = len(words) > 1 or (last.endswith("bird") and last.removesuffix("bird") not in _COLOURS)
    return _GAP0.join([*(_one(w) for w in words[:-1]), _noun(words[-1], split)])


def _phrases(english: list[tuple[str, ...]], heads: set[str]) -> Iterator[str]:
    """The head nouns, after any of the names' other words; alone only those that are no everyday word."""
    pieces = {p for words in english for w in words for p in w.casefold().split("-")}
    modifiers = sorted({_one(p) for p in pieces - heads if letters(p) and letters(p) not in _NEVER})
    for head in sorted(heads):
        least = 1 if head in _EVERYDAY_HEADS else 0
        # "a black and yellow warbler" keeps its colours.
        before = f"(?:(?<!\\sand\\s)(?:{'|'.join(modifiers)}){_GAP}){{{least},5}}" if modifiers else ""
        if before or not least:
            yield before + _noun(head)
        if head == "hummingbird":
            yield "humming[ -]birds?"


def _modifiers(english: list[tuple[str, ...]]) -> Iterator[str]:
    """Compounds, eponyms, rare words and places."""
    for words in english:
        for word in words[:-1]:
            if re.search(r"['`]s$", word):
                base = re.escape(word[:-2])
                yield f"{base}['`]s"
                yield f"(?-i:{base})(?!\\s(?:Rica|Mesa|Brava)\\b)"
            elif "-" in word and "-and-" not in word.casefold():
                yield from _compound(word.casefold())
            elif letters(word) in _GIVEAWAYS:
                yield _one(word)
        name = " ".join(words[:-1])
        for place in _PLACES:
            if re.search(rf"\b{place}\b", name):
                guard = r"(?<!north )(?<!south )" if place == "Carolina" else ""
                yield guard + _GAP.join(_one(w) for w in place.split())


def _compound(word: str) -> Iterator[str]:
    """yellow-rumped; and from it yellow-rump, yellowrump."""
    yield _one(word)
    first, _, last = word.rpartition("-")
    if last.endswith("ed") and len(last) > 4:
        noun = last[:-3] + "y" if last.endswith("ied") else last[:-1] if last[-3] == "e" else last[:-2]
        nouns = {noun, last[:-1]} if last in ("naped", "faced", "eyed") else {noun}
        yield f"{re.escape(first)}-?(?:{'|'.join(sorted(map(re.escape, nouns)))})s?"


def _binomial(name: str) -> Iterator[str]:
    """ "Setophaga coronata", "S. coronata", "S. c. coronata", with a subspecies that is marked as one."""
    words = _words(name)
    if len(words) < 2:
        return
    genus, epithet = re.escape(words[0]), re.escape(words[1])
    initial = f"{re.escape(words[0][0])}\\.\\s?(?:{re.escape(words[1][0])}\\.\\s?)?"
    yield f"(?:{genus}{_GAP0}|{initial}){epithet}(?:\\s(?:ssp|subsp|var)\\.\\s?[a-z]{{3,30}})?"


def _latin(scientific: tuple[str, ...]) -> Iterator[str]:
    """Genera and epithets alone."""
    for genus, *epithets in filter(None, map(_words, scientific)):
        everyday = genus.casefold() in _EVERYDAY_GENERA
        if letters(genus) not in _NEVER:
            yield f"(?-i:{re.escape(genus)})(?!-)" if everyday else re.escape(genus)
        for epithet in epithets[:1]:
            if epithet in _LOWER_EPITHETS:
                yield f"(?-i:{re.escape(epithet)})"
            elif letters(epithet) not in _EVERYDAY_EPITHETS | _NEVER and len(epithet) > 2:
                yield re.escape(epithet)


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
    rf"(?:^|[.!?:\n]\s{{0,3}}|\b(?:{'|'.join([*_ONES, *_MANIES, *_BEFORE_NOUNS])})\s{{1,3}}{_LOOKS})$", re.IGNORECASE
)
# Where a bird sits is seldom a bird: "on a rail".
_PERCH = re.compile(
    rf"\b(?:on|onto|over|along|behind|against|top of)\s{{1,3}}(?:an?|the|its|their)\s{{1,3}}{_LOOKS}$", re.IGNORECASE
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

    @property
    def any(self) -> bool:
        """Whether there is any of the three."""
        return self.common or self.scientific or self.part


@dataclass(frozen=True)
class _NameMatch:
    """A name, or several of one bird that belong together, at [start, end) of the folded text."""

    start: int
    end: int
    kind: str
    plural: bool


def name_free(text: str, species: Species | BirdNames) -> str:
    """`text` with everything that names the species replaced by "the bird", its articles and numbers kept right.

    A text without a name comes back as it was; a second pass changes nothing. Takes time linear in the text.
    """
    folded, origin = fold(text)
    pieces, done, floor = [], 0, 0
    for match in _joined(folded, _find(folded, species)):
        start, floor, words = _rewrite(folded, match, floor)
        pieces += [text[done : _place(origin, start, text)], words]
        done = _place(origin, floor, text)
    return "".join([*pieces, text[done:]]) if pieces else text


def name_matches(text: str, species: Species | BirdNames) -> Matches:
    """Which kinds of names `text` holds; all False exactly where `name_free` leaves it as it is."""
    kinds = {match.kind for match in _find(fold(text)[0], species)}
    return Matches("c" in kinds, "s" in kinds, "p" in kinds)


def _place(origin: list[int] | None, index: int, text: str) -> int:
    """Where index of the folded text lies in the text; dropped marks belong to the letter before them."""
    if origin is None:
        return index
    return origin[index] if index < len(origin) else len(text)


def _find(text: str, species: Species | BirdNames) -> Iterator[_NameMatch]:
    """Every name in the folded text, in order, with its kind: c(ommon), s(cientific) or p(art)."""
    regex, plurals = pattern(species if isinstance(species, BirdNames) else names_of(species))
    for match in regex.finditer(text) if regex else ():
        kind = match.lastgroup or ""
        if kind == "o":  # An everyday word: the bird in "a small swallow perched", not in "swallow insects".
            left = _left(text, match.start())
            if not _LICENSED.search(left) or _PERCH.search(left) or not _FOLLOWS.match(text, match.end()):
                continue
        plural = letters(match[0]).endswith(tuple(plurals))
        yield _NameMatch(match.start(), match.end(), "p" if kind == "o" else kind, plural and kind != "s")


def _left(text: str, index: int, floor: int = 0) -> str:
    """What comes before `index` and after `floor`, where the last name ended; a mark stands for what is cut off."""
    floor = max(floor, index - _WINDOW)
    return "\x00" + text[floor:index] if floor else text[:index]


def _joined(text: str, matches: Iterator[_NameMatch]) -> Iterator[_NameMatch]:
    """Names that stand together as one: adjacent, joined by "or", in brackets, or as an apposition."""
    one: _NameMatch | None = None
    for after in matches:
        if one and (end := _together(text, one, after)):
            one = _NameMatch(one.start, end, after.kind, one.plural or after.plural)
            continue
        if one:
            yield one
        one = after
    if one:
        yield one


def _together(text: str, one: _NameMatch, after: _NameMatch) -> int | None:
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


def _rewrite(text: str, match: _NameMatch, floor: int) -> tuple[int, int, str]:
    """What to replace, from where to where, and by which words; nothing before `floor` is touched."""
    start, end, plural = match.start, match.end, match.plural
    if trail := _TRAIL.match(text, end):
        end, plural = trail.end(), bool(trail[1])
    if lead := _LEAD.search(_left(text, start, floor)):
        start -= len(lead[0])
    left = _left(text, start, floor)
    article = _ARTICLE.search(left)
    # Words around may say that there are several: "two killdeer", "a pair of teal", "killdeer are".
    plural = plural or _last_word(left) in _MANIES or bool(_SOME_OF.search(left))
    plural = plural or (not article and bool(_ARE.match(text, end)))
    noun = "birds" if plural else "bird"
    if text[end - 1] in "sS" and not plural and _BARE_APOSTROPHE.match(text, end):
        noun, end = "bird's", end + 1
    if article:
        start -= len(article[0])
        if text[end : end + 1] == "-" and article[1].casefold() != "the":
            return start, end, f"{'A' if article[1][0].isupper() else 'a'} {noun}"
    elif not plural and (opened := _OPEN_PHRASE.search(left)):
        return start - len(opened[1]), end, f" {noun}"
    # These words belong to the bird already ("a small", "this", "male"): it needs no article.
    elif left[-1:] in tuple("-#@_/.=&%+") or _SOME_OF.search(left) or (_last_word(left) or "of") not in _FRESH:
        return start, end, noun
    before = _left(text, start, floor)
    begins = not before.strip() or _SENTENCE.search(before) or (article and _CLAUSE.search(before))
    upper = begins and text[start].isupper()
    return start, end, f"{'The' if upper else 'the'} {noun}"


def _last_word(left: str) -> str:
    """The word just before, lower case, "" where there is none; a closed bracket counts as one."""
    match = _LAST_WORD.search(left)
    return match[1].casefold() if match else ""

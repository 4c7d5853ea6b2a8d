"""One regex a species for all that gives its name away; `names` says what that is and uses it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from birdmml.taxonomy import Species


@dataclass(frozen=True)
class Names:
    """What one bird is called; enough to free a text of a species that the taxonomy lacks."""

    english: tuple[str, ...]
    scientific: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


def names_of(species: Species) -> Names:
    """The names of a species of the taxonomy; lower-case words among its other names are retired codes."""
    others = (species.common_name, *species.other_names)
    english = [n for n in others if not n.islower()]
    if species.vb100_class:
        english.append(species.vb100_class.replace("_", " "))
    codes = (species.ebird_code, *(n for n in others if n.islower()))
    return Names(tuple(english), (species.scientific_name, *species.synonyms), codes)


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
_GIVEAWAYS = frozenset(
    "pileated semipalmated fulvous tricolored calliope hudsonian kentish cordilleran".split()
)
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
def pattern(names: Names) -> tuple[re.Pattern[str] | None, frozenset[str]]:
    """One regex for all that names the bird (groups s, c, o, p by kind), and the plural forms of its nouns."""
    english = [words for name in names.english if (words := _words(name))]
    heads = {head for words in english if len(words) > 1 and (head := _head(words))}
    groups = {
        "s": [p for name in names.scientific for p in _binomial(name)],
        "c": [_full(words) for words in sorted(english, key=lambda w: -len("".join(w)))],
        "p": [*_phrases(english, heads), *_modifiers(english), *_codes(names), *_latin(names.scientific)],
        "o": [_noun(h) for h in sorted(heads & _EVERYDAY_HEADS)],
    }
    plurals = frozenset(
        letters(p) for noun in {*heads, *(w[-1].casefold() for w in english)} for p in _plural(noun)
    )
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


def _head(words: tuple[str, ...]) -> str:
    """The noun: the last word, of "Whistling-Duck" its last part, of "Whip-poor-will" all of it."""
    last = words[-1].split("-")[-1] if words[-1].split("-")[-1][:1].isupper() else words[-1]
    return "" if letters(last) in _NEVER or len(letters(last)) < 3 else last.casefold()


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


def _codes(names: Names) -> Iterator[str]:
    yield from (re.escape(c) for code in names.codes if (c := code.strip()[:40]) and letters(c) not in _NEVER)


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

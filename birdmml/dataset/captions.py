"""Captions for photos that came without one, written between pairing and writing: only for those in a row."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdmml.core import discover
from birdmml.core.licenses import UNKNOWN_LICENSE
from birdmml.core.pool import Progress
from birdmml.core.species import Species, resolve
from birdmml.dataset import decode
from birdmml.dataset.catalog import Catalog
from birdmml.dataset.recipe import generator
from birdmml.schema import Article, Caption, Medium, Uncaptioned, Written

if TYPE_CHECKING:
    from birdmml.core.species import Taxonomy
    from birdmml.dataset.intake import SourceAccount as Source
    from birdmml.dataset.place import BuildPlace
    from birdmml.dataset.recipe import BuildSettings


KEY = "written_caption"
PAGE = 512
MAX_LISTED = 10_000


@dataclasses.dataclass(frozen=True)
class CaptionAccount:
    """What is said of the captions: `facts` in the manifest, all that decided them; `counts` in the report."""

    facts: Mapping[str, Any]
    counts: Mapping[str, Any]


def check(settings: BuildSettings) -> None:
    """Raises UsageError where the captioner could not work; before anything is fetched."""
    captioner = discover.load("captioner", settings.captioner)
    if hasattr(captioner, "check"):
        captioner.check(settings.captions or captioner.Settings())


def write_captions(
    settings: BuildSettings, catalog: Catalog, place: BuildPlace, session: Source, tell: Progress
) -> CaptionAccount:
    """Put a caption into the catalog for each photo of a row that has none, and says why where there is none.

    A row whose recording has a caption wants no other. Articles are the session's, if it has any. What was written
    is kept in the build's work folder: an interrupted build asks no model twice.
    """
    captioner = discover.load("captioner", settings.captioner)
    name = {"name": discover.canonical("captioner", settings.captioner)}
    total = catalog.want_captions() if hasattr(captioner, "Writer") else 0
    if not total:
        return CaptionAccount(name, {})
    writer = captioner.Writer(settings.captions or captioner.Settings(), place.work / "captions", tell)
    articles: Mapping[str, Article] = session.articles() if hasattr(session, "articles") else {}
    counts = _Counts(total)

    known = settings.species_list.taxonomy

    def photos() -> Iterator[Uncaptioned]:
        return _photos(catalog, place.staging, articles, known)

    # Some sources take no part without a licence; a caption that no article went into may have none.
    strict = getattr(discover.load("source", settings.source), "LICENSED", False)
    written = map(_licensed, writer.write(photos, total)) if strict else iter(writer.write(photos, total))
    for page in iter(lambda: list(islice(written, PAGE)), []):
        media = catalog.media_at([w.place for w in page])
        catalog.put_captions((w.place, _with(m, w)) for m, w in zip(media, page, strict=True))
        counts.add(page, [m.species for m in media])
    return CaptionAccount({**name, **writer.facts()}, counts.told())


def _photos(catalog: Catalog, folder: Path, articles: Mapping[str, Article], known: Taxonomy) -> Iterator[Uncaptioned]:
    for place, medium in catalog.uncaptioned():
        yield Uncaptioned(
            place,
            known.resolve(medium.species),
            medium.sha256,
            functools.partial(decode.read_medium, folder, medium),
            articles.get(medium.species),
        )


def _licensed(written: Written) -> Written:
    """Without its caption where that has no licence; then the row has a template's."""
    if written.caption is None or written.caption.credit.license != UNKNOWN_LICENSE:
        return written
    return dataclasses.replace(written, caption=None, problem="no licence")


def _with(medium: Medium, written: Written) -> Medium:
    """The photo with what was written: the caption, and in the metadata what the image alone gave."""
    more: dict[str, Any] = {"image_only": written.seen}
    if written.problem:
        more["problem"] = written.problem
    if article := written.article:
        more["article"] = {
            "url": article.url, "revision": article.revision, "history_url": article.history_url, "cut": written.cut,
        }  # fmt: skip
    return dataclasses.replace(medium, caption=written.caption, metadata=_metadata(medium.metadata, more))


def _metadata(given: str, more: Mapping[str, Any]) -> str:
    """The source's own words with ours beside them; what is no JSON object is kept under `source`."""
    try:
        value = json.loads(given) if given else {}
    except ValueError:
        value = given
    kept = value if isinstance(value, dict) else {"source": value}
    return json.dumps({**kept, KEY: more}, ensure_ascii=False, sort_keys=True)


class _Counts:
    """How many captions were written, from what, and which were not."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.with_article, self.alone = 0, 0
        self.problems: Counter[str] = Counter()
        self.without: set[str] = set()
        self.cut: set[str] = set()

    def add(self, page: Sequence[Written], species: Sequence[str]) -> None:
        for written, name in zip(page, species, strict=True):
            if written.cut:
                self.cut.add(name)
            if written.problem:
                self.problems[written.problem] += 1
            elif written.article:
                self.with_article += 1
            else:
                self.alone += 1
                self.without.add(name)

    def told(self) -> dict[str, Any]:
        return {
            "photos": self.total,
            "with_article": self.with_article,
            "without_article": self.alone,
            "to_template": dict(sorted(self.problems.items())),
            "species_without_article": sorted(self.without)[:MAX_LISTED],
            "species_with_article_cut": sorted(self.cut)[:MAX_LISTED],
        }


# ---- The caption of a row: what the source says, else a template from the taxonomy, marked as such.


WRITTEN = "hf"


def caption_of(photo: Medium, clip: Medium, seed: int, species: Species | None = None) -> Caption:
    """The photo's own caption, else the recording's, else what was written for the photo, else a template.

    The template is chosen by the row's ids, and says what is known of the `species` (None: the photo's, of the
    shipped 150).
    """
    given = photo.caption
    if given is not None and given.origin == WRITTEN and clip.caption is not None:
        return clip.caption
    if given is None:
        given = clip.caption
    if given is not None:
        return given
    template = discover.load("captioner", "template")
    draw = int(generator(seed, "caption", photo.id, clip.id).integers(template.DRAWS))
    made: Caption = template.caption(species or resolve(photo.species), draw)
    return made

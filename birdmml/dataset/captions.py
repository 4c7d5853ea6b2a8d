"""The caption of a row: the source's, or what a captioner writes for photos in rows without one, or a template."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
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
    from birdmml.core.pool import Progress
    from birdmml.core.species import Taxonomy
    from birdmml.dataset.intake import SourceAccount
    from birdmml.dataset.place import BuildPlace
    from birdmml.dataset.recipe import BuildSettings


KEY = "written_caption"
PAGE = 512
MAX_LISTED = 10_000
# The origin of what models wrote.
WRITTEN = "hf"


def check(settings: BuildSettings) -> None:
    """Raises UsageError where the captioner could not work; before anything is fetched."""
    captioner = discover.load("captioner", settings.captioner)
    if hasattr(captioner, "check"):
        captioner.check(settings.captions or captioner.Settings())


def write_captions(
    settings: BuildSettings, catalog: Catalog, place: BuildPlace, session: SourceAccount, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put a caption into the catalog for each photo of a row that has none, and says why where there is none.

    Returns what the manifest says, all that decided the captions, and what the report counts. A row whose recording
    has a caption wants no other. Articles are the session's, if it has any. What was written is kept in the build's
    work folder: an interrupted build asks no model twice.
    """
    captioner = discover.load("captioner", settings.captioner)
    name = {"name": discover.canonical("captioner", settings.captioner)}
    total = catalog.want_captions() if hasattr(captioner, "Writer") else 0
    if not total:
        return name, {}
    writer = captioner.Writer(settings.captions or captioner.Settings(), place.work / "captions", progress)
    articles: Mapping[str, Article] = session.articles() if hasattr(session, "articles") else {}
    photos = functools.partial(_photos, catalog, place.staging, articles, settings.species_list.taxonomy)
    # Some sources take no part without a licence; a caption that no article went into may have none.
    strict = getattr(discover.load("source", settings.source), "LICENSED", False)
    written = iter(writer.write(photos, total))
    if strict:
        unlicensed = functools.partial(dataclasses.replace, caption=None, problem="no licence")
        written = (unlicensed(w) if w.caption and w.caption.credit.license == UNKNOWN_LICENSE else w for w in written)
    with_article = alone = 0
    problems, without, cut = Counter[str](), set[str](), set[str]()
    for page in iter(lambda: list(islice(written, PAGE)), []):
        media = catalog.media_at([w.place for w in page])
        catalog.put_captions((w.place, _with(m, w)) for m, w in zip(media, page, strict=True))
        for result, medium in zip(page, media, strict=True):
            if result.cut:
                cut.add(medium.species)
            if result.problem:
                problems[result.problem] += 1
            elif result.article:
                with_article += 1
            else:
                alone += 1
                without.add(medium.species)
    counts = {
        "photos": total,
        "with_article": with_article,
        "without_article": alone,
        "to_template": dict(sorted(problems.items())),
        "species_without_article": sorted(without)[:MAX_LISTED],
        "species_with_article_cut": sorted(cut)[:MAX_LISTED],
    }
    return {**name, **writer.facts()}, counts


def _photos(
    catalog: Catalog, folder: Path, articles: Mapping[str, Article], taxonomy: Taxonomy
) -> Iterator[Uncaptioned]:
    for place, medium in catalog.uncaptioned():
        yield Uncaptioned(
            place,
            taxonomy.resolve(medium.species),
            medium.sha256,
            functools.partial(decode.read_medium, folder, medium),
            articles.get(medium.species),
        )


def _with(medium: Medium, written: Written) -> Medium:
    """The photo with what was written: the caption, and in the metadata what the image alone gave."""
    more: dict[str, Any] = {"image_only": written.seen}
    if written.problem:
        more["problem"] = written.problem
    if article := written.article:
        more["article"] = {
            "url": article.url, "revision": article.revision, "history_url": article.history_url, "cut": written.cut,
        }  # fmt: skip
    # The source's own words with ours beside them; what is no JSON object is kept under `source`.
    try:
        value = json.loads(medium.metadata) if medium.metadata else {}
    except ValueError:
        value = medium.metadata
    own = value if isinstance(value, dict) else {"source": value}
    metadata = json.dumps({**own, KEY: more}, ensure_ascii=False, sort_keys=True)
    return dataclasses.replace(medium, caption=written.caption, metadata=metadata)


def caption_of(photo: Medium, clip: Medium, seed: int, species: Species | None = None) -> Caption:
    """The photo's own caption, else the recording's, else what was written for the photo, else a template.

    The template is chosen by the row's ids, and says what is known of the `species` (None: the photo's, of the
    shipped 150).
    """
    captions = [caption for caption in (photo.caption, clip.caption) if caption is not None]
    if captions:
        # What a source says of the recording is worth more than what a model wrote of the photo.
        return captions[-1] if captions[0].origin == WRITTEN else captions[0]
    template = discover.load("captioner", "template")
    draw = int(generator(seed, "caption", photo.id, clip.id).integers(template.DRAWS))
    caption: Caption = template.caption(species or resolve(photo.species), draw)
    return caption

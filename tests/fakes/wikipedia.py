"""A small Wikipedia: summaries in the true wording of its REST API, redirects and pages that are no article.

write(root, birds)                   root/pages.json
FakeWikipedia(root).answer(path)     status, headers, body
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from birdmml.core.files import sha256_bytes
from birdmml.sources.inat_xc.wikipedia import SpeciesNames

PATH = "/api/rest_v1/page/summary/"
SITE = "https://en.wikipedia.org"
COLOURS = ("brown", "grey", "black", "white", "rufous", "olive")
PLACES = ("woodland", "coasts", "marshes", "farmland", "gardens", "moorland")
MISSING = {"type": "Internal error", "title": "Not found.", "method": "get", "detail": "Page or revision not found."}


@dataclass
class FakeWikipedia:
    """The service over a folder that `write` filled. `pages` holds summaries by title, a text being a redirect."""

    root: Path
    pages: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.pages = json.loads((self.root / "pages.json").read_text(encoding="utf-8"))

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and body; `path` is decoded. None for a path that is no summary."""
        if not path.startswith(PATH):
            return None
        page = self.pages.get(path.removeprefix(PATH).replace(" ", "_"))
        if page is None:
            return 404, {}, json.dumps(MISSING).encode()
        if isinstance(page, str):
            return 302, {"Location": quote(page, safe="")}, b""
        return 200, {}, json.dumps(page).encode()


def write(root: Path, birds: Sequence[SpeciesNames]) -> None:
    """An article for every species under its first English name, and redirects to it from all other names."""
    pages: dict[str, Any] = {}
    for bird in birds:
        name = bird.english[0] if bird.english else bird.scientific
        title = name.replace(" ", "_")
        pages[title] = summary(title, bird.scientific, _text(bird, name))
        for other in (bird.scientific, *bird.synonyms, *bird.english):
            pages.setdefault(other.replace(" ", "_"), title)
    root.mkdir(parents=True, exist_ok=True)
    text = json.dumps(pages, indent=1, ensure_ascii=False)
    (root / "pages.json").write_text(text + "\n", encoding="utf-8")


def summary(title: str, about: str, extract: str, kind: str = "standard") -> dict[str, Any]:
    """One answer of the service."""
    shown, page = title.replace("_", " "), f"{SITE}/wiki/{quote(title, safe='_()')}"
    number = int(sha256_bytes(title.encode())[:7], 16)
    return {
        "type": kind,
        "title": shown,
        "displaytitle": f'<span class="mw-page-title-main">{shown}</span>',
        "namespace": {"id": 0, "text": ""},
        "wikibase_item": f"Q{number % 10**6}",
        "titles": {"canonical": title, "normalized": shown, "display": shown},
        "pageid": number,
        "lang": "en",
        "dir": "ltr",
        "revision": str(1_200_000_000 + number % 10**7),
        "tid": "00000000-0000-11ef-8000-000000000000",
        "timestamp": "2026-01-12T09:00:00Z",
        "description": f"Species of bird ({about})",
        "content_urls": {
            "desktop": {
                "page": page,
                "revisions": f"{page}?action=history",
                "edit": f"{page}?action=edit",
                "talk": f"{SITE}/wiki/Talk:{quote(title, safe='_()')}",
            }
        },
        "extract": extract,
        "extract_html": f"<p>{extract}</p>",
    }


def _text(bird: SpeciesNames, name: str) -> str:
    chance = sha256_bytes(bird.scientific.encode())
    colour, place = COLOURS[int(chance[0], 16) % 6], PLACES[int(chance[1], 16) % 6]
    return (
        f"The {name.lower()} ({bird.scientific}) is a bird of {place}. Its upperparts are {colour}, and its song is "
        f"heard from {('March', 'April', 'May')[int(chance[2], 16) % 3]} on. Both parents feed the young."
    )

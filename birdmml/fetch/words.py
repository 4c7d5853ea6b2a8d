"""What may be said of a download: addresses and answers without keys, pages as one plain line."""

from __future__ import annotations

import html
import re

_HIDDEN = r"[\w.%-]*(?:key|token|secret|sig|pass|pwd|auth|cred|session)[\w.%-]*"
_QUERY = re.compile(rf"(?i)(?<![\w.%-])({_HIDDEN})=([^&\s'\"<>#;]*)")
_USER = re.compile(r"(?i)(\bhttps?://)[^/\s'\"?#]*@")
_SCRIPT = re.compile(r"(?is)<(script|style)\b.*?(</\1>|$)")
_TITLE = re.compile(r"(?is)<title[^>]*>(.*?)</title>")
_TAG = re.compile(r"(?s)<[^>]*>")
_PAGE = re.compile(rb"(?is)\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html[\s>])")
LONGEST = 200


def redact(text: str) -> str:
    """An address, or a text with addresses in it, without user names, passwords and keys in query strings."""
    return _QUERY.sub(r"\1=***", _USER.sub(r"\1***@", text))


def is_page(head: bytes, content_type: str = "") -> bool:
    """Whether an answer is an HTML page, by its type or its first bytes."""
    kind = content_type.partition(";")[0].strip().casefold()
    return kind in ("text/html", "application/xhtml+xml") or bool(
        _PAGE.match(head[:1024].removeprefix(b"\xef\xbb\xbf"))
    )


def words(body: bytes) -> str:
    """What a page or an error says, on one line of at most 200 characters: the title first, no markup or controls."""
    text = body.decode("utf-8", "replace")
    if is_page(body) or "</" in text:
        title = _TITLE.search(text)
        rest = _TITLE.sub(" ", _SCRIPT.sub(" ", text))
        text = html.unescape(f"{title[1]}: {_TAG.sub(' ', rest)}" if title else _TAG.sub(" ", rest))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()).strip(" :")
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"

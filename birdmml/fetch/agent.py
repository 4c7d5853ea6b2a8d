"""Who asks: the User-Agent that services want, with a way to reach the one who runs the build."""

from __future__ import annotations

import re

from birdmml import __version__
from birdmml.errors import UsageError

_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_PAGE = re.compile(r"https?://[A-Za-z0-9.-]+\.[A-Za-z]{2,}(:\d+)?(/[\x21-\x27\x2a-\x7e]*)?")


def user_agent(contact: str | None) -> str:
    """`birdmml/1.0 (mailto:me@here.org)` from the user's address or home page; raises UsageError without one."""
    contact = (contact or "").strip().removeprefix("mailto:")
    why = (
        "iNaturalist, Xeno-canto and Wikipedia want to know whom to write to: give your address or home page"
    )
    if not contact:
        raise UsageError(f"no contact was given; {why} with --contact")
    if len(contact) > 200 or not (_MAIL.fullmatch(contact) or _PAGE.fullmatch(contact)):
        raise UsageError(f"--contact {contact[:80]!r} is neither an e-mail address nor a web address; {why}")
    return f"birdmml/{__version__} ({'mailto:' if '@' in contact and '//' not in contact else ''}{contact})"

"""Servers that do not want their images collected for machine learning, as their answers' headers say it.

X-Robots-Tag (https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag) with noai, noimageai, noml,
noindex or noimageindex; TDM-Reservation (https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/); and
Content-Usage (https://datatracker.ietf.org/doc/draft-ietf-aipref-attach/), as far as it speaks of training.
"""

from __future__ import annotations

from email.message import Message
from typing import Any

DIRECTIVES = ("noai", "noimageai", "noml", "noindex", "noimageindex")
_WITH_VALUES = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")  # no crawlers' names


def opts_out(headers: Message, user_agent: str | None, directives: Any) -> bool:
    """Whether the answer's headers forbid the use; in the place of img2dataset's own, which knows X-Robots-Tag alone.
    user_agent: ours, whose name a directive for one crawler may have. directives: those of X-Robots-Tag that count."""
    if (headers.get("TDM-Reservation") or "").strip() == "1":
        return True
    usage = ",".join(headers.get_all("Content-Usage", [])).replace(" ", "").lower().split(",")
    tags = headers.get_all("X-Robots-Tag", [])
    return "train-ai=n" in usage or any(_forbids(tag, (user_agent or "").lower(), directives) for tag in tags)


def _forbids(tag: str, user_agent: str, directives: Any) -> bool:
    """`noai, max-snippet:20` is for everybody, `some-bot: noai, noindex` for that crawler."""
    is_for_us = True
    for item in tag.lower().split(","):
        name, colon, directive = (word.strip() for word in item.partition(":"))
        if colon and name not in _WITH_VALUES:
            is_for_us = name == "*" or name == user_agent.partition(" ")[0].partition("/")[0]
            name = directive
        if is_for_us and name in directives:
            return True
    return False

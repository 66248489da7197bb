"""Servers that opt out are left alone, in whichever of today's ways they say it."""

from __future__ import annotations

from email.message import Message

import pytest
from clipmill.jobs.ingesting.opt_out import DIRECTIVES, opts_out

US = "clipmill (images@example.org)"


def headers(*lines: tuple[str, str]) -> Message:
    message = Message()
    for name, value in lines:
        message[name] = value
    return message


@pytest.mark.parametrize(
    "lines",
    [
        [("X-Robots-Tag", "noai")],
        [("x-robots-tag", "NoML")],
        [("X-Robots-Tag", "max-image-preview:large, noimageai")],
        [("X-Robots-Tag", "clipmill: noindex")],
        [("X-Robots-Tag", "otherbot: noindex"), ("X-Robots-Tag", "unavailable_after: 25 Jun 2030 15:00:00 PST, noai")],
        [("X-Robots-Tag", "otherbot: nofollow, clipmill: noai")],
        [("X-Robots-Tag", "*: noimageindex")],
        [("TDM-Reservation", "1")],
        [("tdm-reservation", " 1 "), ("TDM-Policy", "https://e.org/policy.json")],
        [("Content-Usage", "train-ai=n")],
        [("Content-Usage", "search=y, train-ai=n")],
    ],
)
def test_the_image_is_not_used(lines: list[tuple[str, str]]) -> None:
    assert opts_out(headers(*lines), US, DIRECTIVES)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [("X-Robots-Tag", "nofollow, max-snippet:20")],
        [("X-Robots-Tag", "otherbot: noai, noindex")],
        [("X-Robots-Tag", ": , ;; ,:")],
        [("TDM-Reservation", "0")],
        [("Content-Usage", "train-ai=y")],
    ],
)
def test_others_are(lines: list[tuple[str, str]]) -> None:
    assert not opts_out(headers(*lines), US, DIRECTIVES)

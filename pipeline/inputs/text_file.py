"""Small text files that a user names: class names, templates, vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..storage.streams import read_whole
from ..storage.urls import canonical_url
from .entries import asking


def read_text(path: str, storage_options: Mapping[str, Any] | None = None) -> str:
    """The text of a local or remote file. InputError where there is no such file, or where it is not UTF-8."""
    url = canonical_url(path)
    with asking(url):
        content = read_whole(url, storage_options)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{url}: not UTF-8 text") from error


def lines_of(text: str) -> list[str]:
    """The lines of a text, without blank ones and without blanks around them."""
    return [stripped for line in text.splitlines() if (stripped := line.strip())]

"""Small text files that a user names: class names, templates, vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..storage.retry import retry
from ..storage.urls import canonical_url, open_storage
from .entries import asking

_ATTEMPTS = 3


def read_text(path: str, storage_options: Mapping[str, Any] | None = None) -> str:
    """The text of a local or remote file. InputError where there is no such file, or where it is not UTF-8."""
    url = canonical_url(path)
    with asking(url):
        content: bytes = retry(lambda: open_storage(url, storage_options).cat_file(url), _ATTEMPTS)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{url}: not UTF-8 text") from error


def lines_of(text: str) -> list[str]:
    """The lines of a text, without blank ones and without blanks around them."""
    return [stripped for line in text.splitlines() if (stripped := line.strip())]

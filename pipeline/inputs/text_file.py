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
    """A whole file, wherever it is. InputError where there is none, or where it is no UTF-8 text."""
    url = canonical_url(path)
    with asking(url):
        content: bytes = retry(lambda: open_storage(url, storage_options).cat_file(url), _ATTEMPTS)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{url}: not UTF-8 text") from error


def lines_of(text: str) -> list[str]:
    """Without blank lines, and without blanks around them."""
    return [line for each in text.splitlines() if (line := each.strip())]

"""Which word somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

_LONGEST = 64  # characters: comparing two words takes time that grows with the square of their length
_MOST = 1000  # words


def suggested(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`did you mean …?`, or `there are: …` where no word is close."""
    words = [name for name in islice(known, _MOST) if len(name) <= _LONGEST]
    close = get_close_matches(word, words, 1) if len(word) <= _LONGEST else []
    if close:
        return f"did you mean {prefix}{close[0]}?"
    more = ", …" if len(words) > 20 else ""
    return f"there are: {', '.join(words[:20]) or 'none'}{more}"

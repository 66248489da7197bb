"""Names that stand for several: braces as in a shell (`{00000..12895}`, `{a,b}`, nested, several in a name), globs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise, product

MAX_NAMES = 10_000_000  # a typing error such as {0..99999999999} must not eat the memory

_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")


def expand(text: str) -> list[str]:
    """Every name that `text` stands for, in the order written; `[text]` where it holds no brace expression.

    Ranges run up or down, take a step (`{0..10..2}`) and keep zero padding: the width is the longer end's as soon as
    one end is padded. Braces that are no expression (`{x}`, `{}`, unbalanced ones) stay as they are.
    Raises ValueError when there would be more than `MAX_NAMES` names.
    """
    pieces = _pieces(text)
    count = math.prod(map(len, pieces))
    if count > MAX_NAMES:
        raise ValueError(f"{text} stands for {count:,} names, and {MAX_NAMES:,} is the limit")
    return ["".join(choice) for choice in product(*pieces)]


def is_pattern(url: str) -> bool:
    """Whether a name holds `*`, `?` or `[…]`; in a web address, `?` begins the query."""
    return any(c in url for c in ("*[" if url.startswith("http") else "*?["))


def _pieces(text: str) -> list[Sequence[str]]:
    """The alternatives at each place of the name; their product is the expansion."""
    pieces: list[Sequence[str]] = []
    literal = 0  # from here on, nothing has been put into `pieces` yet
    opening = text.find("{")
    while opening >= 0:
        closing, commas = _matching(text, opening)
        choices = _choices(text[opening + 1 : closing], [c - opening - 1 for c in commas]) if closing else None
        if choices is None:  # an ordinary character; what is inside may still be an expression
            opening = text.find("{", opening + 1)
            continue
        pieces += [[text[literal:opening]], choices]
        literal = closing + 1
        opening = text.find("{", literal)
    return [*pieces, [text[literal:]]]


def _matching(text: str, opening: int) -> tuple[int, list[int]]:
    """Where the brace at `opening` closes (0: nowhere), and the commas on its own level."""
    depth = 0
    commas: list[int] = []
    for at in range(opening, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at, commas
        elif text[at] == "," and depth == 1:
            commas.append(at)
    return 0, []


def _choices(inside: str, commas: list[int]) -> Sequence[str] | None:
    """What a pair of braces stands for, or None when it is no expression."""
    if commas:
        bounds = [-1, *commas, len(inside)]
        return [name for a, b in pairwise(bounds) for name in expand(inside[a + 1 : b])]
    if match := _RANGE.fullmatch(inside):
        return _Range(match[1], match[2], int(match[3] or 1) or 1)
    return None


class _Range(Sequence[str]):
    """The names of a range, counted without making them."""

    def __init__(self, first: str, last: str, step: int) -> None:
        padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
        self._width = max(len(first), len(last)) if padded else 0
        low, high = int(first), int(last)
        self._numbers = range(low, high + 1, step) if low <= high else range(low, high - 1, -step)

    def __len__(self) -> int:
        # len() of a range fails beyond 2**63
        return min(abs(self._numbers.stop - self._numbers.start) // abs(self._numbers.step) + 1, 10 * MAX_NAMES)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return str(self._numbers[index]).zfill(self._width)

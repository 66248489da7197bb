"""What pages say: their fenced commands, in order, and the files that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\S+)?([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """```console``` and ```sh``` are commands; `no-run` beside that: they need what a test has not. ```yaml NAME``` is
    a file that the commands after it find. ```python``` is a script."""

    language: str
    about: str  # what follows the language
    text: str

    @property
    def is_run(self) -> bool:
        return "no-run" not in self.about

    def commands(self) -> Iterator[list[str]]:
        """Words of each command line; a backslash goes on, `#` begins a comment."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks(page: Path) -> list[Block]:
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [Block(language, about.strip(), text) for language, about, text in found]

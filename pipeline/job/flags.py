"""How a job's fields look on the command line, where their names do not say it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """Beside a field's `Doc`, which is its help: `Annotated[int | None, Doc("How many."), Flag(default="auto")]`.

    names: `--out` and `-o`; else the field's own name, with dashes. default: what the help says for None. metavar: the
    value's name in the help. argument: given by its position, without a name.
    """

    names: tuple[str, ...] = ()
    metavar: str | None = None
    default: str | None = None
    argument: bool = False

"""`{{ … }}` in job specifications: the run's date, the environment, variables, and the fields of earlier steps."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date
from datetime import datetime, timezone
from typing import Any

from ...pipeline.errors import UserError
from .suggestions import suggested

_SLOT = re.compile(r"\{\{([^{}]*)\}\}")  # blanks are stripped afterwards: as part of the pattern they take cubic time
_MOST = 100_000  # values in what a specification's slots make of it
_CHARACTERS = 100  # of text that count as another value


@dataclass(frozen=True)
class Values:
    """What slots may name: `{{ date }}`, `{{ env.NAME }}`, `{{ vars.NAME }}`, `{{ steps.NAME.FIELD }}`."""

    date: str  # of the run, YYYY-MM-DD
    env: Mapping[str, str]
    vars: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # an earlier step's name -> its fields

    @classmethod
    def given(cls, variables: Sequence[str], date: str | None) -> Values:
        """Those of a command line, and this process's environment. variables: NAME=VALUE each. UserError for one
        without a `=`, and for a date that does not exist."""
        named: dict[str, Any] = {}
        for variable in variables:
            name, equals, value = variable.partition("=")
            if not equals or not name:
                raise UserError(f"--set {variable}: must be NAME=VALUE")
            named[name] = value
        try:
            day = Date.fromisoformat(date) if date else datetime.now(timezone.utc).date()
        except ValueError as error:
            raise UserError(f"--date {date}: must be YYYY-MM-DD") from error
        return cls(day.isoformat(), os.environ, named)

    def look_up(self, name: str) -> Any:
        """KeyError, with the names that there are, for an unknown one."""
        kind, _, rest = name.partition(".")
        if name == "date":
            return self.date
        if kind in ("env", "vars") and rest:
            return _one(self.env if kind == "env" else self.vars, rest, f"{kind}.")
        if kind == "steps" and rest:
            step, _, key = rest.partition(".")
            return _one(_one(self.steps, step, "steps."), key, f"steps.{step}.")
        raise KeyError(f"{name[:100]!r} is none of date, env.NAME, vars.NAME, steps.NAME.FIELD")


@dataclass
class Template:
    """Fills the slots of one specification. Its limit holds for all that it fills: each slot may be small and name
    something that holds the one before twice."""

    values: Values
    left: int = _MOST

    def filled(self, value: Any, where: str) -> Any:
        """A copy of what YAML gave, every slot in its strings filled. A string that is one slot becomes the value that
        the slot names, lists included. where: for errors, `file: field`. UserError for an unknown name in a slot."""
        self._count(1, where)
        if isinstance(value, Mapping):
            return {key: self.filled(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item, f"{where}[{index}]") for index, item in enumerate(value)]
        if not isinstance(value, str) or "{{" not in value:
            return value
        if "{{" in _SLOT.sub("", value):
            raise UserError(f"{where}: {{{{ without }}}}: a slot is {{{{ date }}}}, {{{{ vars.NAME }}}} and the like")
        try:
            if slot := _SLOT.fullmatch(value.strip()):
                return self._copied(self.values.look_up(slot[1].strip()), where)
            return _SLOT.sub(lambda slot: self._text(slot[1].strip(), where), value)
        except KeyError as error:
            raise UserError(f"{where}: {{{{ … }}}}: {error.args[0]}") from error

    def _text(self, name: str, where: str) -> str:
        text = str(self._copied(self.values.look_up(name), where))
        self._count(len(text) // _CHARACTERS, where)
        return text

    def _copied(self, value: Any, where: str) -> Any:
        if isinstance(value, Mapping):
            copy: Any = {key: self._copied(item, where) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            copy = [self._copied(item, where) for item in value]
        else:
            copy = value
        self._count(1 + len(value) // _CHARACTERS if isinstance(value, str) else 1, where)
        return copy

    def _count(self, values: int, where: str) -> None:
        self.left -= values
        if self.left < 0:
            raise UserError(f"{where}: the slots make the specification larger than {_MOST:,} values")


def _one(known: Mapping[str, Any], name: str, prefix: str) -> Any:
    if name in known:
        return known[name]
    if prefix == "env.":
        raise KeyError(f"the environment has no {name[:100]}; set it before the run")
    raise KeyError(f"there is no {prefix}{name[:100]}; {suggested(name, known, prefix)}")

"""`{{ … }}` in job specifications: the run's date, the environment, variables, and what earlier steps were given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ...pipeline.errors import UserError

_SLOT = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


@dataclass(frozen=True)
class Values:
    """What slots may name: `{{ date }}`, `{{ env.NAME }}`, `{{ vars.NAME }}`, `{{ steps.NAME.FIELD }}`."""

    date: str  # of the run, YYYY-MM-DD
    env: Mapping[str, str]
    vars: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # an earlier step's name -> its fields

    def look_up(self, name: str) -> Any:
        """KeyError, with what there is, for what there is not."""
        kind, _, rest = name.partition(".")
        if name == "date":
            return self.date
        if kind in ("env", "vars") and rest:
            return _one(self.env if kind == "env" else self.vars, rest, f"{kind}.")
        if kind == "steps" and rest:
            step, _, key = rest.partition(".")
            return _one(_one(self.steps, step, "steps."), key, f"steps.{step}.")
        raise KeyError(f"{name!r} is none of date, env.NAME, vars.NAME, steps.NAME.FIELD")


def filled(value: Any, values: Values, where: str) -> Any:
    """A copy of what YAML gave, every slot in its strings filled. A string that is one slot becomes what the slot
    names, lists included. where: for the error, `file: field`. UserError for a slot that names nothing."""
    if isinstance(value, Mapping):
        return {key: filled(each, values, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, values, f"{where}[{place}]") for place, each in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        if whole := _SLOT.fullmatch(value.strip()):
            return values.look_up(whole[1])
        return _SLOT.sub(lambda match: str(values.look_up(match[1])), value)
    except KeyError as error:
        raise UserError(f"{where}: {{{{ … }}}}: {error.args[0]}") from error


def _one(known: Mapping[str, Any], name: str, prefix: str) -> Any:
    if name in known:
        return known[name]
    close = get_close_matches(name, list(known), 1)
    if prefix == "env.":
        raise KeyError(f"the environment has no {name}; set it before the run")
    hint = f"; did you mean {prefix}{close[0]}?" if close else f"; there are: {', '.join(known) or 'none'}"
    raise KeyError(f"there is no {prefix}{name}{hint}")

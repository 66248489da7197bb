"""Job specifications: YAML that says what a command would, or several commands in order; strict.

    apiVersion: clipmill/v1
    kind: pipeline
    vars: {root: "s3://bucket/{{ date }}"}
    steps:
      - {name: embeddings, embed: {inputs: ["shards/*.tar"], out: "{{ vars.root }}/embeddings", model: ViT-B/32}}
      - {name: best, filter: {dataset: "{{ steps.embeddings.out }}", out: "{{ vars.root }}/best", top_fraction: 0.3}}

A single job has `kind: embed` (or another command's name) and its fields under `spec`. The fields are those of the
job's dataclass in `pipeline/job/`, from which the command line options are made, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ...pipeline.errors import UserError
from .kinds import KINDS, model_of
from .templates import Values, filled

API_VERSION = "clipmill/v1"
_TOP = ("apiVersion", "kind", "vars", "notify", "schedule", "cluster")
_NAME = r"[A-Za-z][A-Za-z0-9_-]*"


@dataclass(frozen=True)
class SpecifiedStep:
    name: str
    kind: str  # a command's name
    job: Any  # its dataclass, of `pipeline/job/`

    def as_json(self) -> dict[str, Any]:
        """The step as a specification says it, defaults included."""
        return {"name": self.name, self.kind: {each.name: getattr(self.job, each.name) for each in fields(self.job)}}


@dataclass(frozen=True)
class Specification:
    kind: str
    steps: tuple[SpecifiedStep, ...]
    notify: str | None = None  # a URL that is told how a run went
    schedule: str | None = None  # as cron writes it; for `render`
    cluster: Mapping[str, Any] = field(default_factory=dict)  # for `render`


def read_specification(path: Path, values: Values) -> Specification:
    """UserError, `file: field: what is wrong; what to do`, for whatever is."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; job specifications are YAML") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date or a number, and is none
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    return parse_specification(content, values, str(path))


def parse_specification(content: Any, values: Values, name: str) -> Specification:
    """name: what errors call it."""
    if not isinstance(content, dict):
        raise UserError(f"{name}: a job specification is a mapping that begins with apiVersion: {API_VERSION}")
    if content.get("apiVersion") != API_VERSION:
        raise UserError(f"{name}: apiVersion: must be {API_VERSION}, not {content.get('apiVersion')!r}")
    kind = content.get("kind")
    if kind not in ("pipeline", *KINDS):
        raise UserError(f"{name}: kind: {_not_among(kind, ['pipeline', *KINDS])}")
    body = "steps" if kind == "pipeline" else "spec"
    _only(content, (*_TOP, body), f"{name}: ")
    given = content.get("vars") or {}
    if not isinstance(given, dict):
        raise UserError(f"{name}: vars: must be a mapping of names to values")
    variables = {**filled(given, values, f"{name}: vars"), **values.vars}  # the command line's go before
    known = Values(values.date, values.env, variables)
    if kind == "pipeline":
        steps = _steps(content.get("steps"), known, name)
    else:
        steps = (_step(kind, kind, content.get("spec"), known, f"{name}: spec"),)
    cluster = filled(content.get("cluster") or {}, known, f"{name}: cluster")
    notify = filled(content.get("notify"), known, f"{name}: notify")
    if notify is not None and not str(notify).startswith(("http://", "https://", "$")):
        raise UserError(f"{name}: notify: must be a URL, http:// or https://")
    return Specification(kind, steps, notify, content.get("schedule"), cluster)


def _steps(content: Any, values: Values, name: str) -> tuple[SpecifiedStep, ...]:
    if not isinstance(content, list) or not content:
        raise UserError(f"{name}: steps: must be a list of at least one step")
    done: dict[str, SpecifiedStep] = {}
    for place, entry in enumerate(content):
        where = f"{name}: steps[{place}]"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: must be a mapping: a name, and a command with its fields")
        kinds = [key for key in entry if key != "name"]
        if len(kinds) != 1 or kinds[0] not in KINDS:
            wrong = next((key for key in kinds if key not in KINDS), None)
            why = _not_among(wrong, list(KINDS)) if wrong else f"name one of {', '.join(KINDS)}"
            raise UserError(f"{where}: a step has a name and one command: {why}")
        step_name = entry.get("name", kinds[0])
        if not isinstance(step_name, str) or step_name in done:
            raise UserError(f"{where}.name: {step_name!r}: every step needs a name of its own")
        earlier = {each.name: each.as_json()[each.kind] for each in done.values()}
        known = Values(values.date, values.env, values.vars, earlier)
        done[step_name] = _step(step_name, kinds[0], entry[kinds[0]], known, f"{where}.{kinds[0]}")
    return tuple(done.values())


def _step(name: str, kind: str, content: Any, values: Values, where: str) -> SpecifiedStep:
    if not isinstance(content, dict):
        raise UserError(f"{where}: must be a mapping of the fields of `clipmill {kind}`")
    job = KINDS[kind].job
    _only(content, [each.name for each in fields(job)], f"{where}.")
    full = filled(content, values, where)
    required = [f.name for f in fields(job) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [each for each in required if full.get(each) is None]:
        raise UserError(f"{where}.{missing[0]}: missing; see `clipmill {kind} --help`")
    try:
        checked = model_of(kind).model_validate(full)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (part for part in first["loc"] if isinstance(part, int) or part in full)))
        given = "" if first["loc"][0] == "storage_options" else f", not {first['input']!r}"  # it may be a secret
        raise UserError(f"{where}.{place}: {first['msg']}{given}") from error
    made = job(**{key: getattr(checked, key) for key in full})
    if hasattr(made, "check"):  # now, and not when its turn comes, hours later
        try:
            made.check()
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return SpecifiedStep(name, kind, made)


def _only(content: Mapping[str, Any], known: Any, where: str) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"{where}{key}: {_not_among(key, list(known))}")


def _not_among(word: Any, known: list[str]) -> str:
    close = get_close_matches(str(word).replace("-", "_"), known, 1)
    return f"unknown {word!r}; " + (f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}")


class _Strict(yaml.SafeLoader):
    """A key given twice is an error, rather than the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)

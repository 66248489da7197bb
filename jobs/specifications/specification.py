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

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...pipeline.errors import UserError
from .kinds import KINDS, model_of
from .suggestions import suggested
from .templates import Template, Values
from .yaml_file import parse_yaml, read_text

API_VERSION = "clipmill/v1"
_FUNCTIONS = ("english", "in_vocabulary")  # that `filter` adds to SQL's
_TOP = ("apiVersion", "kind", "vars", "notify", "schedule", "cluster")


@dataclass(frozen=True)
class SpecifiedStep:
    name: str
    kind: str  # a command's name
    job: Any  # its dataclass, of `pipeline/job/`

    def as_json(self) -> dict[str, Any]:
        """The step as a specification writes it, defaults included."""
        return {"name": self.name, self.kind: {each.name: getattr(self.job, each.name) for each in fields(self.job)}}


@dataclass(frozen=True)
class Specification:
    kind: str
    steps: tuple[SpecifiedStep, ...]
    notify: str | None = None  # a URL that gets the outcome of a run
    schedule: str | None = None  # as cron writes it; for `render`
    cluster: Mapping[str, Any] = field(default_factory=dict)  # for `render`
    text: str = ""  # of the file: a pipe can be read only once

    def as_json(self) -> dict[str, Any]:
        """A specification again: slots filled, every default there."""
        return {"apiVersion": API_VERSION, "kind": "pipeline", "steps": [step.as_json() for step in self.steps]}


def read_specification(path: Path | str, values: Values) -> Specification:
    """path: a local file's, or the URL of one in an object store. UserError, `file: field: what is wrong; what to do`,
    for whatever is."""
    text = read_text(path)
    return replace(parse_specification(parse_yaml(text, path), values, str(path)), text=text)


def check_specification(path: Path | str, values: Values) -> Specification:
    """As a cluster will read it: what its environment holds is not known here, so any name in it will do."""
    return read_specification(path, replace(values, env=_AnyEnvironment()))


class _AnyEnvironment(dict[str, str]):
    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return f"${name}"


def parse_specification(content: Any, values: Values, name: str) -> Specification:
    """content: what YAML gave. name: the file's, for errors."""
    if not isinstance(content, dict):
        raise UserError(f"{name}: a job specification is a mapping that begins with apiVersion: {API_VERSION}")
    if content.get("apiVersion") != API_VERSION:
        raise UserError(f"{name}: apiVersion: must be {API_VERSION}, not {_shown(content.get('apiVersion'))}")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in ("pipeline", *KINDS):
        raise UserError(f"{name}: kind: {_unknown(kind, ['pipeline', *KINDS])}")
    body = "steps" if kind == "pipeline" else "spec"
    _check_keys(content, (*_TOP, body), f"{name}: ")
    template = Template(values)
    template.values = replace(values, vars=_variables(content, template, name))
    if kind == "pipeline":
        steps = _steps(content.get("steps"), template, name)
    else:
        steps = (_step(kind, kind, content.get("spec"), template, f"{name}: spec"),)
    cluster = template.filled(content.get("cluster") or {}, f"{name}: cluster")
    notify = template.filled(content.get("notify"), f"{name}: notify")
    if notify is not None and not str(notify).startswith(("http://", "https://", "$")):
        raise UserError(f"{name}: notify: must be a URL, http:// or https://")
    schedule = content.get("schedule")
    if schedule is not None and not isinstance(schedule, str):
        raise UserError(f"{name}: schedule: must be text as cron has it, such as '0 3 * * *', in quotes")
    return Specification(kind, steps, notify, schedule, cluster)


def _variables(content: Mapping[str, Any], template: Template, name: str) -> dict[str, Any]:
    variables = content.get("vars") or {}
    if not isinstance(variables, dict):
        raise UserError(f"{name}: vars: must be a mapping of names to values")
    return {**template.filled(variables, f"{name}: vars"), **template.values.vars}  # the command line's go first


def _steps(content: Any, template: Template, name: str) -> tuple[SpecifiedStep, ...]:
    if not isinstance(content, list) or not content:
        raise UserError(f"{name}: steps: must be a list of at least one step")
    steps: list[SpecifiedStep] = []
    fields_of: dict[str, dict[str, Any]] = {}  # of the steps so far, by name; the template sees it grow
    template.values = replace(template.values, steps=fields_of)
    for index, entry in enumerate(content):
        where = f"{name}: steps[{index}]"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: must be a mapping: a name, and a command with its fields")
        kinds = [key for key in entry if key != "name"]
        if len(kinds) != 1 or kinds[0] not in KINDS:
            wrong = next((key for key in kinds if key not in KINDS), None)
            problem = _unknown(wrong, KINDS) if wrong else f"name one of {', '.join(KINDS)}"
            raise UserError(f"{where}: a step has a name and one command: {problem}")
        step_name = entry.get("name", kinds[0])
        if not isinstance(step_name, str) or step_name in fields_of:
            raise UserError(f"{where}.name: {_shown(step_name)}: every step needs a name of its own")
        step = _step(step_name, kinds[0], entry[kinds[0]], template, f"{where}.{kinds[0]}")
        steps.append(step)
        fields_of[step_name] = step.as_json()[step.kind]
    return tuple(steps)


def _step(name: str, kind: str, content: Any, template: Template, where: str) -> SpecifiedStep:
    from ...pipeline.dataset.conditions import check_condition_of_others  # with DuckDB

    if not isinstance(content, dict):
        raise UserError(f"{where}: must be a mapping of the fields of `clipmill {kind}`")
    job_type = KINDS[kind].job
    _check_keys(content, [each.name for each in fields(job_type)], f"{where}.")
    filled = template.filled(content, where)
    required = [f.name for f in fields(job_type) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [each for each in required if filled.get(each) is None]:
        raise UserError(f"{where}.{missing[0]}: missing; see `clipmill {kind} --help`")
    try:
        model = model_of(kind).model_validate(filled)
    except ValidationError as error:
        raise UserError(f"{where}.{_first(error, filled)}") from error
    job = job_type(**{key: getattr(model, key) for key in filled})
    try:
        job.check()  # now, and not when its turn comes, hours later
        for condition in getattr(job, "where", ()):
            check_condition_of_others(condition, "where", _FUNCTIONS)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return SpecifiedStep(name, kind, job)


def _first(error: ValidationError, filled: Mapping[str, Any]) -> str:
    """`field: what is wrong with it`, the first of pydantic's errors."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in filled)
    value = "" if first["loc"][0] == "storage_options" else f", not {_shown(first['input'])}"  # it may be a secret
    return f"{place}: {first['msg']}{value}"


def _check_keys(content: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"{where}{str(key)[:100]}: {_unknown(key, known)}")


def _unknown(word: Any, known: Iterable[str]) -> str:
    return f"unknown {_shown(word)}; {suggested(str(word).replace('-', '_'), known)}"


def _shown(value: Any) -> str:
    """A value as a message shows it: not all of a long one."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"

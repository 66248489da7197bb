"""Which jobs a specification can name, and what pydantic checks of them: made of the jobs' dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field
from datetime import date
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model
from pydantic import Field as Described

from ...pipeline.job.fields import alternatives, help_of, holds, job_fields
from ...pipeline.steps import STEPS
from .cluster_spec import ClusterSpec

KINDS = {step.name: step for step in STEPS if step.specified}


@cache
def model_of(kind: str) -> type[BaseModel]:
    """A model of the job's fields, strict about unknown ones, with their help as descriptions."""
    declared: dict[str, Any] = {field.name: _field(field, hint) for field, hint in job_fields(KINDS[kind].job)}
    model: type[BaseModel] = create_model(KINDS[kind].job_name, __config__=ConfigDict(extra="forbid"), **declared)
    return model


def json_schema() -> dict[str, Any]:
    """JSON Schema of job specifications, for editors."""
    definitions = {kind: model_of(kind).model_json_schema() for kind in KINDS}
    slots = {"type": "string", "pattern": r"\{\{.*\}\}"}  # any field may be a variable
    for schema in definitions.values():
        schema["properties"] = {key: {"anyOf": [value, slots]} for key, value in schema["properties"].items()}
    definitions["cluster"] = ClusterSpec.model_json_schema(ref_template="#/$defs/cluster/$defs/{model}")
    common = {
        "apiVersion": {"const": "clipmill/v1"},
        "vars": {"type": "object", "description": "Names for {{ vars.NAME }}."},
        "notify": {"type": "string", "description": "A URL that gets a POST of JSON at the end of a run."},
        "schedule": {"type": "string", "description": "When to run, as cron writes it."},
        "cluster": {"$ref": "#/$defs/cluster"},
    }
    jobs = [
        _document({**common, "kind": {"const": kind}, "spec": {"$ref": f"#/$defs/{kind}"}}, "spec") for kind in KINDS
    ]
    steps = [_document({"name": {"type": "string"}, kind: {"$ref": f"#/$defs/{kind}"}}, kind) for kind in KINDS]
    pipeline = {
        **common,
        "kind": {"const": "pipeline"},
        "steps": {"type": "array", "minItems": 1, "items": {"anyOf": steps}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "clipmill job specification",
        "$defs": definitions,
        "anyOf": [*jobs, _document(pipeline, "steps")],
    }


def _document(properties: dict[str, Any], body: str) -> dict[str, Any]:
    required = [name for name in ("apiVersion", "kind") if name in properties]
    return {
        "type": "object",
        "properties": properties,
        "required": [*required, body],
        "additionalProperties": False,
    }


def _field(field: Field[Any], hint: Any) -> tuple[Any, Any]:
    if holds(hint, Sequence):
        hint = Annotated[hint, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
    elif str in alternatives(hint):
        hint = Annotated[hint, BeforeValidator(_as_text)]
    if field.default_factory is not MISSING:
        default = Described(default_factory=field.default_factory, description=help_of(hint))
    else:
        default = Described(... if field.default is MISSING else field.default, description=help_of(hint))
    return hint, default


def _as_text(value: Any) -> Any:
    """What YAML takes for a date or a time, where text is wanted."""
    return value.isoformat() if isinstance(value, date) else value

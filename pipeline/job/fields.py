"""A job's fields as the command line and job specifications see them: names, types, help."""

from __future__ import annotations

from dataclasses import Field, fields
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from typing_extensions import Doc

from .flags import Flag


def job_fields(job: type[Any]) -> list[tuple[Field[Any], Any]]:
    """The fields that may be given, and their annotated types."""
    hints = get_type_hints(job, include_extras=True)
    return [(field, hints[field.name]) for field in fields(job) if field.init]


def help_of(hint: Any) -> str:
    """The text of the type's `Doc`."""
    return next((note.documentation for note in get_args(hint)[1:] if isinstance(note, Doc)), "")


def flag_of(hint: Any) -> Flag:
    """How the field is written on a command line."""
    return next((note for note in get_args(hint)[1:] if isinstance(note, Flag)), Flag())


def alternatives(hint: Any) -> list[Any]:
    """The types of a union, one after another; a type that is no union alone."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(kind) in (Union, UnionType):
        return [alternative for member in get_args(kind) for alternative in alternatives(member)]
    return [kind]


def holds(hint: Any, kind: type[Any]) -> bool:
    """Whether values may be sequences, or mappings; text is neither."""
    origins = [get_origin(alternative) for alternative in alternatives(hint)]
    return any(isinstance(origin, type) and issubclass(origin, kind) for origin in origins)


def writes_a_file(job: type[Any]) -> bool:
    """Whether the step writes one file: the help calls the value of its `out` FILE. The others write into a folder."""
    return any(field.name == "out" and flag_of(hint).metavar == "FILE" for field, hint in job_fields(job))

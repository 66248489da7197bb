"""A command's options are its job's fields: one definition for the command line and for job specifications."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typing_extensions import Doc

from ...pipeline.job import Flag
from .options import storage_options


def takes_job(command: Callable[..., None]) -> Callable[..., None]:
    """`command(job, …)` with one option for each field of the job's dataclass in place of its first parameter."""
    own = list(inspect.signature(command).parameters.values())
    hints = get_type_hints(command, include_extras=True)
    job = hints[own[0].name]
    options = {field.name: _option(field, hint) for field, hint in job_fields(job)}
    rest = [each.replace(annotation=hints[each.name], kind=each.KEYWORD_ONLY) for each in own[1:]]

    @wraps(command)
    def run(**given: Any) -> None:
        values = {name: _value(option.annotation, given.pop(name)) for name, option in options.items()}
        made = job(**{name: value for name, value in values.items() if value is not MISSING})
        from .early import check_early  # pyarrow takes a quarter of a second, and help needs none of it

        check_early(made)
        command(made, **given)

    parameters = [parameter.replace(annotation=_declared(parameter)) for parameter in options.values()]
    signature = inspect.Signature([*parameters, *rest])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return run


def job_fields(job: type[Any]) -> list[tuple[Field[Any], Any]]:
    """The fields that may be given, and their annotated types."""
    hints = get_type_hints(job, include_extras=True)
    return [(field, hints[field.name]) for field in fields(job) if field.init]


def help_of(hint: Any) -> str:
    return next((each.documentation for each in get_args(hint)[1:] if isinstance(each, Doc)), "")


def flag_of(hint: Any) -> Flag:
    return next((each for each in get_args(hint)[1:] if isinstance(each, Flag)), Flag())


def _option(field: Field[Any], hint: Any) -> inspect.Parameter:
    """The field as a parameter, still with the job's own type."""
    required = field.default is MISSING and field.default_factory is MISSING
    many = holds(hint, Sequence) or holds(hint, Mapping)
    default = inspect.Parameter.empty if required else None if many else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _declared(parameter: inspect.Parameter) -> Any:
    """What typer is told of it."""
    hint, flag = parameter.annotation, flag_of(parameter.annotation)
    if flag.argument:
        return Annotated[_plain(hint), typer.Argument(metavar=flag.metavar, help=help_of(hint))]
    name = f"--{parameter.name.replace('_', '-')}"
    names = flag.names or (
        (name if parameter.default is False else f"{name}/--no-{name[2:]}",) if _is_bool(hint) else ()
    )
    shown: Any = flag.default or True
    option = typer.Option(*names, metavar=flag.metavar, help=help_of(hint), show_default=shown)
    many = holds(hint, Sequence) or holds(hint, Mapping)
    required = parameter.default is parameter.empty
    return Annotated[_plain(hint) if required or not many else _plain(hint) | None, option]


def _plain(hint: Any) -> Any:
    """A type that typer knows: lists for sequences and mappings, one Literal for several."""
    if holds(hint, Sequence) or holds(hint, Mapping):
        return list[str]
    kinds = _alternatives(hint)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words:
        plain: Any = Literal[tuple(words)]
    else:
        (plain,) = [kind for kind in kinds if kind is not NoneType]
    return plain | None if NoneType in kinds else plain


def _alternatives(hint: Any) -> list[Any]:
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(kind) in (Union, UnionType):
        return [each for kind in get_args(kind) for each in _alternatives(kind)]
    return [kind]


def holds(hint: Any, kind: type[Any]) -> bool:
    """Whether values may be sequences, or mappings; text is neither."""
    origins = [get_origin(each) for each in _alternatives(hint)]
    return any(isinstance(origin, type) and issubclass(origin, kind) for origin in origins)


def _is_bool(hint: Any) -> bool:
    return bool in _alternatives(hint)


def _value(hint: Any, given: Any) -> Any:
    """What the job takes for what typer gave; MISSING leaves the field's default."""
    if holds(hint, Mapping):
        return storage_options(given)
    if holds(hint, Sequence):
        return MISSING if given is None else tuple(given)
    return given

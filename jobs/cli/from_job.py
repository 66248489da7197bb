"""A command's options are its job's fields: one definition for the command line and for job specifications."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field
from functools import wraps
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from ...pipeline.job.fields import alternatives, flag_of, help_of, holds, job_fields
from .helping import completions_of
from .options import folders, storage_options


def takes_job(command: Callable[..., None], check: Callable[[Any], None] = lambda _: None) -> Callable[..., None]:
    """`command(job, …)` with one option for each field of the job's dataclass in place of its first parameter. check:
    raises UserError for a job that is not worth the command's imports."""
    own = list(inspect.signature(command).parameters.values())
    hints = get_type_hints(command, include_extras=True)
    job = hints[own[0].name]
    options = {field.name: _option(field, hint) for field, hint in job_fields(job)}
    rest = [parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY) for parameter in own[1:]]

    @wraps(command)
    def run(**arguments: Any) -> None:
        values = {name: _value(option.annotation, arguments.pop(name)) for name, option in options.items()}
        request = job(**{name: value for name, value in values.items() if value is not MISSING})
        check(request)
        command(request, **arguments)

    parameters = [parameter.replace(annotation=_declared(parameter)) for parameter in options.values()]
    signature = inspect.Signature([*parameters, *rest])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    return run


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
    complete = completions_of(parameter.name)
    option = typer.Option(*names, metavar=flag.metavar, help=help_of(hint), show_default=shown, autocompletion=complete)
    many = holds(hint, Sequence) or holds(hint, Mapping)
    required = parameter.default is parameter.empty
    return Annotated[_plain(hint) if required or not many else _plain(hint) | None, option]


def _plain(hint: Any) -> Any:
    """A type that typer knows: lists for sequences and mappings, one Literal for several."""
    if holds(hint, Sequence) or holds(hint, Mapping):
        return list[str]
    kinds = alternatives(hint)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words:
        plain: Any = Literal[tuple(words)]
    else:
        (plain,) = [kind for kind in kinds if kind is not NoneType]
    return plain | None if NoneType in kinds else plain


def _is_bool(hint: Any) -> bool:
    return bool in alternatives(hint)


def _is_text(hint: Any) -> bool:
    """Whether a mapping's values are text, and no more."""
    return any(get_args(kind)[1:] == (str,) for kind in alternatives(hint))


def _value(hint: Any, argument: Any) -> Any:
    """The job's value for what typer read; MISSING leaves the field's default."""
    if holds(hint, Mapping):
        return folders(argument, flag_of(hint).names[0]) if _is_text(hint) else storage_options(argument)
    if holds(hint, Sequence):
        return MISSING if argument is None else tuple(argument)
    return argument

"""`clipmill run`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ...pipeline.redaction import redacted, redacted_text
from .commands import command_of
from .options import Json

if TYPE_CHECKING:
    from ..specifications.specification import Specification

SpecificationFile = Annotated[
    str, typer.Argument(metavar="JOB.yaml", help="A job specification, a file or a URL; see docs/operate.md.")
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A variable, before the specification's own. Repeatable."),
]
RunDate = Annotated[
    str | None, typer.Option(metavar="YYYY-MM-DD", help="What {{ date }} stands for.", show_default="today, UTC")
]


def run(
    job: SpecificationFile,
    set_: Variables = None,
    date: RunDate = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the jobs, with every default.")] = False,
    limits_are_success: Annotated[
        bool,
        typer.Option(
            "--limits-are-success",
            help="Exit with 0 where a step stops at its deadline or budget, for schedulers that try again what fails.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Run a job specification here: a job, or a pipeline of several. Run again to go on where it stopped."""
    from ...pipeline.errors import LimitReachedError
    from ..showing.console import err
    from ..specifications.runner import run_specification
    from ..specifications.specification import read_specification
    from ..specifications.templates import Values

    specification = read_specification(job, Values.given(set_ or (), date))
    if dry_run:
        _show(specification, json_)
        return
    try:
        run_specification(specification, lambda kind, job: command_of(kind)(job, json_=json_))
    except LimitReachedError as error:
        if not limits_are_success:
            raise
        err.print(redacted_text(str(error)))


def _show(specification: Specification, as_json: bool) -> None:
    """Every step with its defaults, slots filled and secrets hidden, as a specification again."""
    content = json.loads(json.dumps(redacted(specification.as_json()), default=str))  # tuples as lists
    if as_json:
        print(json.dumps(content))
    else:
        import yaml

        print(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), end="")


def schema() -> None:
    """Print the JSON Schema of job specifications, for editors."""
    from ..specifications.kinds import json_schema

    print(json.dumps(json_schema(), indent=2))

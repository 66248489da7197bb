"""`clipmill run`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .commands import command_of
from .options import Json

SpecificationFile = Annotated[
    Path, typer.Argument(metavar="JOB.yaml", help="A job specification; see docs/operate.md.")
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
    json_: Json = False,
) -> None:
    """Run a job specification here: a job, or a pipeline of several. Run again to go on where it stopped."""
    from ..specifications.run import run_specification, show_specification, values_of
    from ..specifications.specification import read_specification

    specification = read_specification(job, values_of(set_ or (), date))
    if dry_run:
        show_specification(specification, json_)
    else:
        run_specification(specification, lambda kind, job: command_of(kind)(job, json_=json_))


def schema() -> None:
    """Print the JSON Schema of job specifications, for editors."""
    import json

    from ..specifications.kinds import json_schema

    print(json.dumps(json_schema(), indent=2))

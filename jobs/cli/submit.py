"""`clipmill submit`"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from .options import Json
from .run import RunDate, SpecificationFile, Variables

Dashboard = Annotated[
    str,
    typer.Option("--address", envvar="RAY_DASHBOARD_ADDRESS", help="The cluster's dashboard, http://HOST:8265."),
]


def submit(
    job: SpecificationFile,
    address: Dashboard,
    set_: Variables = None,
    date: RunDate = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job, and end as it does.")] = True,
    ship: Annotated[
        bool, typer.Option("--ship/--no-ship", help="Send this clipmill along, or use the one that the cluster has.")
    ] = True,
    json_: Json = False,
) -> None:
    """Run a job specification on a Ray cluster. Slots like {{ env.NAME }} are filled there. Submit again to resume."""
    from ..specifications.specification import check_specification
    from ..specifications.templates import Values

    values = Values.given(set_ or (), date)
    text = check_specification(job, values).text
    from ..clusters.submit import Submission, follow  # with Ray, which takes seconds: the job is checked before
    from ..clusters.submit import submit as send

    submitted = send(Submission(text, address, values.date, tuple(set_ or ()), ship, json_))
    print(f"submitted {submitted}; `clipmill cancel {submitted} --address {address}` stops it", file=sys.stderr)
    if not wait:
        print(json.dumps({"job": submitted, "address": address}) if json_ else submitted)
        return
    try:
        follow(address, submitted, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        print(f"\nno longer following; {submitted} goes on", file=sys.stderr)
        raise typer.Exit(130) from None


def cancel(
    job: Annotated[str, typer.Argument(metavar="ID", help="As `clipmill submit` printed it.")],
    address: Dashboard,
) -> None:
    """Stop a submitted job. What it has committed stays; submit again to go on."""
    from ..clusters.submit import cancel as stop

    print("stopping" if stop(address, job) else "it has ended already")

"""`clipmill render`"""

from __future__ import annotations

from typing import Annotated

import typer

from .run import SpecificationFile, Variables


def render(
    job: SpecificationFile,
    set_: Variables = None,
    cluster_only: Annotated[
        bool, typer.Option("--cluster-only", help="A RayCluster that stays, for `clipmill submit`, and no job.")
    ] = False,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE:TAG", help="In place of the specification's.", show_default="as specified"),
    ] = None,
) -> None:
    """Print a job specification as KubeRay manifests: a RayJob, or a RayCronJob where it has a schedule. Its `cluster`
    part says which machines; `clipmill schema` lists what that may hold."""
    from ..clusters.rendering import render as rendered
    from ..specifications.templates import Values

    print(rendered(job, Values.given(set_ or (), None), cluster_only, image), end="")

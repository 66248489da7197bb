"""`clipmill serve`"""

from __future__ import annotations

from ...pipeline.job.serve import ServeJob


def serve(job: ServeJob) -> None:
    """Show a dataset on a web page: search it, browse it, see what a threshold keeps. Stop with Ctrl-C."""
    from ...pipeline.errors import UserError
    from ..showing.console import out
    from ..showing.progress import DownloadProgress

    try:
        from ..web.serving import run
        from ..web.site import Site
    except ModuleNotFoundError as error:
        raise UserError(f"the web page needs {error.name}: pip install 'clipmill[serve]'") from error
    with (
        DownloadProgress() as download,
        DownloadProgress("copying embeddings") as copying,
        Site.open(job, copying, download) as site,
    ):
        run(site, lambda url: out.print(f"{site.rows.rows:,} rows of {job.dataset} at {url}"))

"""`clipmill serve`"""

from __future__ import annotations

from ...pipeline.job.serve import ServeJob


def serve(job: ServeJob) -> None:
    """Show a dataset on a web page: search it, browse it, see what a threshold keeps. Stop with Ctrl-C."""
    from ...pipeline.errors import UserError
    from ..showing.console import out
    from ..showing.progress import DownloadProgress

    try:
        from ..web.serving import serve as run
    except ModuleNotFoundError as error:
        raise UserError(f"the web page needs {error.name}: pip install 'clipmill[serve]'") from error
    with DownloadProgress() as download, DownloadProgress("copying embeddings") as copying:
        run(job, lambda rows, url: out.print(f"{rows:,} rows of {job.dataset} at {url}"), copying, download)

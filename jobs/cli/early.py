"""What is refused before a command imports what it works with: torch, Ray and DuckDB take seconds."""

from __future__ import annotations

from typing import Any

from ...pipeline.dataset.dataset import begun_at


def check_early(job: Any) -> None:
    """UserError for values that no run could use, and for a dataset that is not there. The step itself asks again."""
    if hasattr(job, "check"):
        job.check()
    if hasattr(job, "dataset"):
        begun_at(job.dataset, job.storage_options)

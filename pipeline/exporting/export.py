"""A dataset in layouts that other tools read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..dataset.columns import check_column_names
from ..dataset.dataset import Dataset
from ..dataset.derived import begin, begun
from ..dataset.output import Output
from ..dataset.sql import only_named
from ..dataset.subset import Subset
from ..errors import InputError, OutputError
from ..job.export import ExportJob
from ..job.readable import Result
from ..running import notebook
from ..running.stages import OnStage
from ..storage.urls import canonical_url
from .clip_retrieval import FOLDERS, write_clip_retrieval
from .datacomp import write_datacomp
from .exportable import Exportable, Written
from .iceberg import check_catalogue, register
from .lance import write_lance

_WRITERS: dict[str, Callable[[Exportable, Output, ExportJob, OnStage], Written]] = {
    "datacomp": write_datacomp,
    "clip-retrieval": write_clip_retrieval,
    "lance": write_lance,
}


@dataclass(frozen=True)
class Export(Result):
    """What `export` returns. rows = exported + failed + incomplete."""

    out: str
    dataset: str
    to: str
    rows: int
    exported: int
    failed: int  # left out: they have no embedding
    incomplete: int  # left out: they have only an image or only a caption, and others have both
    files: int  # or a table's pieces
    done_before: int  # of them
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def export(job: ExportJob, on_stage: OnStage = notebook.stages) -> Export:
    """Writes a dataset, or the rows of a subset, for other tools; run again to resume, or when the dataset has grown.

    UserError where the request is wrong or nothing can be exported, PlanMismatchError where OUT was begun otherwise.
    """
    job.check()
    dataset = Dataset.open(job.dataset, job.storage_options).join(job.joins)
    check_column_names(job.columns, dataset.types)
    dataset.model(job.alias)  # refuses an alias that the dataset does not have
    within = Subset.within(job.within, dataset)
    output = Output.at(job.out, job.storage_options)
    if job.to == "iceberg":
        return _registered(job, dataset, output)
    exportable = Exportable.of(only_named(dataset, job.columns), within, job, on_stage)
    output = _begun(job, dataset, output, exportable.sides)
    written = _WRITERS[job.to](exportable, output, job, on_stage)
    return Export(
        out=output.url,
        dataset=dataset.url,
        to=job.to,
        rows=exportable.rows,
        exported=exportable.exported,
        failed=exportable.failed,
        incomplete=exportable.incomplete,
        files=written.files,
        done_before=written.done_before,
        notes=written.notes,
    )


def _registered(job: ExportJob, dataset: Dataset, output: Output) -> Export:
    """All rows, the failed ones included: the parts are the table."""
    check_catalogue(output, job)
    holding = {dataset.url: dataset.forgotten} | {side.url: side.forgotten for side in dataset.sides}
    for url, forgotten in holding.items():
        if pending := forgotten.pending:
            raise InputError(
                f"{url}: its parts hold {pending:,} rows that were forgotten, and Iceberg's tables name parts as they "
                "are; run `clipmill forget --purge` first"
            )
    output = _begun(job, dataset, output, ())
    written, rows = register(dataset, output, job)
    return Export(output.url, dataset.url, job.to, rows, rows, 0, 0, written.files, written.done_before, written.notes)


def _begun(job: ExportJob, dataset: Dataset, output: Output, sides: tuple[str, ...]) -> Output:
    """Begin or continue OUT. OutputError for a folder with other files: an export would delete them."""
    output = output.prepare()
    if begun(output) is None:
        strangers = output.names() | {f"{folder}/{name}" for folder in FOLDERS for name in output.names(folder)}
        if strangers:
            raise OutputError(
                f"{output.url} holds files that clipmill did not write ({min(strangers)}): choose another folder"
            )
    settings = {
        "dataset": dataset.url,
        "fingerprint": dataset.settings.digest,
        "to": job.to,
        "sides": list(sides),
        "within": canonical_url(job.within) if job.within else None,
        "model": dataset.model(job.alias).alias,
        "rows per file": job.rows_per_file if job.to == "clip-retrieval" else None,
        "table": job.table if job.to == "iceberg" else None,
        "columns": list(job.columns) or None,
        "joined": [side.option for side in dataset.sides] or None,
    }
    begin(output, "export", settings)
    return output

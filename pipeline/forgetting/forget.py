"""Rows that no step may read from now on; and with a purge, deleted wherever clipmill has written them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..dataset.dataset import Dataset
from ..dataset.layout import OWN, REPORT, SUCCESS
from ..dataset.ledger import ledger
from ..dataset.local_copies import search_copies
from ..dataset.manifest import Manifest
from ..dataset.manifest_files import segments_of, write_manifest
from ..dataset.narrow import NARROW, narrow_files
from ..dataset.output import Output
from ..dataset.plan import planned_shards
from ..errors import InputError
from ..job.forget import ForgetJob
from ..job.readable import Result
from ..records import ShardStats
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from .folders import Cleaned, Folder
from .lists import read_list
from .purge import PurgePart
from .remembering import digests_of, find, new_rows, note, remember

_WAS_COMPLETE = f"{OWN}/purging"  # while parts are rewritten the dataset does not count as complete


@dataclass(frozen=True)
class ForgetSummary(Result):
    """What `forget` returns."""

    dataset: str
    asked: int  # values in the lists, each once
    new: int  # rows that are forgotten by this run; with `count`, that would be
    new_parts: int  # that have such rows
    forgotten: int  # rows of the dataset that are forgotten by now
    pending: int  # of these, rows that parts hold still
    purged: int  # rows deleted from parts by this run
    purged_parts: int
    folders: tuple[Cleaned, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def forget(job: ForgetJob, on_stage: OnStage = notebook.stages) -> ForgetSummary:
    """Remembers what is asked for, as digests: from now on, every step reads such rows as failed ones of which nothing
    is known. Rows that come later are left out, too. Run again to resume, or for more.

    With `purge`, parts are written anew without what they held of all rows forgotten so far, the dataset's caches go,
    and so does what folders named by `also` hold of them. UserError for what is wrong with the request.
    """
    began = time.monotonic()
    job.check()
    lists = {kind: read_list(path, kind, job.storage_options) for kind, path in job.lists.items()}
    dataset = Dataset.open(job.dataset, job.storage_options)
    if lacking := [kind for kind in lists if kind not in dataset.schema.names]:
        raise InputError(f"{dataset.url} has no column {lacking[0]}; name rows by another one")
    folders = [Folder.open(url, dataset) for url in dict.fromkeys(job.also)]
    digests, before = digests_of(dataset, lists, job.address, on_stage), _forgotten(dataset)
    if job.count:
        fresh = new_rows(dataset, digests, job.address, on_stage)
    else:
        dataset.output.prepare()
        remember(dataset.output, digests)
        find(dataset, job.address, on_stage)
        dataset = Dataset.open(job.dataset, job.storage_options)
        fresh = {part: more for part, rows in _forgotten(dataset).items() if (more := rows - before.get(part, 0))}
        if lists:
            asked = {kind: len(values) for kind, values in lists.items()}
            note(dataset.output, did="forget", asked=asked, rows=sum(fresh.values()))
    purged = _purged(job, dataset, folders, on_stage) if job.purge else _Purged(dataset)
    return ForgetSummary(
        dataset=dataset.url,
        asked=sum(map(len, lists.values())),
        new=sum(fresh.values()),
        new_parts=len(fresh),
        forgotten=sum(_forgotten(dataset).values()),
        pending=purged.dataset.forgotten.pending,
        purged=purged.rows,
        purged_parts=purged.parts,
        folders=purged.folders,
        seconds=time.monotonic() - began,
    )


def _forgotten(dataset: Dataset) -> dict[str, int]:
    """Rows by part."""
    return {part: len(of_part.rows) for part, of_part in dataset.forgotten.parts.items()}


@dataclass(frozen=True)
class _Purged:
    dataset: Dataset  # as it is afterwards
    rows: int = 0
    parts: int = 0
    folders: tuple[Cleaned, ...] = ()


def _purged(job: ForgetJob, dataset: Dataset, folders: Sequence[Folder], on_stage: OnStage) -> _Purged:
    """Parts first, then what was made of them: whatever is made meanwhile is made of blanked rows."""
    rows, parts = dataset.forgotten.pending, len(_rewrite_parts(dataset, job.address, on_stage))
    dataset = Dataset.open(job.dataset, job.storage_options)
    _clear_caches(dataset)
    cleaned = tuple(folder.clean(dataset) for folder in folders)
    note(dataset.output, did="purge", rows=rows, parts=parts, folders=[asdict(folder) for folder in cleaned])
    return _Purged(dataset, rows, parts, cleaned)


def _rewrite_parts(dataset: Dataset, address: str, on_stage: OnStage) -> list[ShardStats]:
    """Rewrites the parts that hold forgotten rows, then the manifest. Goes on where a run was killed."""
    output, forgotten = dataset.output, dataset.forgotten
    parts = [part for part, of_part in forgotten.parts.items() if of_part.pending]
    if parts:  # of many parts the manifest is believed, as long as a dataset is complete: its sizes are wrong meanwhile
        if output.read(SUCCESS) is not None:
            output.write(_WAS_COMPLETE, b"")
            output.delete(SUCCESS)
        purge = PurgePart(output, forgotten.only(parts))
        spread = counted(scatter(purge, parts, address), "purging", "parts", len(parts), on_stage)
        stats = dict(spread)
        _write_manifest(output, Manifest.of(stats.values()).under(stats))
    elif output.read(_WAS_COMPLETE) is not None:
        stats = {}
        _write_manifest(output, Manifest.of())
    else:
        return []
    if output.read(_WAS_COMPLETE) is not None:
        output.write(SUCCESS, b"")
        output.delete(_WAS_COMPLETE)
    return list(stats.values())


def _write_manifest(output: Output, fresh: Manifest) -> None:
    segments = segments_of(output)
    write_manifest(output, ledger(output, planned_shards(output), fresh), segments)


def _clear_caches(dataset: Dataset) -> None:
    """Files of the narrow table that may hold what is forgotten, what reports have kept, and this machine's copies of
    embeddings and rows."""
    current = {file.name for file in narrow_files(dataset)}
    _delete(dataset.output, [f"{NARROW}/{name}" for name in dataset.output.names(NARROW) - current])
    _delete(dataset.output, [f"{REPORT}/{name}" for name in dataset.output.names(REPORT)])
    shutil.rmtree(search_copies(dataset.url), ignore_errors=True)


def _delete(output: Output, names: Sequence[str]) -> None:
    for name in names:
        output.delete(name)

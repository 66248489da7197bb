"""New WebDataset shards of a subset's samples, or of all embedded rows of a dataset. No image is encoded again."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from ..dataset.columns import check_column_names
from ..dataset.dataset import Dataset
from ..dataset.derived import begin, begun
from ..dataset.footer import embedded_rows, read_footer, shard_of
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.plan import is_another
from ..dataset.side_table import identity_of
from ..dataset.sql import only_named
from ..dataset.subset import ROWS, Subset
from ..errors import InputError, OutputError
from ..inputs.listing import look_again
from ..job.readable import Result
from ..job.reshard import ReshardJob
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from .new_shard import WriteShard
from .reshard_plan import Source, cut

_AT_ONCE = 16  # footers read


@dataclass(frozen=True)
class ReshardSummary(Result):
    """The result of `reshard`."""

    out: str
    dataset: str
    subset: str | None
    samples: int
    shards: int
    shards_done_before: int
    tar_bytes: int  # of this run, like the fields below
    requests: int  # for bytes within source shards
    request_bytes: int
    whole_shards: int  # read from beginning to end
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def reshard(job: ReshardJob, on_stage: OnStage = notebook.stages) -> ReshardSummary:
    """Write the samples into tars of `samples_per_shard`, all of their files unchanged; run again to resume.

    Source shards are read by range requests, or completely where that is no slower. Raises UserError for a wrong
    request and for source shards that are gone or have changed since they were embedded, PlanMismatchError where OUT
    was begun with other settings.
    """
    began = time.monotonic()
    job.check()
    subset = _subset(job)
    dataset = Dataset.open(subset.source if subset else job.source, job.storage_options).join(job.joins)
    check_column_names(job.columns, dataset.types)
    beside = tuple(name for name in dict.fromkeys(job.columns) if dataset.side_of(name))
    dataset = only_named(dataset, beside)
    if subset:
        subset.check_fits(dataset)
    sources = _sources(dataset, subset)
    output = Output.at(job.out, job.storage_options).prepare()
    _begin(output, job, dataset, subset, sources)

    samples = sum(source.wanted for source in sources)
    shards = -(-samples // job.samples_per_shard)
    digits = (max(5, len(str(shards - 1))), len(str(job.samples_per_shard - 1)))
    write, done = WriteShard(dataset, subset, output, digits, beside, job.storage_options), output.names()
    left = sum(f"{write.name_of(number)}.tar" not in done for number in range(shards))
    if left:
        _check_unchanged(sources, job.storage_options)
    every = cut(sources, job.samples_per_shard, job.shuffle)
    todo = (new for new in every if f"{write.name_of(new.number)}.tar" not in done)
    written: Counter[str] = Counter()
    for _, written_shard in counted(scatter(write, todo, job.address), "resharding", "shards", left, on_stage):
        written.update(asdict(written_shard))
    return ReshardSummary(
        out=output.url,
        dataset=dataset.url,
        subset=subset.output.url if subset else None,
        samples=samples,
        shards=shards,
        shards_done_before=shards - left,
        tar_bytes=written["tar_bytes"],
        requests=written["requests"],
        request_bytes=written["request_bytes"],
        whole_shards=written["whole_shards"],
        seconds=time.monotonic() - began,
    )


def _subset(job: ReshardJob) -> Subset | None:
    """None where the source is a dataset, or neither: then opening the dataset says so."""
    if begun(Output.at(job.source, job.storage_options)) is None:
        return None
    return Subset.open(job.source, job.storage_options)


def _sources(dataset: Dataset, subset: Subset | None) -> list[Source]:
    """Parts with wanted rows, in the dataset's order. Reads footers only."""
    missing = set(subset.parts) - set(dataset.parts) if subset else ()
    if missing:
        raise InputError(f"{dataset.url}: {min(missing)} is gone, but the subset has rows of it; embed its shard again")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sources = pool.map(partial(_source, dataset, subset), subset.parts if subset else dataset.parts)
        return [source for source in sources if source.wanted]


def _source(dataset: Dataset, subset: Subset | None, part: str) -> Source:
    with dataset.output.open(part_path(part)) as file:
        footer = read_footer(file, dataset.url_of(part))
    shard, wanted = shard_of(footer, dataset.url_of(part)), embedded_rows(footer, dataset.url_of(part))
    which = ""
    if part in dataset.forgotten.parts:
        wanted, which = dataset.read(part, ["error"])["error"].null_count, dataset.forgotten.parts[part].digest
    if subset:
        with subset.output.open(part_path(part)) as file:
            metadata = pq.ParquetFile(file).metadata
        wanted, which = metadata.num_rows, (metadata.metadata or {}).get(ROWS, b"").decode()
    return Source(part, shard, wanted, which, dataset.settings.sample_keys)


def _begin(output: Output, job: ReshardJob, dataset: Dataset, subset: Subset | None, sources: Sequence[Source]) -> None:
    """Begin or continue the folder of new shards."""
    tars = sorted(name for name in output.names() if name.endswith(".tar"))
    if tars and begun(output) is None:
        raise OutputError(
            f"{output.url} holds {tars[0]}, which `clipmill reshard` did not write: choose another folder"
        )
    chosen = json.dumps(
        [[source.part, source.shard.size, source.shard.etag, source.wanted, source.which] for source in sources]
    ) + identity_of(dataset.sides)
    settings = {
        "dataset": dataset.url,
        "fingerprint": dataset.settings.digest,
        "subset": subset.output.url if subset else None,
        "samples": sum(source.wanted for source in sources),
        "of sources": hashlib.sha256(chosen.encode()).hexdigest()[:16],
        "samples per shard": job.samples_per_shard,
        "shuffle": job.shuffle,
        "columns": list(job.columns) or None,
        "joined": [side.option for side in dataset.sides] or None,
    }
    begin(output, "reshard", settings)
    output.clear_uploads(lambda name: name.endswith(".tar") and name.removesuffix(".tar").isdecimal())


def _check_unchanged(sources: Sequence[Source], storage_options: Mapping[str, Any]) -> None:
    """InputError for source shards that have changed since they were embedded: a name may have been used again."""
    before = [source.shard for source in sources]
    for old, now in zip(before, look_again(before, storage_options), strict=True):
        if now is None:
            raise InputError(
                f"{old.url} is gone, so its samples cannot be read again: restore it, or leave its rows out"
            )
        if is_another(old, now):
            raise InputError(
                f"{old.url} has changed since it was embedded: restore it, or run `clipmill embed --refresh` and make "
                "the subset again"
            )

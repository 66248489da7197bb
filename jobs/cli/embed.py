"""`clipmill embed`"""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer
from typer import Option

from .options import Address, Debug, Json, PrecisionChoice, StorageOptions, storage_options


class EmbeddingChoice(str, Enum):
    float16, float32 = "float16", "float32"


Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT…", help="Shards: files, folders, globs, brace ranges ({00000..00099}), or @FILE that lists them."
    ),
]
Out = Annotated[str, Option("--out", "-o", help="Folder or object-store prefix for the Parquet parts.")]
Models = Annotated[
    list[str],
    Option(
        "--model",
        "-m",
        metavar="[ALIAS=]NAME",
        help="NAME, NAME=WEIGHTS or a weights file; `clipmill models` lists them. Repeatable: several models, each "
        "with an ALIAS= before it, in one pass; their columns begin with the alias.",
    ),
]
Columns = Annotated[
    list[str] | None,
    Option(
        metavar="NAME[:TYPE]",
        help="A field of the samples' json to copy (string, int64, float64 or bool). Repeatable; besides uid, url and "
        "caption.",
    ),
]
Precision = Annotated[
    PrecisionChoice,
    Option(help="Of the model's arithmetic; auto is what OUT was begun with, else bf16 on GPUs and fp32 on CPUs."),
]
EmbeddingType = Annotated[EmbeddingChoice, Option(help="Of the stored embeddings. Similarity is float32 always.")]
Images = Annotated[bool, Option("--images/--no-images", help="Embed the images.")]
Texts = Annotated[bool, Option("--texts/--no-texts", help="Embed the captions.")]
BatchSize = Annotated[int | None, Option(help="Images a forward pass.", show_default="auto")]
Workers = Annotated[int | None, Option(help="How many workers.", show_default="auto")]
GpusPerWorker = Annotated[
    float | None, Option(help="GPUs, or the share of one, a worker; 0 stays on CPUs.", show_default="auto")
]
MaxFailedSamples = Annotated[float, Option(help="Share of samples that may fail.")]
MaxFailedShards = Annotated[int, Option(help="Shards that may fail.")]
ShardDeadline = Annotated[
    float | None,
    Option(metavar="SECONDS", help="Take a shard from a worker that is not done by then.", show_default="none"),
]
RetryFailed = Annotated[
    bool, Option("--retry-failed", help="Embed again only failed shards, and shards with failed samples.")
]
Refresh = Annotated[bool, Option("--refresh", help="Embed again shards whose file has changed since.")]


def embed(
    inputs: Inputs,
    out: Out,
    model: Models,
    column: Columns = None,
    precision: Precision = PrecisionChoice.auto,
    embedding_type: EmbeddingType = EmbeddingChoice.float16,
    images: Images = True,
    texts: Texts = True,
    batch_size: BatchSize = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    max_failed_samples: MaxFailedSamples = 0.5,
    max_failed_shards: MaxFailedShards = 0,
    shard_deadline: ShardDeadline = None,
    retry_failed: RetryFailed = False,
    refresh: Refresh = False,
    address: Address = "auto",
    storage_option: StorageOptions = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Embed and score image-text shards into Parquet, one part a shard. Run again to resume."""
    from ...pipeline import EmbedJob
    from ...pipeline import embed as run
    from ...pipeline.errors import TooManyFailuresError
    from ...pipeline.job import columns_besides
    from ..interrupts import asked_to_stop
    from ..show import DownloadProgress, EmbedProgress, show_summary

    job = EmbedJob(
        inputs=inputs,
        out=out,
        model=model,
        columns=columns_besides(column or ()),
        precision=precision.value,
        embedding_type=embedding_type.value,
        images=images,
        texts=texts,
        batch_size=batch_size,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        max_failed_samples=max_failed_samples,
        max_failed_shards=max_failed_shards,
        shard_deadline=shard_deadline,
        retry_failed=retry_failed,
        refresh=refresh,
        address=address,
        storage_options=storage_options(storage_option),
    )
    try:
        with asked_to_stop() as stop, DownloadProgress() as download, EmbedProgress() as progress:
            summary = run(job, progress, download, stop)
    except TooManyFailuresError as error:
        if json_ and error.summary:
            print(json.dumps(error.summary.as_json()))
        raise
    print(json.dumps(summary.as_json())) if json_ else show_summary(summary)

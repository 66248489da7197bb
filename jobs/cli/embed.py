"""`clipmill embed`"""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer

from .options import Address, Debug, Json, StorageOptions, storage_options


class PrecisionChoice(str, Enum):
    auto, fp32, bf16, fp16 = "auto", "fp32", "bf16", "fp16"


class EmbeddingChoice(str, Enum):
    float16, float32 = "float16", "float32"


def embed(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Shards: files, folders, globs, brace ranges ({00000..00099}), or @FILE that lists them.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder or object-store prefix for the Parquet parts.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="NAME, NAME=WEIGHTS or a weights file; `clipmill models` lists them.")
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:TYPE]",
            help="A field of the samples' json to copy (string, int64, float64 or bool). Repeatable; besides "
            "uid, url and caption.",
        ),
    ] = None,
    precision: Annotated[
        PrecisionChoice, typer.Option(help="Of the model's arithmetic; auto is bf16 on GPUs and fp32 on CPUs.")
    ] = PrecisionChoice.auto,
    embedding_type: Annotated[
        EmbeddingChoice, typer.Option(help="Of the stored embeddings. Similarity is float32 always.")
    ] = EmbeddingChoice.float16,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Embed the images.")] = True,
    texts: Annotated[bool, typer.Option("--texts/--no-texts", help="Embed the captions.")] = True,
    batch_size: Annotated[int | None, typer.Option(help="Images a forward pass.", show_default="auto")] = None,
    workers: Annotated[int | None, typer.Option(help="How many workers.", show_default="auto")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="GPUs, or the share of one, a worker; 0 stays on CPUs.", show_default="auto")
    ] = None,
    max_failed_samples: Annotated[float, typer.Option(help="Share of samples that may fail.")] = 0.5,
    max_failed_shards: Annotated[int, typer.Option(help="Shards that may fail.")] = 0,
    address: Address = "auto",
    storage_option: StorageOptions = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Embed and score image-text shards into Parquet, one part a shard. Run again to resume."""
    from ...pipeline import EmbedJob
    from ...pipeline import embed as run
    from ...pipeline.parquet import Column
    from ...pipeline.run import DEFAULT_COLUMNS
    from ..show import EmbedProgress, download_progress, show_summary

    chosen = [Column.parse(name) for name in column or ()]
    names = {each.name for each in chosen}
    job = EmbedJob(
        inputs=inputs,
        out=out,
        model=model,
        columns=(*(each for each in DEFAULT_COLUMNS if each.name not in names), *chosen),
        precision=precision.value,
        embedding_type=embedding_type.value,
        images=images,
        texts=texts,
        batch_size=batch_size,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        max_failed_samples=max_failed_samples,
        max_failed_shards=max_failed_shards,
        address=address,
        storage_options=storage_options(storage_option),
    )
    with EmbedProgress() as progress:
        summary = run(job, progress, download_progress())
    if json_:
        print(json.dumps(summary.as_json()))
    else:
        show_summary(summary)

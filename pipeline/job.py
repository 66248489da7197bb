"""What the main job is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .encode import Precision
from .errors import UserError
from .parquet import Column, EmbeddingType
from .together import NamedModel, named_models

DEFAULT_COLUMNS = (Column("uid"), Column("url"), Column("caption"))


def columns_besides(chosen: Sequence[str]) -> tuple[Column, ...]:
    """The default columns and those chosen, `NAME[:TYPE]` each; a default one may be chosen with another type."""
    parsed = [Column.parse(text) for text in chosen]
    names = {column.name for column in parsed}
    return (*(column for column in DEFAULT_COLUMNS if column.name not in names), *parsed)


@dataclass(frozen=True)
class EmbedJob:
    """What to embed, with what, into what."""

    inputs: Sequence[str]
    out: str
    model: str | Sequence[str]  # [ALIAS=]NAME, NAME=WEIGHTS or a path; several, each with an alias, in one pass
    columns: tuple[Column, ...] = DEFAULT_COLUMNS
    precision: Literal["auto"] | Precision = "auto"
    embedding_type: EmbeddingType = "float16"
    images: bool = True
    texts: bool = True
    batch_size: int | None = None  # images; None chooses
    workers: int | None = None
    gpus_per_worker: float | None = None
    max_failed_samples: float = 0.5  # share of samples
    max_failed_shards: int = 0
    shard_deadline: float | None = None  # seconds, after which a shard is taken from a worker that hangs
    retry_failed: bool = False  # only what failed before: shards given up, and shards with failed samples
    refresh: bool = False  # embed shards again whose file has changed since
    address: str = "auto"
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> tuple[NamedModel, ...]:
        return named_models([self.model] if isinstance(self.model, str) else self.model)

    @property
    def embeds(self) -> list[str]:
        return [side for side, wanted in (("images", self.images), ("texts", self.texts)) if wanted]

    def check(self) -> None:
        """UserError for values that no run could use."""
        for name, value in (("--batch-size", self.batch_size), ("--workers", self.workers)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        _ = self.models  # which says what is wrong with them
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise UserError(f"--gpus-per-worker {self.gpus_per_worker:g}: must not be negative")
        if not 0 <= self.max_failed_samples <= 1:
            raise UserError(f"--max-failed-samples {self.max_failed_samples:g}: must be a share, from 0 to 1")
        if self.max_failed_shards < 0:
            raise UserError(f"--max-failed-shards {self.max_failed_shards}: must not be negative")
        if self.shard_deadline is not None and self.shard_deadline <= 0:
            raise UserError(f"--shard-deadline {self.shard_deadline:g}: must be more than 0 seconds")
        if not (self.images or self.texts):
            raise UserError("--no-images and --no-texts together leave nothing to embed")
        if len({column.name for column in self.columns}) < len(self.columns):
            raise UserError("--column: a name is given twice")

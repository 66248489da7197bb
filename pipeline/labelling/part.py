"""Labels of one part of a dataset: a file of the same name, rows in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ...clipmodel.zeroshot import background_share, top_classes
from ..dataset.dataset import Dataset, vectors_of
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.source import PART, source_of
from ..dataset.subset import Subset, rows_within
from ..records import Vectors
from .classes import NONE, Classes

_ROWS = 1 << 11  # at once: with a block of classes, 64 MB of logits
_SOURCE, _COUNTS = b"clipmill.source", b"clipmill.labels"


@dataclass(frozen=True)
class LabelCounts:
    """rows = labelled + none + those without an image embedding."""

    rows: int = 0
    labelled: int = 0
    none: int = 0
    uncovered: int = 0  # of labelled and none: the background fits them better than any class

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def images(self) -> int:
        """Those with an embedding."""
        return self.labelled + self.none


@dataclass(frozen=True)
class Classifier:
    """vectors: float32 [classes, dim], and background: float32 [names, dim], of what is none of the classes; both
    L2-normalised. scale: the model's logarithm of the inverse temperature."""

    vectors: Vectors
    background: Vectors
    scale: float


def label_schema(classes: Classes) -> pa.Schema:
    ids = pa.int64() if isinstance(classes.ids[0], int) else pa.string()
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("shard", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("row", pa.int32(), nullable=False),
            pa.field("label", pa.string()),  # the most probable class, or `none`; null without an image embedding
            pa.field("label_id", ids),
            pa.field("probability", pa.float32()),  # of the most probable class
            pa.field("margin", pa.float32()),  # its probability less that of the second
            pa.field("entropy", pa.float32()),  # of all classes' probabilities: 0 is certain, 1 is no idea
            pa.field("label_similarity", pa.float32()),  # cosine of the image and its most probable class
            pa.field("background", pa.float32()),  # the background's probability, were it one more class
            pa.field("labels", pa.list_(pa.string())),  # the top k, most probable first
            pa.field("probabilities", pa.list_(pa.float32())),
            pa.field("error", pa.string()),  # the dataset's own
        ]
    )


@dataclass(frozen=True)
class LabelPart:
    """Labels a part. One that is labelled already stays as it is, unless its source has changed."""

    dataset: Dataset
    output: Output
    image_column: str
    classes: Classes
    classifier: Classifier
    top_k: int
    threshold: float | None
    background_is_none: bool  # images that the background fits better are labelled none
    within: Subset | None
    done: frozenset[str]  # parts that have a file of labels

    def __call__(self, part: str) -> tuple[LabelCounts, bool]:
        """The part's counts, and whether it was labelled now."""
        rows = rows_within(self.within, part)
        source = source_of(self.dataset, part, rows)
        if part in self.done and (counts := self._counts_of(part, source)) is not None:
            return counts, False
        with self.output.staged(part_path(part), replace=True) as path:
            counts = self._write(path, part, rows, source)
        return counts, True

    def _counts_of(self, part: str, source: str) -> LabelCounts | None:
        """What labels written before say; None where they are of another source."""
        with self.output.open(part_path(part)) as file:
            metadata = pq.ParquetFile(file).metadata.metadata or {}
        if metadata.get(_SOURCE) != source.encode():
            return None
        return LabelCounts(**json.loads(metadata[_COUNTS]))

    def _write(self, path: Path, part: str, rows: npt.NDArray[np.int32] | None, source: str) -> LabelCounts:
        counts = LabelCounts()
        with pq.ParquetWriter(path, label_schema(self.classes), compression="zstd") as writer:
            for batch in self._batches(part, rows):
                labels, batch_counts = self._labels(batch)
                writer.write_table(labels)
                counts += batch_counts
            part_source = source_of(self.dataset, part, None)
            writer.add_key_value_metadata({_SOURCE: source, PART: part_source, _COUNTS: json.dumps(asdict(counts))})
        return counts

    def _batches(self, part: str, rows: npt.NDArray[np.int32] | None) -> Iterator[pa.RecordBatch]:
        columns = ["key", "shard", "row", self.image_column, "error"]
        for batch in replace(self.dataset, parts=(part,)).batches(columns, _ROWS):
            yield batch if rows is None else batch.filter(pc.is_in(batch["row"], value_set=pa.array(rows)))

    def _labels(self, batch: pa.RecordBatch) -> tuple[pa.Table, LabelCounts]:
        vectors, present = vectors_of(batch[self.image_column])
        k = min(self.top_k, len(self.classes.every))
        images, scale = torch.from_numpy(vectors[present]), torch.tensor(self.classifier.scale)
        top = top_classes(images, self._vectors, scale, min(max(k, 2), len(self.classes.every)))
        background = background_share(images, self._background, scale, top.log_total).numpy()
        indices, shares = top.indices.numpy(), top.probabilities.numpy()
        best = shares[:, 0]
        margin = best - shares[:, 1] if shares.shape[1] > 1 else best
        uncovered = background > best * (1 - background)  # the best class's share beside the background
        sure = (best >= (self.threshold or 0.0)) & ~(uncovered & self.background_is_none)
        similarity = np.einsum("nd,nd->n", vectors[present], self.classifier.vectors[indices[:, 0]])
        names, ids = self._names, self._ids
        first = pa.array(indices[:, 0], mask=~sure)
        spread = _Spread(present)
        columns = {
            "label": spread(pc.fill_null(names.take(first), NONE)),
            "label_id": spread(ids.take(first)),
            "probability": spread(pa.array(best)),
            "margin": spread(pa.array(margin)),
            "entropy": spread(pa.array(top.entropy.numpy())),
            "label_similarity": spread(pa.array(similarity)),
            "background": spread(pa.array(background)),
            "labels": spread(_lists(names.take(pa.array(indices[:, :k].reshape(-1))), k)),
            "probabilities": spread(_lists(pa.array(shares[:, :k].reshape(-1)), k)),
        }
        own = {name: batch[name] for name in ("key", "shard", "row", "error")}
        schema = label_schema(self.classes)
        labels = pa.table([(own | columns)[field.name] for field in schema], schema=schema)
        return labels, LabelCounts(len(batch), int(sure.sum()), int((~sure).sum()), int(uncovered.sum()))

    @cached_property
    def _vectors(self) -> Tensor:
        return torch.from_numpy(np.require(self.classifier.vectors, requirements="W"))  # Ray's arrays are read-only

    @cached_property
    def _background(self) -> Tensor:
        return torch.from_numpy(np.require(self.classifier.background, requirements="W"))

    @cached_property
    def _names(self) -> pa.Array:
        return pa.array(self.classes.names)

    @cached_property
    def _ids(self) -> pa.Array:
        return pa.array(self.classes.ids)


class _Spread:
    """Values of the rows that have an embedding, among all rows: null for the others."""

    def __init__(self, present: npt.NDArray[np.bool_]) -> None:
        self._indices = pa.array(np.cumsum(present) - 1, mask=~present)

    def __call__(self, values: pa.Array) -> pa.Array:
        return values.take(self._indices)


def _lists(values: pa.Array, k: int) -> pa.Array:
    offsets = np.arange(0, len(values) + 1, k, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)

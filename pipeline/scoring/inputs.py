"""What scorers get of a part's rows: their embeddings, or their images, decoded again as the model saw them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...clipmodel.header import read_header
from ...clipmodel.preprocess import Pixels, Preprocess
from ..dataset.dataset import Dataset, DatasetModel, vectors_of
from ..dataset.part import PartLayout
from ..embedding.chunk import Chunk
from ..embedding.clock import Clock
from ..embedding.decode import Decoder
from ..embedding.read_again import row_by_row, unchanged_shard
from ..embedding.shard_reader import InputOptions, ThreadedReader
from ..embedding.together import Decoders
from ..errors import UserError
from ..records import Vectors

COLUMNS = ("key", "shard", "row", "error")
_EMBEDDINGS = 1 << 13  # rows at once: 32 MB of the widest embeddings
_IMAGES = 1 << 8  # 39 MB at 224 pixels a side
_THREADS = 2  # that decode for one part: several parts are scored side by side


class Batch(NamedTuple):
    """Some rows of a part."""

    rows: pa.RecordBatch | pa.Table  # with `COLUMNS`
    values: npt.NDArray[Any]  # of the rows that have one, one for each along the first axis
    present: npt.NDArray[np.bool_]  # which rows these are


class Inputs(Protocol):
    """What scorers are given. Cheap to send to workers."""

    @property
    def trial(self) -> npt.NDArray[Any]:
        """Two values, with which functions are tried."""
        ...

    def batches(self, dataset: Dataset, part: str) -> Iterator[Batch]:
        """All rows of a part, in order."""
        ...


@dataclass(frozen=True)
class Embeddings:
    """float32 [n, dim], L2-normalised."""

    column: str
    dim: int

    @property
    def trial(self) -> Vectors:
        return np.eye(2, self.dim, dtype=np.float32)

    def batches(self, dataset: Dataset, part: str) -> Iterator[Batch]:
        for rows in dataset.only([part]).batches([*COLUMNS, self.column], _EMBEDDINGS):
            vectors, present = vectors_of(rows[self.column])
            yield Batch(rows, vectors[present], present)


@dataclass(frozen=True)
class Images:
    """uint8 [n, side, side, 3], RGB: what the model's encoder gets, before normalisation. Read from the shards."""

    preprocess: Preprocess

    @classmethod
    def of(cls, dataset: Dataset, model: DatasetModel) -> Images:
        """As that model's encoder got them. UserError for another library's, which has its own way."""
        cards = dataset.model_cards()
        card = cards[model.alias] if model.alias else cards
        if "library" in card:
            raise UserError(
                f"--pixels: {dataset.url} is of {card['variant']}, whose images {card['library']} makes ready; read "
                "the shards yourself, or take a dataset of one of clipmill's own models"
            )
        config, _ = read_header(json.dumps({"config": card["config"]}))
        decoding, turn = dataset.settings.decoding
        return cls(Preprocess(config.vision.image_size, config.preprocess, decoding, turn))

    @property
    def trial(self) -> Pixels:
        return np.zeros((2, *self._shape), np.uint8)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.preprocess.size, self.preprocess.size, 3

    def batches(self, dataset: Dataset, part: str) -> Iterator[Batch]:
        shard, own = unchanged_shard(dataset, part), dataset.read(part, COLUMNS)
        options = InputOptions(dataset.settings.sample_keys, dataset.output.storage_options)
        decoders, layout = Decoders((Decoder(self.preprocess, None),)), PartLayout((), 1, 1)
        with (
            ThreadPoolExecutor(_THREADS, thread_name_prefix="images") as pool,
            ThreadedReader(decoders, layout, pool, options).decoded(shard, Clock()) as chunks,
        ):
            pixels = row_by_row(_images(chunks), own, shard, part)
            for start in range(0, len(own), _IMAGES):
                rows = own.slice(start, _IMAGES)
                embedded = rows["error"].is_null().to_pylist()
                images = [image if good else None for good, image in zip(embedded, pixels, strict=False)]
                there = [image for image in images if image is not None]
                values = np.stack(there) if there else np.empty((0, *self._shape), np.uint8)
                yield Batch(rows, values, np.array([image is not None for image in images]))
            next(pixels, None)  # it says if there are more


def _images(chunks: Iterable[Chunk]) -> Iterator[tuple[str, Pixels | None]]:
    """The key of each sample, and its image."""
    for chunk in chunks:
        images = dict(zip(chunk.pixels_of.tolist(), chunk.pixels[0], strict=True)) if chunk.pixels else {}
        for position, key in enumerate(chunk.samples.column("key").to_pylist()):
            yield key, images.get(position)

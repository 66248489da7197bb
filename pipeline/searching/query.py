"""A query as a vector of the dataset's space: float32 [dim], L2-normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...clipmodel.models import AnyModel
from ..dataset.dataset import DatasetModel
from ..embedding.decode import Decoder
from ..embedding.encoder import Encoder, encoder_of
from ..errors import InputError, UserError
from ..inputs.entries import asking
from ..records import Sample, Vector
from ..storage.streams import read_whole
from ..storage.urls import canonical_url, open_storage
from .numbered_rows import NumberedRows

MAX_IMAGE = 64 << 20  # bytes


@dataclass(frozen=True)
class QueryModel:
    """A model that is ready to encode queries, one at a time. Thread-safe."""

    decoder: Decoder
    encoder: Encoder

    @classmethod
    def of(cls, loaded: AnyModel) -> QueryModel:
        """Takes a second where a model's weights are packed for the CPU: do it once, not for each query."""
        return cls(Decoder(loaded.preprocess, loaded.tokenizer), encoder_of(loaded.model, batch_size=1))

    def of_text(self, text: str) -> Vector:
        """The vector of a text; long ones are cut as captions are. UserError for a text that cannot be tokenised."""
        return self._encode(Sample(0, "", caption=text), "the query")

    def of_image(self, image: bytes, name: str) -> Vector:
        """The vector of an image file's bytes. UserError, which begins with `name`, where they cannot be decoded."""
        return self._encode(Sample(0, "", image=image), name)

    def _encode(self, sample: Sample, name: str) -> Vector:
        """As a sample of a shard would be."""
        row = self.decoder.decode(sample)
        if row.error is not None:
            raise UserError(f"{name}: {row.error.split(': ', 1)[-1]}")
        images = [] if row.pixels is None else [row.pixels]
        texts = [] if row.tokens is None else [row.tokens]
        vectors: Vector = np.concatenate(self.encoder.encode(images, texts))[0]
        return vectors


def of_row(numbered: NumberedRows, model: DatasetModel, position: int) -> Vector:
    """A row's own image, or where it has none its caption. InputError for a row that has neither."""
    sides = [f"{model.prefix}{side}_embedding" for side in ("image", "text")]
    (row,) = numbered.read([position], ["key", "error", *sides])
    for side in sides:
        if row[side] is not None:
            return np.array(row[side], dtype=np.float32)
    raise InputError(f"the pair of key {row['key']} has no embedding ({row['error'] or 'it is empty'}): choose another")


def read_image(path: str, storage_options: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a file on any storage. InputError where there is none, or it is larger than `MAX_IMAGE`."""
    url = canonical_url(path)
    with asking(url):
        info = open_storage(url, storage_options).info(url)
        if info["type"] == "directory":
            raise InputError(f"{path}: this is a folder: name an image file")
        if (info["size"] or 0) > MAX_IMAGE:
            raise InputError(f"{path} is larger than {MAX_IMAGE >> 20} MiB")
        return read_whole(url, storage_options)

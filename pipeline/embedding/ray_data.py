"""The encoder as a callable for Ray Data, Daft or plain loops: batches of columns in, the same with embeddings out."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...clipmodel import models
from ..choices import Decoding
from ..errors import SampleError, UserError
from ..records import Sample, Vectors
from .decode import Decoder
from .encoder import encoder_of
from .model_files import find_model


class Encoder:
    """`dataset.map_batches(Encoder, fn_constructor_args=("ViT-B/32",), batch_size=256, num_gpus=1, concurrency=4)`.

    model: as `clipmill embed --model` takes it. images, texts: the batch's columns of encoded images (bytes, or Hugging
    Face's dicts with such `bytes`) and of captions (str, or UTF-8 bytes); None leaves that side out, and so do None and
    NaN in a row. decode: as `--decode`. Adds `image_embedding` and `text_embedding`, float32 [rows, dim], zero
    where there is none, `similarity`, float32, NaN where there is none, and `error`, empty where nothing is wrong. A
    bad image or caption is such an error, and never an exception. There is no resuming here, and no ledger: for whole
    datasets use `embed`.
    """

    def __init__(
        self, model: str, images: str | None = "image", texts: str | None = "caption", decode: Decoding = "close"
    ) -> None:
        if images is None and texts is None:
            raise UserError("images and texts are both None: nothing to embed")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = models.read(find_model(model).resolved, device=device)
        self._images, self._texts = images, texts
        preprocess = loaded.card.images(decode) if images else None
        self._decoder = Decoder(preprocess, loaded.tokenizer if texts else None)
        self._encoder = encoder_of(loaded.model, device, "bf16" if device == "cuda" else "fp32")
        self._pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        images, texts = self._column(batch, self._images), self._column(batch, self._texts)
        rows = range(len(next(iter(batch.values()))))
        samples = [_sample(row, images[row], texts[row]) for row in rows]
        decoded = self._decoder.decode_batch(samples, self._pool)
        pixels = {row.row: row.pixels for row in decoded if row.pixels is not None}
        tokens = {row.row: row.tokens for row in decoded if row.tokens is not None}
        seen, read = self._encoder.encode(list(pixels.values()), list(tokens.values()))
        image, text = self._placed(rows, list(pixels), seen), self._placed(rows, list(tokens), read)
        both = np.isin(rows, list(pixels)) & np.isin(rows, list(tokens))
        added = {"image_embedding": image} if self._images else {}
        if self._texts:
            added["text_embedding"] = text
        if self._images and self._texts:
            added["similarity"] = np.where(both, np.einsum("ij,ij->i", image, text), np.nan).astype(np.float32)
        return {**batch, **added, "error": np.array([row.error or "" for row in decoded], dtype=object)}

    @staticmethod
    def _column(batch: dict[str, npt.NDArray[Any]], name: str | None) -> Any:
        if name is None:
            return [None] * len(next(iter(batch.values())))
        if name not in batch:
            raise UserError(f"the batch has no column {name!r}; its columns: {', '.join(batch)}")
        return batch[name]

    def _placed(self, rows: range, positions: list[int], vectors: Vectors) -> Vectors:
        placed = np.zeros((len(rows), self._encoder.dim), dtype=np.float32)
        placed[positions] = vectors
        return placed


def _sample(row: int, image: Any, caption: Any) -> Sample:
    try:
        return Sample(row, str(row), image=_image(image), caption=_caption(caption))
    except SampleError as error:
        return Sample(row, str(row), error=str(error))


def _image(cell: Any) -> bytes | None:
    path = None
    if isinstance(cell, Mapping) and "bytes" in cell:
        cell, path = cell["bytes"], cell.get("path")
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if not _is_null(cell):
        raise SampleError("read", f"image is not bytes ({type(cell).__name__})")
    if not _is_null(path):  # there is an image, though not here: no vector and no error would hide that
        raise SampleError("read", f"image is a path without bytes ({path})")
    return None


def _caption(cell: Any) -> bytes | str | None:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if not _is_null(cell):
        raise SampleError("read", f"caption is not text ({type(cell).__name__})")
    return None


def _is_null(cell: Any) -> bool:
    """None, NaN, and what pandas has for them; pandas itself need not be there."""
    if isinstance(cell, (float, np.floating)):
        return bool(np.isnan(cell))
    return cell is None or type(cell).__name__ in ("NAType", "NaTType")

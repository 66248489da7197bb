"""The encoder as a callable for Ray Data, Daft or plain loops: batches of columns in, the same with embeddings out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..clipmodel import weights
from .decode import Decoder
from .encode import ClipEncoder, Vectors
from .encoding.model_files import find_model
from .errors import UserError
from .records import Sample


class Encoder:
    """`dataset.map_batches(Encoder, fn_constructor_args=("ViT-B/32",), batch_size=256, num_gpus=1, concurrency=4)`.

    model: as `clipmill embed --model` takes it. images, texts: the batch's columns of encoded images (bytes) and of
    captions (str); None leaves that side out. Adds `image_embedding` and `text_embedding`, float32 [rows, dim], zero
    where there is none, `similarity`, float32, NaN where there is none, and `error`, empty where nothing is wrong. A
    bad image or caption is such an error, and never an exception. There is no resuming here, and no ledger: for whole
    datasets use `embed`.
    """

    def __init__(self, model: str, images: str | None = "image", texts: str | None = "caption") -> None:
        if images is None and texts is None:
            raise UserError("images and texts are both None: nothing to embed")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = weights.read(find_model(model).resolved, device=device)
        self._images, self._texts = images, texts
        self._decoder = Decoder(loaded.preprocess if images else None, loaded.tokenizer if texts else None)
        self._encoder = ClipEncoder(loaded.model, device, "bf16" if device == "cuda" else "fp32")
        self._pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        images, texts = self._column(batch, self._images), self._column(batch, self._texts)
        rows = range(len(next(iter(batch.values()))))
        samples = [Sample(row, str(row), image=images[row], caption=texts[row]) for row in rows]
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

    def _placed(self, rows: range, places: list[int], vectors: Vectors) -> Vectors:
        placed = np.zeros((len(rows), self._encoder.dim), dtype=np.float32)
        placed[places] = vectors
        return placed

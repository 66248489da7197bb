"""Another library's own tokenizer, as `seams.TextInput`.

What a library does with texts that are too long is its own: such a text is tokenised twice. `encode` then gives the ids
that the model takes, and behind them as many zeros as ids were cut off.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, one_line
from ..packed import PackedFiles

TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class HuggingFaceTexts:
    """One of transformers'. padded_with: the id that fills captions up to the context length; None for models that read
    a mask, for which captions are as long as they are."""

    files: PackedFiles
    context_length: int
    padded_with: int | None

    def describe(self) -> str:
        padded = "" if self.padded_with is None else ", padded"
        return f"first {self.context_length} tokens{padded}, of a tokenizer of sha256 {self.files.sha256[:16]}"

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        tokenizer, lock = tokenizer_in(self.files)
        with lock:  # its settings are changed by each call
            rows = tokenizer(list(texts), verbose=False)["input_ids"]
            if longest := [text for text, ids in zip(texts, rows, strict=True) if len(ids) > self.context_length]:
                cut = iter(tokenizer(longest, truncation=True, max_length=self.context_length)["input_ids"])
        if not all(rows):
            raise ValueError("a text without tokens")
        return [stretched(ids if len(ids) <= self.context_length else next(cut), len(ids)) for ids in rows]

    def truncate(self, ids: TokenIds) -> TokenIds:
        ids = ids[: self.context_length]
        if self.padded_with is None:
            return ids
        is_left = tokenizer_in(self.files)[0].padding_side == "left"
        return filled(ids, self.context_length, self.padded_with, 0 if is_left else len(ids))


@lru_cache(maxsize=16)
def tokenizer_in(files: PackedFiles) -> tuple[Any, threading.Lock]:
    """A tokenizer of transformers', and what keeps threads from using it together. ModelError where there is none."""
    from transformers import AutoTokenizer

    with files.unpacked() as folder:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except Exception as error:  # the library's own kinds
            raise ModelError(f"transformers cannot read its tokenizer: {one_line(error)[:200]}") from error
    return tokenizer, threading.Lock()


def stretched(ids: Sequence[int] | TokenIds, length: int) -> TokenIds:
    """The ids, and zeros behind them up to a length."""
    return filled(np.asarray(ids, np.int32), length, 0, len(ids))


def filled(ids: TokenIds, length: int, value: int, after: int) -> TokenIds:
    """The ids, with `value` behind the first `after` of them as often as they lack ids up to a length."""
    return np.insert(ids, after, np.full(max(0, length - len(ids)), value, np.int32))

"""A tokenizer of open_clip, its own or one of transformers, as `seams.TextInput`. Its models read padding, too."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, one_line
from ..packed import PackedFiles
from .texts import TokenIds, filled, stretched

CONFIG = "open_clip_config.json"
_READ = ("context_length", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs")  # by `open_clip.get_tokenizer`
_ADDED = 3  # tokens, in open_clip's mode `clips`

Padding = Literal["left", "right", "inside"]  # inside: before the last token


@dataclass(frozen=True)
class OpenClipTexts:
    """files: of a folder as open_clip's `local-dir:` names it. padded_with: the id that fills captions up to the
    context length."""

    files: PackedFiles
    context_length: int
    padded_with: int
    padding: Padding

    @classmethod
    def of(cls, model: PackedFiles) -> OpenClipTexts:
        """The tokenizer of a model in such a folder. ModelError where it cannot be read."""
        contents = {name: content for name, content in model.contents.items() if "/" not in name}
        text = json.loads(contents[CONFIG])["model_cfg"]["text_cfg"]
        read = {name: text[name] for name in _READ if text.get(name)}
        if "hf_tokenizer_name" in read:
            read["hf_tokenizer_name"] = "."  # it lies beside, so that models with equal tokens are equal here
        contents[CONFIG] = json.dumps({"model_cfg": {"text_cfg": read}}, sort_keys=True).encode()
        files = PackedFiles.holding(contents)
        tokenizer, _ = _tokenizer_in(files)
        inner = getattr(tokenizer, "tokenizer", None)
        if inner is None:
            return cls(files, tokenizer.context_length, 0, "right")
        if inner.pad_token_id is None:
            raise ModelError("its tokenizer has no token for padding; name one in tokenizer_config.json")
        padding: Padding = "inside" if tokenizer.tokenizer_mode == "clips" else inner.padding_side
        return cls(files, tokenizer.context_length, int(inner.pad_token_id), padding)

    def describe(self) -> str:
        tokenizer = f"open_clip's tokenizer of sha256 {self.files.sha256[:16]}"
        return f"first {self.context_length} tokens, padded, of {tokenizer}"

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        tokenizer, lock = _tokenizer_in(self.files)
        with lock:  # transformers' settings are changed by each call
            rows = tokenizer(list(texts)).numpy().astype(np.int32)
            counts = _counts(tokenizer, texts, rows)
        return [self._without_padding(row, count) for row, count in zip(rows, counts, strict=True)]

    def _without_padding(self, row: TokenIds, count: int) -> TokenIds:
        if count >= len(row):
            return stretched(row, count)
        if self.padding == "inside":
            return np.delete(row, slice(count - 1, -1))
        return row[:count] if self.padding == "right" else row[len(row) - count :]

    def truncate(self, ids: TokenIds) -> TokenIds:
        ids = ids[: self.context_length]
        after = {"left": 0, "right": len(ids), "inside": len(ids) - 1}[self.padding]
        return filled(ids, self.context_length, self.padded_with, after)


def _counts(tokenizer: Any, texts: Sequence[str], rows: npt.NDArray[np.int32]) -> list[int]:
    """Tokens of each text before it is cut. rows: what open_clip's tokenizer makes of the texts."""
    if inner := getattr(tokenizer, "tokenizer", None):
        is_clips = tokenizer.tokenizer_mode == "clips"
        cleaned = [tokenizer.clean_fn(text) for text in texts]
        counted = inner(cleaned, add_special_tokens=not is_clips, verbose=False)["input_ids"]
        return [len(ids) + _ADDED * is_clips for ids in counted]
    # the last token's id is none of padding's
    return [
        2 + len(tokenizer.encode(text)) if row[-1] else 1 + int(np.flatnonzero(row)[-1])
        for text, row in zip(texts, rows, strict=True)
    ]


@lru_cache(maxsize=16)
def _tokenizer_in(files: PackedFiles) -> tuple[Any, threading.Lock]:
    """A tokenizer of open_clip's, and what keeps threads from using it together. ModelError where there is none."""
    import open_clip

    is_transformers = "hf_tokenizer_name" in json.loads(files.contents[CONFIG])["model_cfg"]["text_cfg"]
    options = {"trust_remote_code": False, "local_files_only": True} if is_transformers else {}
    with files.unpacked() as folder:
        try:
            return open_clip.get_tokenizer(f"local-dir:{folder}", **options), threading.Lock()
        except Exception as error:  # the libraries' own kinds
            raise ModelError(f"open_clip cannot read its tokenizer: {one_line(error)[:200]}") from error

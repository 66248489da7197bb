"""Tokenizers that lie as a file beside the weights: SigLIP's, SigLIP 2's (which is Gemma's) and MetaCLIP 2's (XLM-V's).

Such a file is `tokenizer.json`, read by the `tokenizers` library, or a SentencePiece model, read by `sentencepiece`.
Texts are cleaned as transformers does it, and become the ids that it makes, but for one thing: a caption that spells
SigLIP's `</s>` or `<unk>` is text here, and no control token.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .config import TextConfig, Vocabulary
from .errors import ModelError, one_line

if TYPE_CHECKING:
    from torch import Tensor

TokenIds = npt.NDArray[np.int32]
Pieces = Callable[[Sequence[str]], list[list[int]]]  # texts -> ids, without those that begin and end a text

FILES = ("tokenizer.json", "spiece.model", "tokenizer.model")  # the first that is there is read
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPARED = 3  # ids that random weights leave to those of `_Ends`


@dataclass(frozen=True)
class _Ends:
    """The ids that stand before, after and behind a text."""

    begin: tuple[int, ...]
    eos: int
    padding: int


_ENDS: dict[Vocabulary, _Ends] = {
    "siglip": _Ends((), 1, 1),
    "gemma": _Ends((), 1, 0),
    "xlm_v": _Ends((0,), 2, 1),
}
EOS_IDS: dict[Vocabulary, int | None] = {"clip": None, **{name: ends.eos for name, ends in _ENDS.items()}}


@dataclass(frozen=True)
class VocabularyFile:
    """A tokenizer's file, whole, as it travels with the model's card to whoever tokenises."""

    name: str
    sha256: str
    packed: bytes = field(repr=False)  # compressed by zlib

    @classmethod
    def beside(cls, folder: Path) -> VocabularyFile | None:
        for path in (folder / name for name in FILES):
            if path.is_file():
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise ModelError(f"{path}: {error.strerror or error}") from error
                return cls(path.name, hashlib.sha256(content).hexdigest(), zlib.compress(content, 1))
        return None

    def pieces(self, lower: bool) -> Pieces:
        """lower: have texts lower-cased, if the file does not say so. ModelError where it is none."""
        content = zlib.decompress(self.packed)
        try:
            return _by_tokenizers(content, lower) if self.name.endswith(".json") else _by_sentencepiece(content)
        except ImportError as error:
            raise ModelError(
                f"{self.name} is read by `sentencepiece`, which is not installed: pip install 'clipmill[sentencepiece]'"
            ) from error
        except Exception as error:  # the libraries' own kinds
            raise ModelError(f"{self.name} is no tokenizer ({one_line(error)[:150]}): download it again") from error


def _by_tokenizers(content: bytes, lower: bool) -> Pieces:
    from tokenizers import Tokenizer, normalizers

    tokenizer = Tokenizer.from_str(content.decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if lower and '"Lowercase"' not in json.dumps(json.loads(content).get("normalizer")):
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])

    def pieces(texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return pieces


def _by_sentencepiece(content: bytes) -> Pieces:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_proto=content)

    def pieces(texts: Sequence[str]) -> list[list[int]]:
        return [processor.encode(text) for text in texts]

    return pieces


class PieceTokenizer:
    """Text -> token ids, as `tokenizer.Tokenizer` makes them for CLIP.

    file: None for random weights, which have no vocabulary of their own and take CLIP's pieces.
    """

    def __init__(self, config: TextConfig, file: VocabularyFile | None) -> None:
        self._config, self._file = config, file
        self.vocab_size, self.context_length = config.vocab_size, config.context_length
        self._ends, self._padded = _ENDS[config.vocabulary], config.pooling == "last"
        self._cleans = config.vocabulary == "siglip"
        self.eos = self._ends.eos
        self._pieces = file.pieces(config.vocabulary == "gemma") if file else _stand_in(config.vocab_size)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Ids of each text, int32 [length], with those that begin and end it, neither truncated nor padded."""
        cleaned = [canonical(text) for text in texts] if self._cleans else texts
        ends = self._ends
        return [np.array([*ends.begin, *ids, ends.eos], dtype=np.int32) for ids in self._pieces(cleaned)]

    def truncate(self, ids: TokenIds) -> TokenIds:
        """Cut to the context length, the last id staying [EOS]; where padding counts, padded to it, too."""
        length = self.context_length
        if len(ids) > length:
            ids = ids[:length].copy()
            ids[-1] = self.eos
        elif self._padded:
            ids = np.pad(ids, (0, length - len(ids)), constant_values=self._ends.padding)
        return ids

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Ids truncated and padded, int64 [n, context_length]."""
        import torch

        rows = self.encode([texts] if isinstance(texts, str) else texts)
        padded = torch.full((len(rows), self.context_length), self._ends.padding, dtype=torch.int64)
        for row, ids in zip(padded, rows, strict=True):
            ids = self.truncate(ids)
            row[: len(ids)] = torch.from_numpy(ids)
        return padded

    def __reduce__(self) -> tuple[type[PieceTokenizer], tuple[TextConfig, VocabularyFile | None]]:
        return PieceTokenizer, (self._config, self._file)


def canonical(text: str) -> str:
    """Lower-case, without ASCII punctuation, with one blank where there was white space: what SigLIP was trained on."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


def _stand_in(vocab_size: int) -> Pieces:
    from .tokenizer import FULL_VOCABULARY, Tokenizer

    tokenizer = Tokenizer(min(vocab_size - _SPARED, FULL_VOCABULARY))

    def pieces(texts: Sequence[str]) -> list[list[int]]:
        return [(ids[1:-1] + _SPARED).tolist() for ids in tokenizer.encode(texts)]

    return pieces

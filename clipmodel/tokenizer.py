"""CLIP's lower-cased byte-pair encoding (paper, section 2.4), from the public merge table.

Cleaning and splitting follow the reference to the letter, so the ids are the same. Speed comes from plain
ASCII taking short cuts that change nothing, and from merging each distinct word once: captions repeat
their words, and what is new is merged by the `tokenizers` library.
"""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import ftfy
import numpy as np
import numpy.typing as npt
import regex
import tokenizers
import torch
from tokenizers import models, pre_tokenizers
from torch import Tensor

from .errors import ModelError

SOS, EOS = "<|startoftext|>", "<|endoftext|>"
FULL_VOCABULARY = 49408  # 256 bytes, the same ending a word, 48,894 merges, [SOS] and [EOS]
_BYTES = 512
_WORDS = regex.compile(
    rf"{re.escape(SOS)}|{re.escape(EOS)}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)
# the same for lower-case ASCII, in the standard library's faster engine; commonest first, as no two can start alike
_ASCII_WORDS = re.compile(rf"[a-z]+|{re.escape(SOS)}|{re.escape(EOS)}|'(?:[stmd]|re|ve|ll)|[0-9]|[^\sa-z0-9]+")
_PLAIN = re.compile(r"[ -%'-~]*").fullmatch  # what ftfy and unescaping leave alone: no entity, no control character
_CACHED_WORDS = 1 << 17  # a few tens of megabytes

TokenIds = npt.NDArray[np.int32]


class Tokenizer:
    """Text -> token ids.

    vocab_size: a smaller vocabulary keeps the first merges only; [SOS] and [EOS] are always its last two ids.
    context_length: where `truncate` and calling the tokenizer cut.
    """

    def __init__(self, vocab_size: int = FULL_VOCABULARY, context_length: int = 77) -> None:
        if not _BYTES + 2 <= vocab_size <= FULL_VOCABULARY:
            raise ModelError(f"vocab_size is {vocab_size}; it must be from {_BYTES + 2} to {FULL_VOCABULARY}")
        self.vocab_size, self.context_length = vocab_size, context_length
        self.sos, self.eos = vocab_size - 2, vocab_size - 1
        self._bpe = _byte_pair_encoder(vocab_size)
        self._known: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Ids of each text, int32 [length], [SOS] and [EOS] included, as long as they come (not truncated)."""
        split = [words(text) for text in texts]
        known = self._merge_new({word for text in split for word in text})
        return [
            np.array([self.sos, *(i for word in text for i in known[word]), self.eos], dtype=np.int32) for text in split
        ]

    def truncate(self, ids: TokenIds) -> TokenIds:
        """Cut to the context length; the last id stays [EOS]."""
        if len(ids) <= self.context_length:
            return ids
        ids = ids[: self.context_length].copy()
        ids[-1] = self.eos
        return ids

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Ids truncated and zero-padded, int64 [n, context_length], as the reference's `tokenize` gives them."""
        rows = self.encode([texts] if isinstance(texts, str) else texts)
        padded = torch.zeros(len(rows), self.context_length, dtype=torch.int64)
        for row, ids in zip(padded, rows, strict=True):
            ids = self.truncate(ids)
            row[: len(ids)] = torch.from_numpy(ids)
        return padded

    def _merge_new(self, needed: set[str]) -> dict[str, list[int]]:
        """The word -> ids table with all of `needed` in it. A full table is replaced, never emptied: another
        thread may be reading it."""
        if len(self._known) > _CACHED_WORDS:
            self._known = {}
        known = self._known
        new = [word for word in needed if word not in known]
        merged = self._bpe.encode_batch_fast(new, add_special_tokens=False)
        known.update((word, encoding.ids) for word, encoding in zip(new, merged, strict=True))
        return known

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[int, int]]:
        return Tokenizer, (self.vocab_size, self.context_length)


def clean(text: str) -> str:
    """Mend encodings, unescape HTML twice, fold white space, lower the case."""
    if not _PLAIN(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def words(text: str) -> list[str]:
    """The pieces that pairs are merged within."""
    text = clean(text)
    return _ASCII_WORDS.findall(text) if text.isascii() else _WORDS.findall(text)


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """CLIP's merge table in rank order, as vendored in assets/ (MIT, see assets/LICENSE-bpe)."""
    packed = resources.files(__package__).joinpath("assets/bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")
    count = FULL_VOCABULARY - _BYTES - 2
    pairs = (line.split() for line in lines[1 : count + 1])  # the first line is a version
    return tuple((first, second) for first, second in pairs)


def byte_alphabet() -> list[str]:
    """The 256 printable characters that stand for the bytes, in the order that gives them their ids:
    bytes that are printable Latin-1 as themselves first, the others as the characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(others)]


@cache
def _byte_pair_encoder(vocab_size: int) -> tokenizers.Tokenizer:
    letters = byte_alphabet()
    kept = list(merges()[: vocab_size - _BYTES - 2])
    tokens = letters + [letter + "</w>" for letter in letters] + [first + second for first, second in kept]
    vocabulary = {token: i for i, token in enumerate([*tokens, SOS, EOS])}
    bpe = tokenizers.Tokenizer(models.BPE(vocabulary, kept, end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.add_special_tokens([SOS, EOS])
    return bpe

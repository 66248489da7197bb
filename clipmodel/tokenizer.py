"""CLIP's lower-cased byte-pair encoding (paper, section 2.4), from the public merge table.

Cleaning and splitting follow the reference exactly, so the ids are the same. Speed comes from short cuts for plain
ASCII that change nothing, and from merging each distinct word once: captions repeat their words, and new ones are
merged by the `tokenizers` library's model, without its pipeline around it.
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
import torch
from tokenizers import models
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
# text that ftfy and unescaping do not change: no control character, and no `&` that an entity could begin with
_PLAIN = re.compile(r"[ -%'-~]*(?:&(?![^ ])[ -%'-~]*)*").fullmatch
_CACHED_WORDS = 1 << 17  # a few tens of megabytes
_CACHED_LETTERS = 64  # of a word; longer ones are seldom seen again
# No token has more than 32 bytes, so this many characters hold all tokens up to the context length, with room for
# blanks and entities.
_MENDED_ANYWAY, _MENDED_A_TOKEN = 4096, 16
_NESTED_MOST = 16  # levels of `&amp;amp;…`: ftfy takes them off one by one, each in a pass over the text
_NESTED = re.compile(rf"&(?:amp;|#0{{0,9}}38;|#x0{{0,9}}26;){{{_NESTED_MOST + 1},}}", re.IGNORECASE)
# blanks of which ftfy makes nothing else: U+0085 becomes a word, U+001C and its like vanish between two words
_BLANK_RUNS = re.compile(r"[ \t\r\n\x0c\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]{5,}")
_LINE_ENDS = re.compile(r"[\r\n\u2028\u2029]")
_LONG_NUMBER = re.compile(r"(?<=&#)[0-9]{20,}")  # Python refuses to read numbers of more than 4,300 digits

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
        self._known = _Words(vocab_size)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Ids of each text, int32 [length], [SOS] and [EOS] included, not truncated.

        Of a text beyond `most_mended` characters that is not printable ASCII, or has entities, only the beginning is
        read: the ids up to the context length are those of the full text (unless ftfy repairs its encoding, which it
        judges by whole lines, or the beginning is entities of blanks and control characters, of which nothing is left),
        and their number is a lower bound. Entities nested more than 16 deep count as 16 deep.
        """
        if len(self._known) > _CACHED_WORDS:  # replaced, never emptied: another thread may be reading it
            self._known = _Words(self.vocab_size)
        known, rows = self._known, []
        for text in texts:
            ids = [self.sos]
            for word in words(text, self.most_mended):
                ids += known[word]
            ids.append(self.eos)
            rows.append(np.array(ids, dtype=np.int32))
        return rows

    @property
    def most_mended(self) -> int:
        return _MENDED_ANYWAY + _MENDED_A_TOKEN * self.context_length

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

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[int, int]]:
        return Tokenizer, (self.vocab_size, self.context_length)


class _Words(dict[str, list[int]]):
    """Word -> ids, merged when first requested. Threads may share it: two may merge a word, to the same ids."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__({SOS: [vocab_size - 2], EOS: [vocab_size - 1]})
        self._bpe = _byte_pair_encoder(vocab_size)

    def __missing__(self, word: str) -> list[int]:
        letters = word.encode().decode("latin-1").translate(_LETTERS)
        ids = [token.id for token in self._bpe.tokenize(letters)]
        if len(word) <= _CACHED_LETTERS:
            self[word] = ids
        return ids


def clean(text: str, most: int | None = None) -> str:
    """Mend encodings, unescape HTML twice, lower the case. White space is left as it is, since no word has any.

    most: characters that are mended; the rest of the text is cut off, between words where it has blanks.
    """
    if not _PLAIN(text):
        text = _NESTED.sub("&" + "amp;" * _NESTED_MOST, text)
        text = _unescape(_unescape(_mended(text, most or len(text))))
    return text.lower()


def _mended(text: str, most: int) -> str:
    """By ftfy: the text, or where it is longer at most `most` characters of it, its runs of blanks shortened."""
    if len(text) > most:
        text = _BLANK_RUNS.sub(_few_blanks, text)
    if len(text) <= most:
        return ftfy.fix_text(text)
    before = text[:most].rsplit(None, 1)[:-1]
    beginning = before[0] if before else text[:most]
    if "<" not in text[len(beginning) :].partition("\n")[0]:
        return ftfy.fix_text(beginning)
    lines, newline, last = beginning.rpartition("\n")  # ftfy leaves entities alone in a line that holds a tag
    return ftfy.fix_text(lines + newline) + ftfy.fix_text(last, unescape_html=False)


def _few_blanks(run: re.Match[str]) -> str:
    """A line stays a line. The first three stay what they are: they may be bytes of a letter before them that was
    decoded wrongly."""
    return run[0][:3] + ("\n" if _LINE_ENDS.search(run[0]) else " ")


def _unescape(text: str) -> str:
    if "&#" in text:
        text = _LONG_NUMBER.sub(lambda number: number[0].lstrip("0")[:20] or "0", text)
    return html.unescape(text)


def words(text: str, most: int | None = None) -> list[str]:
    """The pieces within which pairs are merged; most: as in `clean`."""
    text = clean(text, most)
    return _ASCII_WORDS.findall(text) if text.isascii() else _WORDS.findall(text)


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """CLIP's merge table in rank order, as vendored in assets/ (MIT, see assets/LICENSE-bpe)."""
    packed = resources.files(__package__).joinpath("assets/bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")
    count = FULL_VOCABULARY - _BYTES - 2
    pairs = (line.split() for line in lines[1 : count + 1])  # the first line is a version
    return tuple((first, second) for first, second in pairs)


def byte_alphabet() -> dict[int, str]:
    """Byte -> the printable character that stands for it, in the order that gives them their ids:
    bytes that are printable Latin-1 as themselves first, the others as the characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_LETTERS = byte_alphabet()


@cache
def _byte_pair_encoder(vocab_size: int) -> models.BPE:
    letters = list(_LETTERS.values())
    kept = list(merges()[: vocab_size - _BYTES - 2])
    tokens = letters + [letter + "</w>" for letter in letters] + [first + second for first, second in kept]
    vocabulary = {token: i for i, token in enumerate([*tokens, SOS, EOS])}
    # words are remembered here, so that it need not remember them too
    return models.BPE(vocabulary, kept, end_of_word_suffix="</w>", cache_capacity=0)

"""Sample -> Decoded: pixels and tokens, or the reason why there are none.

A row has every side that the sample holds and the model wants, or it failed: `error` then names the stage and the
reason, and pixels and tokens are None. A side that the sample does not hold is None, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from ...clipmodel.errors import ImageError
from ...clipmodel.preprocess import Preprocess
from ...clipmodel.seams import ImageInput, TextInput
from ..errors import SampleError
from ..records import Decoded, Sample, TokenIds

MAX_TOKENISED = 1 << 15  # characters of a caption; a model reads about 300, at most 1,000
_RUNS = 16  # of a batch's samples, each decoded by one thread
_MAX_SIDE = (1 << 31) - 1
_BOM = b"\xef\xbb\xbf"


def reason_of(error: str) -> str:
    """A row's error without the detail in brackets at its end, which differs from row to row: what is counted."""
    return error.split(" (", 1)[0]


@dataclass(frozen=True)
class Decoder:
    """Decodes images and tokenises captions. Without `preprocess` images are ignored, without `tokenizer` captions are.

    Thread-safe. No sample makes it raise: what cannot be decoded is a failed row.
    """

    preprocess: ImageInput | None
    tokenizer: TextInput | None
    engines: bool = False  # JPEGs that a GPU's engines decode stay encoded

    def decode(self, sample: Sample) -> Decoded:
        return self.decode_batch([sample])[0]

    def decode_batch(self, samples: Sequence[Sample], pool: Executor | None = None) -> list[Decoded]:
        """A row for each sample, in order.

        Images are decoded by the pool, which must be one of threads. All captions are tokenised in one call, each up to
        its first `MAX_TOKENISED` characters.
        """
        decoded = self._in_threads(samples, pool) if pool else [self._without_tokens(sample) for sample in samples]
        if self.tokenizer:
            self._tokenise(self.tokenizer, [row for row in decoded if row.error is None and row.caption is not None])
        for row, sample in zip(decoded, samples, strict=True):
            row.notes = sample.notes
            if row.error is not None:
                self._prefer_decodings_reason(row)
                row.pixels = row.tokens = row.encoded = None
            elif self.preprocess and self.tokenizer:
                row.half_pair = _half_pair(sample, row)
        return decoded

    def _in_threads(self, samples: Sequence[Sample], pool: Executor) -> list[Decoded]:
        """A few samples at a time: handing one to a thread costs 20 us, which is much where images stay encoded."""
        step = -(-len(samples) // _RUNS) or 1
        runs = [samples[start : start + step] for start in range(0, len(samples), step)]
        done = pool.map(lambda run: [self._without_tokens(sample) for sample in run], runs)
        return [row for rows in done for row in rows]

    def _without_tokens(self, sample: Sample) -> Decoded:
        row = Decoded(sample.row, sample.key, metadata=sample.metadata, image_offset=sample.image_offset)
        row.error = sample.error
        if sample.image is not None:
            row.image_size = len(sample.image)
            row.sha256 = hashlib.sha256(sample.image).hexdigest()
        if row.error is None and not self._holds_something(sample):
            row.error = f"read: {self._nothing}"
        if row.error is None and self.preprocess and sample.image is not None:
            left = self.engines and self._left_to_engines(self.preprocess, sample.image, row)
            if not left:
                self._read_image(self.preprocess, sample.image, row)
        try:
            row.caption = _caption(sample)
        except SampleError as error:
            if self.tokenizer and row.error is None:  # the first stage that failed is the reason
                row.error = str(error)
        return row

    def _holds_something(self, sample: Sample) -> bool:
        image = self.preprocess is not None and sample.image is not None
        caption = self.tokenizer is not None and _has_caption(sample)
        return image or caption

    @property
    def _nothing(self) -> str:
        if self.tokenizer is None:
            return "no image"
        return "no caption" if self.preprocess is None else "neither image nor caption"

    @staticmethod
    def _left_to_engines(preprocess: ImageInput, image: bytes, row: Decoded) -> bool:
        size = preprocess.size_for_engines(image) if isinstance(preprocess, Preprocess) else None
        if size is None:
            return False
        row.encoded, (row.width, row.height) = image, size
        return True

    def _prefer_decodings_reason(self, row: Decoded) -> None:
        """The first stage that failed is the reason, and decoding comes before tokenising, wherever it is done."""
        if row.encoded is not None and self.preprocess:
            error, row.error = row.error, None
            self._read_image(self.preprocess, row.encoded, row)
            row.error = row.error or error

    @staticmethod
    def _read_image(preprocess: ImageInput, image: bytes, row: Decoded) -> None:
        try:
            row.pixels, (row.width, row.height) = preprocess.with_size(image)
        except ImageError as error:
            row.error = f"decode: {error}"
            if error.size and max(error.size) <= _MAX_SIDE:  # a header may say more than the columns hold
                row.width, row.height = error.size

    @staticmethod
    def _tokenise(tokenizer: TextInput, rows: list[Decoded]) -> None:
        captions = [(row.caption or "")[:MAX_TOKENISED] for row in rows]
        try:
            encoded: list[TokenIds | str] = list(tokenizer.encode(captions))
        except Exception:  # because of one caption: the others must not fail with it
            encoded = [_encode_alone(tokenizer, caption) for caption in captions]
        for row, ids in zip(rows, encoded, strict=True):
            if isinstance(ids, str):
                row.error = f"tokenise: {ids}"
            else:
                row.caption_tokens = len(ids)
                row.tokens = np.asarray(tokenizer.truncate(ids), dtype=np.int32)


def _encode_alone(tokenizer: TextInput, caption: str) -> TokenIds | str:
    """The caption's tokens, or the reason why there are none."""
    try:
        return tokenizer.encode([caption])[0]
    except UnicodeError:
        return "caption is not Unicode text"
    except Exception as error:
        return f"caption cannot be tokenised ({type(error).__name__})"


def _half_pair(sample: Sample, row: Decoded) -> str | None:
    if sample.no_image or (row.pixels is None and row.encoded is None):
        return f"image: {sample.no_image or 'no file'}"
    if sample.no_caption or row.tokens is None:
        return f"caption: {sample.no_caption or 'no file'}"
    return None


def _has_caption(sample: Sample) -> bool:
    return sample.caption is not None or _metadata_caption(sample) is not None


def _metadata_caption(sample: Sample) -> str | None:
    """The json's `caption`, unless the reader of the sample says that it has none."""
    caption = sample.metadata.get("caption") if sample.no_caption is None else None
    return caption if isinstance(caption, str) else None


def _caption(sample: Sample) -> str | None:
    """The text file's contents where there is one, else the json's `caption`."""
    caption = sample.caption
    if caption is None:
        caption = _metadata_caption(sample)
        return None if caption is None else _mended(caption)
    if isinstance(caption, str):
        return _mended(caption)
    try:
        return caption.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + (len(_BOM) if caption.startswith(_BOM) else 0)
        detail = f"byte 0x{caption[at]:02x} at {at}"
        raise SampleError("tokenise", f"caption is not UTF-8 ({detail})") from error


def _mended(caption: str) -> str:
    """With U+FFFD for half a surrogate pair, which json may hold and UTF-8 cannot; the tokenizer does the same."""
    if caption.isascii():
        return caption
    return caption.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

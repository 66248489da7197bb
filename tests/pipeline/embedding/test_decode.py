"""Every sample becomes a row: whole, or failed with the stage and a reason that can be counted."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.pipeline.embedding.decode import MAX_TOKENISED, Decoder, reason_of
from clipmill.pipeline.records import Decoded, Sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

SIZE = 16
FIXED = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


class Words(Tokenizer):
    """One token a word. Refuses `cursed` captions, and notes how it is called."""

    def __init__(self, context_length: int = 5) -> None:
        self.context_length = context_length
        self.calls: list[int] = []

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.calls.append(len(texts))
        if any("cursed" in text for text in texts):
            raise RuntimeError(f"no idea what {texts} means")
        return [np.array([1, *(len(word) for word in text.split()), 2], dtype=np.int32) for text in texts]

    def truncate(self, ids: np.ndarray) -> np.ndarray:
        return ids if len(ids) <= self.context_length else np.append(ids[: self.context_length - 1], ids[-1:])


def jpeg(width: int = 40, height: int = 30) -> bytes:
    random = np.random.default_rng(width)
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def tiff(kind: type) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((30, 40)).astype(np.float32 if kind is float else kind)).save(buffer, "TIFF")
    return buffer.getvalue()


IMAGE = jpeg()
PREPROCESS = Preprocess(SIZE, PreprocessConfig())


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(PREPROCESS, Words())


def failed(row: Decoded) -> str:
    """The error of a row that is seen to carry nothing to encode."""
    assert row.error is not None and row.pixels is None and row.tokens is None
    return row.error


def test_a_pair_becomes_pixels_tokens_and_facts(decoder: Decoder) -> None:
    row = decoder.decode(Sample(7, "k", IMAGE, b"a red bus", {"uid": "u"}, image_offset=512))
    assert (row.row, row.key, row.caption, row.metadata) == (7, "k", "a red bus", {"uid": "u"})
    assert (row.image_offset, row.image_size, row.width, row.height) == (512, len(IMAGE), 40, 30)
    assert row.sha256 == hashlib.sha256(IMAGE).hexdigest()
    assert row.error is None and row.pixels is not None and row.tokens is not None
    np.testing.assert_array_equal(row.pixels, PREPROCESS(IMAGE))
    assert row.tokens.tolist() == [1, 1, 3, 3, 2] and row.tokens.dtype == np.int32


def test_tokens_are_counted_before_truncation(decoder: Decoder) -> None:
    row = decoder.decode(Sample(0, "k", None, b"one two three four five"))
    assert row.tokens is not None
    assert row.caption_tokens == 7 and len(row.tokens) == 5 and row.tokens[-1] == 2


def test_a_batch_comes_in_order_with_one_call_to_the_tokenizer() -> None:
    words = Words()
    samples = [Sample(i, str(i), jpeg(20 + i), f"number {i}".encode()) for i in range(12)]
    samples[4] = Sample(4, "4", b"junk", b"number 4")
    with ThreadPoolExecutor(4) as pool:
        threaded = Decoder(PREPROCESS, words).decode_batch(samples, pool)
    assert words.calls == [11]  # a row that failed already is not tokenised
    assert [row.row for row in threaded] == list(range(12))
    assert [row.width for row in threaded if row.error is None] == [20 + i for i in range(12) if i != 4]
    for row, alone in zip(threaded, Decoder(PREPROCESS, Words()).decode_batch(samples), strict=True):
        assert (row.key, row.caption, row.error, row.sha256) == (alone.key, alone.caption, alone.error, alone.sha256)
        np.testing.assert_array_equal(row.pixels, alone.pixels)
        np.testing.assert_array_equal(row.tokens, alone.tokens)


def test_an_empty_batch_is_empty(decoder: Decoder) -> None:
    assert decoder.decode_batch([]) == []


@pytest.mark.parametrize(
    "image, error",
    [
        (b"", "decode: empty file"),
        (b"<html>", "decode: an HTML page, not an image"),
        (IMAGE[: len(IMAGE) // 2], "decode: truncated JPEG"),
    ],
)
def test_a_broken_image_fails_the_row_and_keeps_what_is_known(decoder: Decoder, image: bytes, error: str) -> None:
    row = decoder.decode(Sample(3, "k", image, b"a bus", {"uid": "u"}))
    assert failed(row) == error
    assert (row.key, row.caption, row.metadata, row.image_size) == ("k", "a bus", {"uid": "u"}, len(image))
    assert row.sha256 == hashlib.sha256(image).hexdigest()
    assert (row.width, row.height) == ((40, 30) if "truncated" in error else (None, None))


@pytest.mark.parametrize(
    "image, error",
    [
        (b"<svg/>", "decode: SVG is not supported"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "decode: an MP4 video, not an image"),
        (tiff(float), "decode: float pixels are not supported"),
        (tiff(np.int32), "decode: 32-bit pixels are not supported"),
    ],
)
def test_what_is_not_decoded_is_a_failed_row_that_names_it(decoder: Decoder, image: bytes, error: str) -> None:
    rows = [decoder.decode(Sample(0, "k", image, b"a bus")) for _ in range(2)]
    assert [failed(row) for row in rows] == [error, error]


@pytest.mark.parametrize("side", [100_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_a_size_that_no_column_holds_is_left_out(decoder: Decoder, side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    row = decoder.decode(Sample(0, "k", b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header))))
    assert failed(row).startswith("decode: ")
    assert row.width is None or row.width < 1 << 31


def test_neither_image_nor_caption_is_a_read_failure(decoder: Decoder) -> None:
    assert failed(decoder.decode(Sample(0, "k", metadata={"caption": None}))) == "read: neither image nor caption"


def test_an_image_without_caption_is_legal(decoder: Decoder) -> None:
    row = decoder.decode(Sample(0, "k", IMAGE))
    assert row.error is None and row.pixels is not None
    assert (row.caption, row.tokens, row.caption_tokens) == (None, None, None)


def test_a_caption_without_image_is_legal(decoder: Decoder) -> None:
    row = decoder.decode(Sample(0, "k", None, b"a bus"))
    assert row.error is None and row.tokens is not None
    assert (row.pixels, row.sha256, row.image_size, row.width) == (None, None, None, None)


@pytest.mark.parametrize(
    "caption, metadata, expected",
    [
        (b"of the file", {"caption": "of the json"}, "of the file"),
        ("of the record", {"caption": "of the json"}, "of the record"),
        (None, {"caption": "of the json"}, "of the json"),
        (None, {"caption": 5}, None),
        (b"", {"caption": "of the json"}, ""),
        (b"\xef\xbb\xbfmarked", {}, "marked"),
        (b"nul \0 byte", {}, "nul \0 byte"),
        ("naïve ☕".encode(), {}, "naïve ☕"),
        (None, {"caption": "half \ud83d pair"}, "half \ufffd pair"),
        (None, {"caption": "\ud83d\ude00"}, "😀"),
    ],
)
def test_the_caption_is_the_text_file_and_else_the_json_one(
    decoder: Decoder, caption: bytes | str | None, metadata: dict[str, object], expected: str | None
) -> None:
    row = decoder.decode(Sample(0, "k", IMAGE, caption, metadata))
    assert row.error is None and row.caption == expected


def test_an_empty_caption_is_two_tokens(decoder: Decoder) -> None:
    row = decoder.decode(Sample(0, "k", None, b""))
    assert row.error is None and row.caption == "" and row.caption_tokens == 2


@pytest.mark.parametrize(
    "caption, detail",
    [(b"caf\xe9", "byte 0xe9 at 3"), (b"\xef\xbb\xbfcaf\xe9!", "byte 0xe9 at 6"), (b"\xff", "byte 0xff at 0")],
)
def test_a_caption_that_is_not_utf8_fails_the_row(decoder: Decoder, caption: bytes, detail: str) -> None:
    row = decoder.decode(Sample(0, "k", IMAGE, caption))
    assert failed(row) == f"tokenise: caption is not UTF-8 ({detail})"
    assert row.caption is None and (row.width, row.height) == (40, 30)


def test_the_first_stage_that_failed_is_the_reason(decoder: Decoder) -> None:
    assert failed(decoder.decode(Sample(0, "k", b"junk", b"\xff"))) == "decode: not an image"


def test_of_a_caption_without_end_the_beginning_is_tokenised_and_all_of_it_is_kept() -> None:
    class Counting(Words):
        longest = 0

        def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
            self.longest = max(map(len, texts))
            return super().encode(texts)

    words = Counting()
    caption = "a bus " * 200_000
    row = Decoder(PREPROCESS, words).decode(Sample(0, "k", IMAGE, caption.encode()))
    assert row.error is None and row.caption == caption
    assert words.longest == MAX_TOKENISED and row.caption_tokens == len(caption[:MAX_TOKENISED].split()) + 2


def test_a_caption_the_tokenizer_refuses_fails_its_own_row_only(decoder: Decoder) -> None:
    samples = [Sample(i, str(i), IMAGE, caption) for i, caption in enumerate((b"good", b"cursed", b"fine"))]
    rows = decoder.decode_batch(samples)
    assert [row.error for row in rows] == [None, "tokenise: caption cannot be tokenised (RuntimeError)", None]
    assert failed(rows[1]) and rows[1].caption == "cursed" and rows[1].sha256 is not None
    assert [row.caption_tokens for row in rows] == [3, None, 3]


def test_an_error_of_the_reader_passes_through(decoder: Decoder) -> None:
    row = decoder.decode(Sample(0, "k", IMAGE, b"a bus", error="read: shard ends here (at byte 12)"))
    assert failed(row) == "read: shard ends here (at byte 12)"
    assert row.caption == "a bus"


def test_texts_only_ignores_images() -> None:
    decoder = Decoder(None, Words())
    row = decoder.decode(Sample(0, "k", b"junk", b"a bus"))
    assert row.error is None and row.tokens is not None and row.pixels is None
    assert failed(decoder.decode(Sample(0, "k", IMAGE))) == "read: no caption"


def test_images_only_ignores_captions() -> None:
    decoder = Decoder(PREPROCESS, None)
    row = decoder.decode(Sample(0, "k", IMAGE, b"\xff not text"))
    assert row.error is None and row.pixels is not None and row.tokens is None
    assert decoder.decode(Sample(0, "k", IMAGE, b"kept")).caption == "kept"
    assert failed(decoder.decode(Sample(0, "k", None, b"a bus"))) == "read: no image"


@pytest.mark.parametrize(
    "error, reason",
    [
        ("decode: truncated JPEG", "decode: truncated JPEG"),
        ("tokenise: caption is not UTF-8 (byte 0xe9 at 3)", "tokenise: caption is not UTF-8"),
        ("decode: image over the limit of 9 pixels (4x4)", "decode: image over the limit of 9 pixels"),
    ],
)
def test_the_countable_reason_has_no_detail(error: str, reason: str) -> None:
    assert reason_of(error) == reason


TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)  # halves of surrogate pairs too


@settings(FIXED, max_examples=150)
@given(
    st.lists(
        st.builds(
            Sample,
            row=st.just(0),
            key=st.just("k"),
            image=st.none() | st.binary() | st.just(IMAGE),
            caption=st.none() | st.binary() | TEXTS,
            metadata=st.just({}) | st.fixed_dictionaries({"caption": TEXTS | st.none() | st.integers()}),
        ),
        max_size=5,
    )
)
def test_any_sample_becomes_a_row_with_the_real_tokenizer(samples: list[Sample]) -> None:
    for row in Decoder(PREPROCESS, Tokenizer()).decode_batch(samples):
        assert (row.error is None) == (row.pixels is not None or row.tokens is not None)
        assert row.error is None or reason_of(row.error).split(": ")[0] in ("read", "decode", "tokenise")
        assert row.caption is None or row.caption.encode() is not None

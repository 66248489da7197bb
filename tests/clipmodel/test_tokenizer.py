"""Ids are the public reference's, whatever the text; vocabularies, lengths, padding, threads and pickles."""

from __future__ import annotations

import json
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from clipmill.clipmodel import tokenizer as module
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.tokenizer import FULL_VOCABULARY, Tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

DATA = Path(__file__).parent.parent / "data"
OURS = Tokenizer()
theirs = cache(reference.tokenizer)

SPECIAL = [
    "",
    " ",
    " \t\r\n\v\f ",
    "a\tb\r\nc\vd\fe  f",
    "a photo of a cat",
    "Mixed CASE, ALL CAPS and İstanbul, ΣΊΣΥΦΟΣ, ẞ, ǅ",
    "&amp; &lt;b&gt; &quot;quoted&quot; &#39;x&#39; &eacute; &rsquo; &#x1F600; &nbsp;&hellip;",
    "&amp;amp; &amp;lt; &amp;#39; twice escaped",
    "&amp &copy2020 &notit; &#xD800; &#0; &#128; &#x110000; &; & &# &#x &bogus;",
    "Black & White & Q&A, AT&T &",
    "<b>beside tags</b> ftfy leaves entities alone: &eacute; &amp;eacute; &amp;amp;eacute; &amp;amp;amp;eacute;",
    "it's I'm you're they've he'll she'd don't 'tis rock'n'roll 'S 'RE it''s o'clock ' 's",
    "it’s “curly” ‘quotes’ – — …",
    "<|startoftext|> <|endoftext|> <|STARTOFTEXT|>a<|endoftext|>b !<|endoftext|>! <|startoftext <|endoftext|>>",
    "<|ſtartoftext|> it'ſ K Å",  # letters that fold to s, k and å
    "007 3.14 1,000,000 1st 2nd 12ab34 ½ ² Ⅳ ٣ 五",
    "snake_case __init__ _ a_b_1",
    "IMG_2020-01-01_12:34:56.jpg https://example.com/?a=1&b=2#c",
    "猫の写真です。カタカナ ﾊﾝｶｸ ＦＵＬＬ　ＷＩＤＴＨ 한국어 图片",
    "قطة على الأريكة עִבְרִית \u200fabc\u200e",
    "हिन्दी ภาษาไทย தமிழ் ქართული",
    "👩‍👩‍👧‍👦 👍🏽 🇫🇷 ❤️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 😀😀😀",
    "e\u0301 \u0065\u0301\u0323 ﬁ ﬂ ﬃ",  # combining marks, ligatures
    "\x00a\x01b\x1bc\x1b[31md\x7fe\x80f\x85g\x9fh\xadi\ufeffj\ufffek",
    "a\x1cb\x1dc\x1ed\x1fe",  # white space to Python, not to Unicode
    "a\u00a0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\u200bj",
    "sÃ³ cafÃ© â€œquotesâ€\x9d voilÃ le travail âœ” Ã",  # mojibake, which is mended
    "!!! ??? ... *** --- @#$% ~~~ {}[]()<>|\\/",
    "</w> a</w> </w",
    "antidisestablishmentarianism" * 20,
    "x" * 1000 + " " + "!" * 500,
    "word " * 300,
    "\ud83d\ude00 \ud800 a",  # a pair of surrogates, and half a one
]


def captions(name: str) -> list[str]:
    lines = (DATA / f"captions_{name}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def assert_the_references(texts: list[str]) -> None:
    for text, ids in zip(texts, OURS.encode(texts), strict=True):
        assert ids.tolist() == [OURS.sos, *theirs().encode(text), OURS.eos], ascii(text)


@pytest.mark.parametrize("name", ["random", "hard"])
def test_real_captions_get_the_references_ids(name: str) -> None:
    assert_the_references(captions(name))


@pytest.mark.parametrize("text", SPECIAL, ids=lambda text: ascii(text)[1:25])
def test_odd_texts_get_the_references_ids(text: str) -> None:
    assert_the_references([text])


@given(st.text())
@settings(deadline=None, max_examples=500)
def test_any_text_gets_the_references_ids(text: str) -> None:
    assert_the_references([text])


# what the short cuts, the splitting and the mending could stumble over, to be put side by side
PIECES = [
    *("&", "&amp;", "&lt;", "&#39;", "&#x", ";", "#", "amp", "eacute;", "<", ">", "<|endoftext|>", "<|startoftext|>"),
    *("<|", "|>", "'", "'s", "'LL", "'ve", "’", "ſ", "K", "Σ", "İ", "ß", "é", "e\u0301", "Ã", "©", "â€", "\xa0", "“"),
    *(" ", "  ", "\n", "\r", "\t", "\x1c", "\x1b[0m", "\x7f", "\x85", "\u2028", "\u3000", "\u200d", "\ufe0f", "ﬁ"),
    *("a", "B", "1", "²", "_", "-", "!", "猫", "ｶ", "ق", "👩", "🏽", "the", "photo", "CAT"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join))
@example("a&b")
@example("a& b&")
@settings(deadline=None, max_examples=500)
def test_any_pieces_side_by_side_get_the_references_ids(text: str) -> None:
    assert_the_references([text])


@given(st.text(st.characters(codec="ascii"), max_size=40))
@settings(deadline=None, max_examples=300)
def test_any_ascii_gets_the_references_ids(text: str) -> None:
    """A short cut of its own."""
    assert_the_references([text])


def test_a_batch_is_its_texts_one_by_one() -> None:
    texts = captions("hard")[:50] + SPECIAL
    assert [ids.tolist() for ids in OURS.encode(texts)] == [OURS.encode([text])[0].tolist() for text in texts]
    assert OURS.encode([]) == []
    assert OURS([]).shape == (0, 77)


# --- lengths and padding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 74, 75, 76, 300])
def test_encode_gives_the_whole_length_and_truncate_keeps_eos(count: int) -> None:
    (ids,) = OURS.encode(["cat " * count])
    assert ids.dtype == np.int32
    assert len(ids) == count + 2
    cut = OURS.truncate(ids)
    assert len(cut) == min(count + 2, 77)
    assert (cut[0], cut[-1]) == (OURS.sos, OURS.eos)
    assert cut[1:-1].tolist() == ids[1 : len(cut) - 1].tolist()
    assert len(ids) == count + 2 and (ids[1:-1] == ids[1]).all() if count else True  # not cut in place


def test_calling_it_gives_zero_padded_rows() -> None:
    texts = ["", "a photo of a cat", "cat " * 75, "cat " * 76, *captions("hard")]
    rows = OURS(texts)
    assert rows.dtype == torch.int64
    assert rows.shape == (len(texts), 77)
    for row, text in zip(rows.tolist(), texts, strict=True):
        ids = [OURS.sos, *theirs().encode(text), OURS.eos][:77]
        if len(ids) == 77:
            ids[-1] = OURS.eos
        assert row == ids + [0] * (77 - len(ids))
    assert torch.equal(rows.argmax(dim=1), (rows == OURS.eos).int().argmax(dim=1))  # where the text encoder looks


def test_one_text_is_a_batch_of_one() -> None:
    assert torch.equal(OURS("a photo of a cat"), OURS(["a photo of a cat"]))


def test_another_context_length_cuts_there() -> None:
    short = Tokenizer(context_length=5)
    rows = short(["one two three four five", "one"])
    assert rows.shape == (2, 5)
    assert rows[0].tolist() == [*OURS("one two three four five")[0, :4].tolist(), OURS.eos]
    assert rows[1].tolist() == OURS("one")[0, :5].tolist()


# --- smaller vocabularies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [514, 515, 1024, 4096, 30000, FULL_VOCABULARY - 1])
def test_a_smaller_vocabulary_is_the_first_ids_with_the_specials_last(size: int) -> None:
    small = Tokenizer(size)
    assert (small.sos, small.eos) == (size - 2, size - 1)
    by_id = {i: token for token, i in theirs().encoder.items()}
    same = 0
    for text in captions("random")[:200] + SPECIAL:
        (ids,) = small.encode([text])
        assert ids.max() == size - 1 and ids.min() >= 0
        assert np.flatnonzero(ids == small.eos)[-1] == len(ids) - 1
        inner = [i for i in ids[1:-1].tolist() if i < size - 2]
        full = [i for i in OURS.encode([text])[0][1:-1].tolist() if i < FULL_VOCABULARY - 2]
        assert "".join(by_id[i] for i in inner) == "".join(by_id[i] for i in full)  # the same bytes, in other pieces
        if max(full, default=0) < size - 2:
            assert inner == full
            same += 1
    assert same > 2


def test_a_word_is_merged_as_the_reference_would_with_those_merges_only() -> None:
    small, table = Tokenizer(4096), theirs()
    kept = reference.tokenizer()
    kept.bpe_ranks = {pair: rank for pair, rank in table.bpe_ranks.items() if rank < 4096 - 514}
    for text in captions("random") + captions("hard")[:100]:
        assert small.encode([text])[0][1:-1].tolist() == kept.encode(text)


@pytest.mark.parametrize("size", [0, 513, FULL_VOCABULARY + 1])
def test_impossible_vocabularies_are_refused(size: int) -> None:
    with pytest.raises(ModelError, match=f"vocab_size is {size}; it must be from 514 to 49408"):
        Tokenizer(size)


def test_every_token_of_the_vocabulary_comes_of_one_merge() -> None:
    """Why merging pair by pair, by rank, is the same as the reference's merging of all equal pairs at once."""
    assert len({first + second for first, second in module.merges()}) == len(module.merges()) == FULL_VOCABULARY - 514


# --- sharing -------------------------------------------------------------------------------------------------------


def test_threads_that_share_one_get_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHED_WORDS", 500)  # so that the table is replaced while others read it
    texts = captions("random") + captions("hard")
    right = {text: ids.tolist() for text, ids in zip(texts, OURS.encode(texts), strict=True)}
    shared, together = Tokenizer(), threading.Barrier(8)

    def work(seed: int) -> bool:
        mine = random.Random(seed).sample(texts, len(texts))
        together.wait()
        return all(
            ids.tolist() == right[text]
            for start in range(0, len(mine), 32)
            for text, ids in zip(mine[start : start + 32], shared.encode(mine[start : start + 32]), strict=True)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_the_table_of_known_words_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHED_WORDS", 100)
    tokenizer = Tokenizer()
    for start in range(0, 5000, 10):
        tokenizer.encode([chr(0x4E00 + i) for i in range(start, start + 10)])
    assert len(tokenizer._known) <= 110
    assert tokenizer.encode(["<|endoftext|>"])[0].tolist() == [tokenizer.sos, tokenizer.eos, tokenizer.eos]


@pytest.mark.parametrize("arguments", [{}, {"vocab_size": 4096, "context_length": 16}], ids=["full", "small"])
def test_a_pickle_is_small_and_gives_the_same_tokenizer(arguments: dict[str, Any]) -> None:
    tokenizer = Tokenizer(**arguments)
    texts = captions("hard")[:50]
    rows = tokenizer(texts)
    packed = pickle.dumps(tokenizer)
    assert len(packed) < 200
    again = pickle.loads(packed)
    assert (again.vocab_size, again.context_length) == (tokenizer.vocab_size, tokenizer.context_length)
    assert torch.equal(again(texts), rows)

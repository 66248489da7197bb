"""No caption takes long or raises, and the bound that sees to it changes no token that a model reads."""

from __future__ import annotations

import json
import random
import time
from functools import cache
from pathlib import Path

import ftfy
import pytest
import reference
from clipmill.clipmodel import tokenizer as module
from clipmill.clipmodel.tokenizer import Tokenizer
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

DATA = Path(__file__).parent.parent / "data"
OURS, LONG = Tokenizer(), Tokenizer(context_length=248)
theirs = cache(reference.tokenizer)
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))


@cache
def captions() -> list[str]:
    text = (DATA / "captions_hard.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.mark.parametrize(
    "unit",
    [
        *("&amp;" + "amp;" * 200_000, "&#38;" + "#38;" * 200_000, "é&amp;" + "amp;" * 200_000),
        *("&lt;" * 200_000, "&" * 800_000, "<&amp;amp;" * 80_000, "Ã\x83Â" * 250_000, "â€™" * 250_000),
        *("é" * 800_000, "é " * 400_000, "\n" * 800_000 + "é", "&#" * 400_000, "&#x" * 270_000, "\x1b[31m" * 160_000),
        *("\n\t" * 400_000 + "é", "\x85" * 800_000, "\xa0\x85" * 400_000, "\u2028" * 800_000, "\x1c" * 800_000),
        *("x" * 800_000, "x " * 400_000, "!" * 800_000, "'" * 800_000, "<|endoftext|>" * 60_000, "👩‍👩‍👧‍👦" * 100_000),
    ],
    ids=lambda text: ascii(text)[1:16],
)
def test_a_caption_of_nearly_a_megabyte_is_read_in_time(unit: str) -> None:
    start = time.perf_counter()
    (ids,) = OURS.encode([unit])
    assert time.perf_counter() - start < 3  # on a busy machine; `&amp;amp;…` took over 40
    assert ids[0] == OURS.sos and ids[-1] == OURS.eos


@pytest.mark.parametrize("digits", [19, 20, 21, 4300, 4301, 5000, 1_000_000])
@pytest.mark.parametrize("form", ["&#{}", "a &#{}; b", "&amp;#{};", "&#{}</b>"])
def test_a_reference_of_any_number_of_digits_is_read(digits: int, form: str) -> None:
    (ids,) = OURS.encode([form.format("9" * digits)])
    if digits < 4300 and len(form.format("9" * digits)) < OURS.most_mended:
        assert ids[1:-1].tolist() == theirs().encode(form.format("9" * digits))
    (ids,) = OURS.encode([form.format("0" * min(digits, 4000) + "65")])
    assert ids[1:-1].tolist() == OURS.encode([form.format("65")])[0][1:-1].tolist()


def assert_the_first_are_the_references(tokenizer: Tokenizer, text: str) -> None:
    """What `truncate` leaves, and whether it cut; the number of all tokens is at most the reference's."""
    ids, full = tokenizer.encode([text])[0], [tokenizer.sos, *theirs().encode(text), tokenizer.eos]
    cut = [*full[: tokenizer.context_length - 1], tokenizer.eos] if len(full) > tokenizer.context_length else full
    assert tokenizer.truncate(ids).tolist() == cut
    assert (len(ids) > tokenizer.context_length) == (len(full) > tokenizer.context_length)
    assert len(ids) <= len(full)
    is_plain = text.isascii() and text.isprintable() and "&" not in text
    if len(text) <= tokenizer.most_mended or is_plain:
        assert len(ids) == len(full)


@settings(QUIET, max_examples=60)
@given(seed=st.integers(0, 10**6), length=st.integers(3000, 20_000), joint=st.sampled_from([" ", "\n", " | ", ", é "]))
def test_long_captions_made_of_real_ones_keep_their_first_tokens(seed: int, length: int, joint: str) -> None:
    generator, text = random.Random(seed), ""
    while len(text) < length:
        text += generator.choice(captions()) + joint
    assert_the_first_are_the_references(OURS, text)
    assert_the_first_are_the_references(LONG, text)


WORDS = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=1, max_size=12), min_size=1)


@settings(QUIET, max_examples=60)
@given(words=WORDS, blank=st.sampled_from([" ", "\t", "\n", " " * 50, "\r\n", "\n" * 9, " &nbsp; "]))
def test_long_captions_of_any_words_and_blanks_keep_their_first_tokens(words: list[str], blank: str) -> None:
    text = blank.join(words)
    text = blank.join([text] * (1 + 12_000 // len(text)))
    # an encoding is repaired, or not, by what a whole line looks like: `Tokenizer.encode` says that it may differ there
    assume(all(ftfy.fix_encoding(part) == part for part in (text, clean_blanks(text)[: OURS.most_mended])))
    assert_the_first_are_the_references(OURS, text)


def clean_blanks(text: str) -> str:
    return module._BLANK_RUNS.sub(module._few_blanks, text)


@pytest.mark.parametrize("blanks", ["\n\t", "\t ", "\u3000", "\xa0", " \xa0", "\u2003\r\n", "\u2028", "\x0c"])
@pytest.mark.parametrize("before", ["", "é ", "Ã", "à\xa0"])
def test_words_after_thousands_of_blanks_of_any_kinds_are_read(before: str, blanks: str) -> None:
    assert_the_first_are_the_references(OURS, before + blanks * 5000 + "a café; l'été")


@settings(QUIET)
@given(st.text(st.sampled_from(" \t\r\n\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000\ufeff"), min_size=1))
def test_a_long_text_of_blanks_alone_is_read(blanks: str) -> None:
    assert_the_first_are_the_references(OURS, blanks * (1 + 12_000 // len(blanks)))


def test_the_bound_holds_a_contexts_longest_tokens() -> None:
    """Why no token up to the context length is lost: 32 bytes are the longest."""
    longest = max(len(first + second) for first, second in module.merges())
    for tokenizer in (OURS, LONG):
        assert tokenizer.context_length * longest <= tokenizer.most_mended


def test_words_too_long_to_come_again_are_not_kept() -> None:
    tokenizer = Tokenizer()
    before = len(tokenizer._known)
    first = tokenizer.encode(["x" * 10_000, "y" * 65])
    assert len(tokenizer._known) == before
    assert [ids.tolist() for ids in tokenizer.encode(["x" * 10_000, "y" * 65])] == [ids.tolist() for ids in first]

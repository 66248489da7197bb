"""Ids are those of transformers' tokenizers, for real captions and invented texts; files travel and are checked."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.vocabulary import PieceTokenizer, VocabularyFile, canonical
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabulary_kit import captions, gemma_file, sentencepiece_file

SIGLIP, SIGLIP2 = VARIANTS["ViT-B-16-SigLIP"].text, VARIANTS["ViT-B-16-SigLIP2"].text
FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=300)
TEXTS = st.text(max_size=60) | st.text("aBc éÉßİΣ.,!?_-'\"<>{}▁\u3000\u200b\u00a0\t\n猫ﬁ", max_size=40)

Tokenize = Callable[[list[str]], list[list[int]]]


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> tuple[PieceTokenizer, Tokenize]:
    """Ours, and transformers' padded to the context length."""
    pytest.importorskip("sentencepiece")
    from transformers import SiglipTokenizer

    folder = tmp_path_factory.mktemp("siglip")
    theirs: Any = SiglipTokenizer(str(sentencepiece_file(folder)))
    return PieceTokenizer(SIGLIP, VocabularyFile.beside(folder)), _padded(theirs)


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory: pytest.TempPathFactory) -> tuple[PieceTokenizer, Tokenize]:
    from transformers import Siglip2Tokenizer

    folder = tmp_path_factory.mktemp("siglip2")
    theirs: Any = Siglip2Tokenizer(tokenizer_file=str(gemma_file(folder)), padding_side="right", add_eos_token=True)
    return PieceTokenizer(SIGLIP2, VocabularyFile.beside(folder)), _padded(theirs)


def _padded(theirs: Any) -> Tokenize:
    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = theirs(texts, padding="max_length", max_length=64, truncation=True)["input_ids"]
        return ids

    return tokenize


@pytest.mark.parametrize("name", ["siglip", "siglip2"])
@pytest.mark.parametrize("kind", ["random", "hard"])
def test_real_captions_get_transformers_ids(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    ours, theirs = request.getfixturevalue(name)
    texts = captions(kind)
    rows = ours(texts)
    assert rows.tolist() == theirs(texts)
    assert len(rows.unique()) > 300


@pytest.mark.parametrize("name", ["siglip", "siglip2"])
def test_invented_texts_get_transformers_ids(name: str, request: pytest.FixtureRequest) -> None:
    ours, theirs = request.getfixturevalue(name)

    @FIXED
    @given(st.lists(TEXTS, min_size=1, max_size=8))
    def holds(texts: list[str]) -> None:
        assert ours(texts).tolist() == theirs(texts)

    holds()


def test_a_caption_that_spells_a_control_token_is_text(siglip: tuple[PieceTokenizer, Tokenize]) -> None:
    ours, _ = siglip
    assert ours("a </s> b <unk>").tolist() == ours("a s b unk").tolist()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("A  Photo\tof\na CAT.", "a photo of a cat"), ("it's snake_case!", "its snakecase"), ("«naïve»", "«naïve»")],
)
def test_captions_are_cleaned(text: str, cleaned: str) -> None:
    assert canonical(text) == cleaned


def test_lengths_are_told_before_truncation_and_rows_have_the_context_length(tmp_path: Path) -> None:
    gemma_file(tmp_path)
    ours = PieceTokenizer(SIGLIP2, VocabularyFile.beside(tmp_path))
    short, long = ours.encode(["a cat", "cat " * 200])
    assert len(short) < 10 and len(long) > 64 and short[-1] == long[-1] == ours.eos
    assert [len(ours.truncate(ids)) for ids in (short, long)] == [64, 64]
    assert ours.truncate(short)[len(short) :].tolist() == [0] * (64 - len(short))
    assert ours.truncate(long)[-1] == ours.eos


def test_a_tokenizer_survives_a_pickle(tmp_path: Path) -> None:
    gemma_file(tmp_path)
    ours = PieceTokenizer(SIGLIP2, VocabularyFile.beside(tmp_path))
    assert pickle.loads(pickle.dumps(ours))("A photo").tolist() == ours("A photo").tolist()


def test_random_weights_have_some_tokenizer() -> None:
    ours = PieceTokenizer(SIGLIP, None)
    rows = ours(["a cat", "a dog"])
    assert rows.shape == (2, 64) and rows.max() < SIGLIP.vocab_size
    assert rows[0].tolist() != rows[1].tolist() and rows[0, -1] == 1


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
def test_a_file_that_is_no_tokenizer_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ModelError, match=f"{name} is "):
        PieceTokenizer(SIGLIP, VocabularyFile.beside(tmp_path))

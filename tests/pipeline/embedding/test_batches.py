"""How captions are cut into passes: all of them once, shortest first, within the budget of tokens, hardly padded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.pipeline.embedding.batches import Passes, by_length
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = st.lists(st.integers(2, 77), max_size=200).map(sorted)
STEP = st.sampled_from([1, 8])


@given(LENGTHS, st.integers(1, 16), STEP)
def test_each_caption_is_in_one_pass_that_holds_it_and_fits_the_budget(
    lengths: list[int], most: int, step: int
) -> None:
    passes = list(Passes(most, step=step).texts(lengths, 77))
    assert [i for start, end, _ in passes for i in range(start, end)] == list(range(len(lengths)))
    for start, end, padded in passes:
        assert lengths[end - 1] <= padded < lengths[end - 1] + step and (padded % step == 0 or padded == 77)
        assert (end - start) * padded <= most * 48 or end - start == 1


@given(LENGTHS.filter(bool), st.integers(1, 16), STEP)
def test_no_simple_cut_costs_less(lengths: list[int], most: int, step: int) -> None:
    """Padding and passes to start, against all captions together and against each length alone."""

    def cost(rows: int, padded: int) -> float:
        return rows * padded + -(-rows // max(most * 48 // padded, 1)) * most * 3

    found = sum((end - start) * padded + most * 3 for start, end, padded in Passes(most, step=step).texts(lengths, 77))
    padded = Counter(min(-(-length // step) * step, 77) for length in lengths)
    assert found <= cost(len(lengths), max(padded)) + 1e-6
    assert found <= sum(cost(rows, length) for length, rows in padded.items()) + 1e-6


@pytest.mark.parametrize(("most", "captions"), [(1, 1), (16, 16), (32, 32), (48, 24)])
def test_captions_of_the_contexts_length_go_as_images_of_so_many_positions_do(most: int, captions: int) -> None:
    """On CPUs: 64 positions each, and no more than stay in the caches."""
    passes = Passes(most, cached=True)
    assert passes.of_positions(64) == captions
    assert next(passes.texts([64] * (captions + 3), 64)) == (0, captions, 64)


def test_web_captions_are_hardly_padded() -> None:
    lines = (Path(__file__).parents[2] / "data" / "captions_random.jsonl").read_text(encoding="utf-8").splitlines()
    tokenizer = Tokenizer()
    lengths = sorted(min(len(ids), 77) for ids in tokenizer.encode([json.loads(line) for line in lines]))
    assert len(lengths) > 500
    computed = sum((end - start) * padded for start, end, padded in Passes(32).texts(lengths, 77))
    assert computed < 1.1 * sum(lengths) < 0.4 * 77 * len(lengths)


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=5)))
def test_equal_captions_are_one_and_none_is_lost(rows: list[list[int]]) -> None:
    texts = [np.array(row, dtype=np.int32) for row in rows]
    places = by_length(texts)
    assert sorted(place for where in places for place in where) == list(range(len(rows)))
    assert len(places) == len({tuple(row) for row in rows})
    assert all(rows[place] == rows[where[0]] for where in places for place in where)
    firsts = [len(rows[where[0]]) for where in places]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize(
    ("name", "most", "images"),
    [
        ("ViT-B/32", 32, 32),
        ("ViT-B/16", 32, 8),
        ("ViT-L/14", 32, 8),
        ("RN50", 32, 8),
        ("tiny", 32, 32),
        ("ViT-L/14", 1, 1),
        ("ViT-B/32", 500, 31),
    ],
)
def test_on_a_cpu_a_pass_holds_what_its_caches_do(name: str, most: int, images: int) -> None:
    assert Passes(most, cached=True).images(VARIANTS[name].vision) == images
    assert Passes(most).images(VARIANTS[name].vision) == most

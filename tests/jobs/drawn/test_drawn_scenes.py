"""Drawn scenes are what their records say, their captions are true, and both are functions of (seed, index)."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from clipmill.jobs.drawn.captions import BESIDE, COLOUR_SYNONYMS, INVERSE, RELATIONS, SHAPE_SYNONYMS, full_caption
from clipmill.jobs.drawn.pairs import PairSpec, pair_of, scene_of
from clipmill.jobs.drawn.palette import COLOURS
from clipmill.jobs.drawn.scenes import CLASSES, HELD_OUT, TEXTURES, TRAINED, Scene, Thing
from clipmill.jobs.drawn.shapes import SHAPES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

FIXED = settings(derandomize=True, deadline=None, database=None)
indices = st.integers(0, 10**6)
series = st.builds(
    PairSpec,
    seed=st.integers(0, 2**31),
    held_out=st.sampled_from([False, True, None]),
    full_captions=st.sampled_from([0.0, 0.2, 1.0]),
)


def scenes(spec: PairSpec, count: int) -> list[tuple[Scene, str]]:
    return [scene_of(spec, index) for index in range(count)]


# --- what the series are -------------------------------------------------------------------------------------------


@given(series, indices)
@FIXED
def test_a_pair_is_a_function_of_seed_and_index(spec: PairSpec, index: int) -> None:
    assert scene_of(spec, index) == scene_of(spec, index)


def test_a_drawn_image_is_the_same_bytes_each_time() -> None:
    spec = PairSpec(seed=3)
    for index in range(12):
        assert pair_of(spec, index) == pair_of(spec, index)
        assert (pair_of(spec, index).scene, pair_of(spec, index).caption) == scene_of(spec, index)


def test_seeds_and_indices_give_different_pairs() -> None:
    found = {scene_of(PairSpec(seed), index)[0] for seed in range(10) for index in range(100)}
    assert len(found) == 1000


def test_series_of_other_image_sizes_show_the_same_scenes() -> None:
    large, small = (scenes(PairSpec(seed=5, sides=sides), 50) for sides in [(200, 300), (40, 60)])
    assert large == small


def test_an_image_is_of_the_size_and_format_that_its_pair_says() -> None:
    spec = PairSpec(seed=4, sides=(48, 64))
    formats = set()
    for index in range(60):
        pair = pair_of(spec, index)
        image = Image.open(io.BytesIO(pair.image))
        assert image.size == (pair.width, pair.height)
        assert 48 <= min(image.size) <= 64 and max(image.size) <= 1.5 * min(image.size)
        formats.add((pair.extension, image.format))
    assert formats == {("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")}


def test_the_held_out_pairs_have_each_colour_and_each_shape_once() -> None:
    assert sorted(colour for colour, _ in HELD_OUT) == sorted(COLOURS)
    assert sorted(shape for _, shape in HELD_OUT) == sorted(SHAPES)
    assert set(HELD_OUT) | set(TRAINED) == set(CLASSES)
    assert set(HELD_OUT).isdisjoint(TRAINED)


@given(st.integers(0, 2**31), indices)
@FIXED
def test_held_out_pairs_never_occur_in_training_series(seed: int, index: int) -> None:
    scene, _ = scene_of(PairSpec(seed, held_out=False), index)
    assert {thing.pair for thing in scene.things}.isdisjoint(HELD_OUT)


@given(st.integers(0, 2**31), indices)
@FIXED
def test_a_held_out_pair_comes_first_and_only_first_in_held_out_series(seed: int, index: int) -> None:
    scene, _ = scene_of(PairSpec(seed, held_out=True), index)
    first, *others = (thing.pair for thing in scene.things)
    assert first in HELD_OUT
    assert set(others).isdisjoint(HELD_OUT)


def test_series_cover_what_there_is_to_show() -> None:
    found = [scene for scene, _ in scenes(PairSpec(seed=6, held_out=None), 4000)]
    things = [thing for scene in found for thing in scene.things]
    assert {thing.pair for thing in things} == set(CLASSES)
    assert {thing.texture for thing in things} == set(TEXTURES)
    assert {thing.size_word for thing in things} == {"small", "medium", "large"}
    assert {scene.relation for scene in found} == {"", "left of", "right of", "above", "below"}
    assert len({thing.place for thing in things}) == 9
    assert 0.50 < np.mean([len(scene.things) == 2 for scene in found]) < 0.60


# --- where things are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_inside_the_unit_circle_and_fills_much_of_it(shape: str) -> None:
    points = [point for outline, solid in SHAPES[shape] if solid for point in outline]
    farthest = max(math.hypot(*point) for point in points)
    assert 0.85 <= farthest <= 1.0


@given(series, indices)
@FIXED
def test_things_are_inside_the_central_square_and_do_not_touch(spec: PairSpec, index: int) -> None:
    scene, _ = scene_of(spec, index)
    for thing in scene.things:
        reach = thing.size / 2
        assert reach < thing.x < 1 - reach and reach < thing.y < 1 - reach
    for one, other in pairwise(scene.things):
        assert math.hypot(one.x - other.x, one.y - other.y) > (one.size + other.size) / 2


@given(series, indices)
@FIXED
def test_the_relation_is_where_the_first_thing_is_seen_from_the_second(spec: PairSpec, index: int) -> None:
    scene, _ = scene_of(spec, index)
    if len(scene.things) == 1:
        assert scene.relation == ""
        return
    first, second = scene.things
    apart = (first.size + second.size) / 2  # wholly on that side, not only its middle
    assert {
        "left of": second.x - first.x > apart,
        "right of": first.x - second.x > apart,
        "above": second.y - first.y > apart,
        "below": first.y - second.y > apart,
    }[scene.relation]


# --- captions ------------------------------------------------------------------------------------------------------


def any_of(words: dict[str, tuple[str, ...]]) -> tuple[str, dict[str, str]]:
    """A pattern for all the words, longest first, and what each stands for."""
    meaning = {way: word for word, synonyms in words.items() for way in (word, *synonyms)}
    return "|".join(map(re.escape, sorted(meaning, key=len, reverse=True))), meaning


A_COLOUR, COLOUR_OF = any_of(COLOUR_SYNONYMS)
A_SHAPE, SHAPE_OF = any_of(SHAPE_SYNONYMS)
NAMED = re.compile(rf"\b({A_COLOUR}) ({A_SHAPE})\b|\b({A_SHAPE}) (?:in|that is) ({A_COLOUR})\b")


def named_in(caption: str) -> Counter[tuple[str, str]]:
    """The (colour, shape) pairs that a caption names, in whichever words."""
    found = NAMED.findall(caption.lower())
    return Counter((COLOUR_OF[colour or late], SHAPE_OF[shape or early]) for colour, shape, early, late in found)


def test_every_colour_and_shape_has_words_of_its_own() -> None:
    for words, known in ((COLOUR_SYNONYMS, COLOURS), (SHAPE_SYNONYMS, SHAPES)):
        assert list(words) == list(known)
        every = [way for word, synonyms in words.items() for way in (word, *synonyms)]
        assert len(set(every)) == len(every)


@given(series, indices)
@settings(FIXED, max_examples=500)
def test_a_caption_names_the_things_of_its_scene_and_no_other(spec: PairSpec, index: int) -> None:
    scene, caption = scene_of(spec, index)
    assert named_in(caption) == Counter(thing.pair for thing in scene.things)


def test_no_training_caption_names_a_held_out_pair() -> None:
    assert all(named_in(caption).keys().isdisjoint(HELD_OUT) for _, caption in scenes(PairSpec(seed=8), 3000))


def test_a_caption_that_tells_a_relation_tells_it_right() -> None:
    said = {way: relation for relation, ways in RELATIONS.items() for way in ways}
    told = Counter[str]()
    for scene, caption in scenes(PairSpec(seed=9), 3000):
        words = re.sub(r"\b(?:at|on) the (?:left|right)\b|in the .*? corner", "", caption.lower())
        between = re.search(rf" ({'|'.join(sorted(said, key=len, reverse=True))}) an? ", words)
        beside = re.search(rf" ({'|'.join(BESIDE.values())})", words)
        if len(scene.things) == 1 or not (between or beside):
            continue
        if between:
            relation = said[between[1]]
        elif beside:
            relation = INVERSE[next(name for name, way in BESIDE.items() if way == beside[1])]
        first_named = min(scene.things, key=lambda thing: words.find(position_of(thing, words)))
        assert relation == (scene.relation if first_named is scene.things[0] else INVERSE[scene.relation]), caption
        told[relation] += 1
    assert min(told[relation] for relation in RELATIONS) > 50


def position_of(thing: Thing, words: str) -> str:
    """The words that name a thing in a caption."""
    return next(
        match[0]
        for match in NAMED.finditer(words)
        if (COLOUR_OF[match[1] or match[4]], SHAPE_OF[match[2] or match[3]]) == thing.pair
    )


def test_captions_vary_in_wording() -> None:
    captions = [caption for _, caption in scenes(PairSpec(seed=10, full_captions=0.0), 2000)]
    assert len(set(captions)) > 1600
    assert any(caption.isupper() for caption in captions)
    assert any(caption.startswith("a photo of") for caption in captions)


@given(st.integers(0, 2**31), indices)
@FIXED
def test_a_full_caption_mentions_everything(seed: int, index: int) -> None:
    scene, caption = scene_of(PairSpec(seed, full_captions=1.0), index)
    assert caption == full_caption(scene)
    for thing in scene.things:
        assert f"{thing.size_word} {thing.texture} {thing.colour} {thing.shape}" in caption
    assert caption.endswith(scene.background.phrase)
    if len(scene.things) == 1:
        assert scene.things[0].place in caption

"""Wording for drawn scenes: the many ways in which people would caption the same picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .scenes import Relation, Scene, Thing

# Other words for a colour or a shape, used now and then in place of the canonical one.
COLOUR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "orange": ("tangerine",),
    "yellow": ("lemon yellow",),
    "green": ("emerald",),
    "blue": ("cobalt",),
    "purple": ("violet",),
    "pink": ("rose pink",),
    "brown": ("chestnut",),
    "black": ("jet black",),
    "white": ("snow white",),
    "grey": ("gray",),
    "cyan": ("turquoise", "aqua"),
}
SHAPE_SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "disk", "dot"),
    "square": ("box",),
    "triangle": (),
    "star": ("five-pointed star",),
    "heart": ("love heart",),
    "cross": ("plus sign",),
    "ring": ("hoop", "donut"),
    "diamond": ("rhombus", "lozenge"),
    "crescent": ("moon", "crescent moon"),
    "arrow": ("pointer",),
    "bolt": ("lightning bolt",),
    "fish": (),
}
SIZE_SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "large", "big"),
}
TEXTURE_WITH: dict[str, str] = {
    "striped": "with stripes",
    "dotted": "with dots",
    "checkered": "with a checkered pattern",
    "outlined": "with an outline",
}
TEXTURE_SYNONYMS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid"),
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "chequered"),
    "outlined": ("outlined",),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
INVERSE: dict[Relation, Relation] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
# "a red star with a blue ring ...": where the second thing is, seen from the first.
BESIDE: dict[str, str] = {
    "left of": "on its left",
    "right of": "on its right",
    "above": "above it",
    "below": "below it",
}
PREFIXES = (
    "a drawing of", "a picture of", "an image of", "an image showing", "an illustration of", "a graphic of",
    "clip art of", "this is", "there is", "we see", "shown here:", "a photo of",
)  # fmt: skip
_PLACES: dict[str, tuple[str, ...]] = {
    "centre": ("in the centre", "in the middle", "in the center"),
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _place(place: str, rng: np.random.Generator | None) -> str:
    ways = _PLACES.get(place, (f"at the {place}", f"in the {place} corner", f"in the {place}"))
    return ways[0] if rng is None else _pick(rng, ways)


def _noun_phrase(thing: Thing, rng: np.random.Generator, detail: float) -> str:
    """`a small striped red star`: the colour and the shape always, size and texture with chance `detail`."""
    colour, shape = thing.colour, thing.shape
    if rng.random() < 0.06:
        colour = _pick(rng, COLOUR_SYNONYMS[colour])
    if rng.random() < 0.06 and SHAPE_SYNONYMS[shape]:
        shape = _pick(rng, SHAPE_SYNONYMS[shape])
    before, after = "", ""
    if rng.random() < detail:
        before = _pick(rng, SIZE_SYNONYMS[thing.size_word]) + " "
    if rng.random() < (detail if thing.texture != "plain" else 0.2 * detail):
        if thing.texture in TEXTURE_WITH and rng.random() < 0.3:
            after = " " + TEXTURE_WITH[thing.texture]
        else:
            before += _pick(rng, TEXTURE_SYNONYMS[thing.texture]) + " "
    if not after and rng.random() < 0.05:
        return _article(f"{before}{shape} {_pick(rng, ('in', 'that is'))} {colour}")
    return _article(f"{before}{colour} {shape}{after}")


def _one(scene: Scene, rng: np.random.Generator) -> str:
    thing = scene.things[0]
    if rng.random() < 0.2:
        return f"{thing.colour} {thing.shape}"
    text = _noun_phrase(thing, rng, 0.35)
    if rng.random() < 0.3:
        text = f"{text} {_place(thing.place, rng)}"
    return text


def _two(scene: Scene, rng: np.random.Generator) -> str:
    first, second, relation = *scene.things, scene.relation
    if rng.random() < 0.5:
        first, second, relation = second, first, INVERSE[relation]
    style = rng.random()
    if style < 0.1:
        return f"{first.colour} {first.shape}{_pick(rng, (' and ', ', '))}{second.colour} {second.shape}"
    a, b = (_noun_phrase(thing, rng, 0.25) for thing in (first, second))
    if style < 0.65:
        return f"{a} {_pick(rng, RELATIONS[relation])} {b}"
    if style < 0.77:
        return f"{a} with {b} {BESIDE[INVERSE[relation]]}"
    if style < 0.82:
        return f"two shapes: {a} and {b}"
    return f"{a} {_pick(rng, ('and', 'next to', 'together with')) if relation.endswith('of') else 'and'} {b}"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the scene's many true captions. Every thing's colour and shape is always named."""
    text = _one(scene, rng) if len(scene.things) == 1 else _two(scene, rng)
    if rng.random() < 0.22:
        where = scene.background.phrase
        text = f"{where}, {text}" if rng.random() < 0.15 else f"{text} {where}"
    if text.startswith(("a ", "an ", "two ")) and rng.random() < 0.3:
        text = f"{_pick(rng, PREFIXES)} {text}"
    case = rng.random()
    if case < 0.4:
        text = text[0].upper() + text[1:]
    elif case < 0.43:
        text = text.upper()
    elif case < 0.46:
        text = text.title()
    return text + "." if rng.random() < 0.25 else text


def full_caption(scene: Scene) -> str:
    """The caption that mentions everything: sizes, textures, places or relation, and the background."""
    nouns = [_article(f"{t.size_word} {t.texture} {t.colour} {t.shape}") for t in scene.things]
    if len(nouns) == 1:
        text = f"{nouns[0]} {_place(scene.things[0].place, None)}"
    else:
        text = f"{nouns[0]} {RELATIONS[scene.relation][-1]} {nouns[1]}"
    return f"{text} {scene.background.phrase}"

"""DataComp's baselines as ordered conditions (Gadre et al. 2023, section 4.1 and appendix N).

A row stays where every condition holds; it is counted with the first that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..dataset.dataset import Dataset, DatasetModel
from ..dataset.sql import identifier
from ..errors import UserError
from ..job.filter import FilterJob

_SPLIT = r"string_split_regex(trim(caption), '\s+')"


@dataclass(frozen=True)
class Step:
    """reason: why a row is dropped for which the condition, in SQL, is false or null."""

    reason: str
    condition: str


@dataclass(frozen=True)
class Recipe:
    """needs: groups of the job's fields, one of each of which must be given. functions: names of those that its
    conditions call."""

    steps: Callable[[Dataset, FilterJob], Sequence[Step]]
    needs: tuple[tuple[str, ...], ...] = ()


ENGLISH = Step("not English", "english(caption)")
OVER_TWO_WORDS = Step("2 words or fewer", f"len({_SPLIT}) > 2")
OVER_ONE_WORD = Step("1 word or fewer", f"len({_SPLIT}) > 1")
OVER_FIVE_CHARACTERS = Step("5 characters or fewer", "length(caption) > 5")
IN_VOCABULARY = Step("no word of the vocabulary", "in_vocabulary(caption)")


def _basic(dataset: Dataset, job: FilterJob) -> Sequence[Step]:
    width, height = _sides(dataset)
    return (
        ENGLISH,
        OVER_TWO_WORDS,
        OVER_FIVE_CHARACTERS,
        Step("shorter side under 200 px", f"least({width}, {height}) >= 200"),
        Step("aspect ratio over 3", f"greatest({width}, {height}) <= 3 * least({width}, {height})"),
    )


def _laion2b(dataset: Dataset, job: FilterJob) -> Sequence[Step]:
    score = job.by or f"{_b32(dataset).prefix}similarity"
    return (ENGLISH, *at_least(score, 0.28))


def _image_based(dataset: Dataset, job: FilterJob) -> Sequence[Step]:
    column = identifier(f"{dataset.model(job.alias).prefix}image_embedding")
    near = Step("far from the reference", f"near_reference({column})")
    return (ENGLISH, OVER_ONE_WORD, OVER_FIVE_CHARACTERS, near)


SCORE = ("top_fraction", "threshold")

RECIPES: dict[str, Recipe] = {
    "no_filter": Recipe(lambda *_: ()),
    "basic": Recipe(_basic),
    "clip_score": Recipe(lambda *_: (), needs=(SCORE,)),
    "laion2b": Recipe(_laion2b),
    "text_based": Recipe(lambda *_: (ENGLISH, IN_VOCABULARY), needs=(("vocabulary",),)),
    "image_based": Recipe(_image_based, needs=(("reference",),)),
    "image_based_intersect_clip_score": Recipe(_image_based, needs=(("reference",), SCORE)),
}


def check_recipe(job: FilterJob) -> None:
    """UserError for a recipe that lacks an option, and for options that nothing asks for."""
    needs = RECIPES[job.recipe].needs if job.recipe else ()
    for names in needs:
        if all(getattr(job, name) is None for name in names):
            raise UserError(f"--recipe {job.recipe}: needs {' or '.join(map(_flag, names))}")
    for name in ("vocabulary", "reference"):
        if getattr(job, name) is not None and not any(name in names for names in needs):
            raise UserError(f"{_flag(name)}: is for --recipe {_asking(name)}")


def at_least(column: str, least: float, exact: bool = False) -> tuple[Step, Step]:
    """Rows whose score is a number, and at least that. exact: `least` is one of the column's values, as a double."""
    score, name = identifier(column), column
    # as written, a number is compared as what the column holds: 0.7 with float32's nearest to it
    bound = f"'{least!r}'::DOUBLE" if exact else f"{Decimal(repr(least)):f}"
    return (
        Step(f"no {name}", f"{score} IS NOT NULL"),
        Step(f"{name} below {least:.6g}", f"{score}{'::DOUBLE' if exact else ''} >= {bound}"),
    )


def _sides(dataset: Dataset) -> tuple[str, str]:
    """Of the image on the web where the dataset knows it (img2dataset may have made it smaller), else as decoded."""
    if {"original_width", "original_height"} <= set(dataset.schema.names):
        return "coalesce(original_width, width)::DOUBLE", "coalesce(original_height, height)::DOUBLE"
    return "width::DOUBLE", "height::DOUBLE"


def _b32(dataset: Dataset) -> DatasetModel:
    for model in dataset.models:
        if model.variant.replace("/", "-").startswith("ViT-B-32"):
            return model
    made = ", ".join(model.variant for model in dataset.models)
    raise UserError(
        f"--recipe laion2b: its threshold is for ViT-B/32, and {dataset.url} was made with {made}; name a column with "
        "--by, or use --recipe clip_score"
    )


def _asking(name: str) -> str:
    return " or ".join(recipe for recipe, row in RECIPES.items() if any(name in names for names in row.needs))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

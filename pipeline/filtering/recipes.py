"""DataComp's baselines as ordered conditions (Gadre et al. 2023, section 4.1 and appendix N).

A row stays where every condition holds; it is counted with the first that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    """needs: groups of the job's fields; of each group, at least one must be set. model: the only one it is for."""

    steps: Callable[[Dataset, FilterJob], Sequence[Step]]
    needs: tuple[tuple[str, ...], ...] = ()
    model: str = ""


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
    column = job.by or f"{_b32(dataset).prefix}similarity"
    return (ENGLISH, *at_least(column, 0.28))


def _image_based(dataset: Dataset, job: FilterJob) -> Sequence[Step]:
    column = identifier(f"{dataset.model(job.alias).prefix}image_embedding")
    near = Step("far from the reference", f"near_reference({column})")
    return (ENGLISH, OVER_ONE_WORD, OVER_FIVE_CHARACTERS, near)


SCORE_OPTIONS = ("top_fraction", "threshold")

RECIPES: dict[str, Recipe] = {
    "no_filter": Recipe(lambda *_: ()),
    "basic": Recipe(_basic),
    "clip_score": Recipe(lambda *_: (), needs=(SCORE_OPTIONS,)),
    "laion2b": Recipe(_laion2b, model="ViT-B/32"),
    "text_based": Recipe(lambda *_: (ENGLISH, IN_VOCABULARY), needs=(("vocabulary",),)),
    "image_based": Recipe(_image_based, needs=(("reference",),)),
    "image_based_intersect_clip_score": Recipe(_image_based, needs=(("reference",), SCORE_OPTIONS)),
}


def check_recipe(job: FilterJob) -> None:
    """UserError for a recipe that lacks an option, and for an option that the recipe does not use."""
    needs = RECIPES[job.recipe].needs if job.recipe else ()
    for names in needs:
        if all(getattr(job, name) is None for name in names):
            raise UserError(f"--recipe {job.recipe} needs {' or '.join(map(flag_of, names))}")
    for name in ("vocabulary", "reference"):
        if getattr(job, name) is not None and not any(name in names for names in needs):
            raise UserError(
                f"{flag_of(name)} is for --recipe {_recipes_with(name)}; choose that recipe, or leave the option out"
            )


def at_least(column: str, least: float, exact: bool = False, value: str = "") -> tuple[Step, Step]:
    """Keeps rows whose value in the column is a number of at least `least`. exact: `least` is itself a value of the
    column, as a double. value: the column in SQL, where it is not the dataset's own."""
    value = value or identifier(column)
    # otherwise it is compared in the column's own type: 0.7 as float32's nearest number
    bound = f"'{least!r}'::DOUBLE" if exact else f"{Decimal(repr(least)):f}"
    return (
        Step(f"no {column}", f"{value} IS NOT NULL"),
        Step(f"{column} below {least:.6g}", f"{value}{'::DOUBLE' if exact else ''} >= {bound}"),
    )


def in_top(column: str, share: float, threshold: float | None, value: str = "") -> tuple[Step, Step]:
    """Keeps the rows of the best share by a column. threshold: the least of their values, None where no row has one.
    value: as for `at_least`."""
    has_score, is_enough = at_least(column, float("inf") if threshold is None else threshold, True, value)
    least = "" if threshold is None else f", below {threshold:.6g}"
    return has_score, replace(is_enough, reason=f"{column} not in the top {100 * share:.6g}%{least}")


def _sides(dataset: Dataset) -> tuple[str, str]:
    """Width and height on the web, if the dataset has them (img2dataset may have shrunk the image), else as decoded."""
    if {"original_width", "original_height"} <= set(dataset.schema.names):
        return "coalesce(original_width, width)::DOUBLE", "coalesce(original_height, height)::DOUBLE"
    return "width::DOUBLE", "height::DOUBLE"


def _b32(dataset: Dataset) -> DatasetModel:
    for model in dataset.models:
        if model.variant.replace("/", "-").startswith("ViT-B-32"):
            return model
    variants = ", ".join(model.variant for model in dataset.models)
    raise UserError(
        f"--recipe laion2b has a threshold for ViT-B/32, but {dataset.url} was made with {variants}; name a column "
        "with --by, or use --recipe clip_score"
    )


def _recipes_with(name: str) -> str:
    return " or ".join(recipe for recipe, row in RECIPES.items() if any(name in names for names in row.needs))


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"

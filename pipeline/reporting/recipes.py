"""What each recipe of `clipmill filter` would keep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from ..dataset.dataset import Dataset
from ..errors import UserError
from ..filtering.recipes import RECIPES, SCORE_OPTIONS, Step, flag_of, in_top
from ..filtering.request import FAILED
from ..job.filter import FilterJob
from .frame import TOP, level_of
from .numbers import Numbers
from .similarity import Similarity

MOST = 1 << 20  # rows that are judged: some 30 µs each, most of it whether the caption is English
DETECTOR = "rough"  # the default of `clipmill filter`


@dataclass(frozen=True)
class RecipeCounts:
    """rows = all dropped + kept; as `clipmill filter --count` with the recipe and the options has them. Of a dataset of
    more than `MOST` rows, a sample of half as many to about as many is judged."""

    recipe: str
    options: str  # that it is counted with
    rows: int
    dropped: Mapping[str, int]  # by reason, in the order of the conditions
    kept: int


@dataclass(frozen=True)
class RecipeNumbers:
    counts: tuple[RecipeCounts, ...]
    lacking: Mapping[str, str]  # by recipe that cannot be counted: what it lacks
    is_sample: bool


_Steps = tuple[Step, ...]


def recipe_numbers(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    alias: str | None,
    numbers: Numbers,
) -> RecipeNumbers:
    """Of the sums (see sums.py)."""
    model = dataset.model(alias)
    of = next((of for of in numbers.similarities if of.alias == model.alias), None)
    is_enough = None if of is None else _top(dataset, alias, of.threshold_of(TOP))[1]
    steps_or_lack = {name: _steps(name, dataset, alias, of) for name in RECIPES}
    recipes = {name: steps for name, steps in steps_or_lack.items() if not isinstance(steps, str)}
    lacking = {name: lack for name, lack in steps_or_lack.items() if isinstance(lack, str)}
    level = level_of(numbers.counts.rows, MOST)
    patterns = _patterns(connection, conditions_of(dataset, alias), is_enough, of, level)
    counts = (_counts(name, steps, patterns) for name, steps in recipes.items())
    return RecipeNumbers(tuple(counts), lacking, level > 0)


def conditions_of(dataset: Dataset, alias: str | None) -> tuple[str, ...]:
    """Those of all recipes, each once, but for the one that a row is among the top 30 %."""
    has_score, _ = _top(dataset, alias, 0.0)
    steps = [of for name in RECIPES if not isinstance(of := _own_steps(name, dataset, alias), str)]
    conditions = dict.fromkeys(step.condition for of in steps for step in of)
    return tuple(dict.fromkeys([FAILED.condition, *conditions, has_score.condition]))


def _own_steps(name: str, dataset: Dataset, alias: str | None) -> _Steps | str:
    """A recipe's own conditions in order, as `filter` has them; or what it lacks."""
    recipe = RECIPES[name]
    files = [names for names in recipe.needs if names != SCORE_OPTIONS]
    if files:
        return f"needs {' and '.join(flag_of(one) for (one,) in files)}"
    try:
        return tuple(recipe.steps(dataset, FilterJob(dataset.url, count=True, alias=alias)))
    except UserError:
        return f"is for {recipe.model}"


def _steps(name: str, dataset: Dataset, alias: str | None, of: Similarity | None) -> _Steps | str:
    """With what drops failed rows and all but the best share. of: the similarity that ranks; None where no row has
    one."""
    steps = _own_steps(name, dataset, alias)
    if isinstance(steps, str):
        return steps
    if not _is_ranked(name):
        return tuple(dict.fromkeys((FAILED, *steps)))
    if of is None:
        return "needs a similarity, which no row has"
    return tuple(dict.fromkeys((FAILED, *steps, *_top(dataset, alias, of.threshold_of(TOP)))))


def _is_ranked(name: str) -> bool:
    return SCORE_OPTIONS in RECIPES[name].needs


def _top(dataset: Dataset, alias: str | None, threshold: float) -> tuple[Step, Step]:
    return in_top(f"{dataset.model(alias).prefix}similarity", TOP, threshold)


_Patterns = Mapping[frozenset[str], int]  # the conditions that hold -> the rows for which just these do


def _patterns(
    connection: duckdb.DuckDBPyConnection,
    conditions: Sequence[str],
    is_enough: Step | None,
    of: Similarity | None,
    level: int,
) -> _Patterns:
    """is_enough: holds where the similarity is at or above its threshold. level: see frame.py."""
    threshold = math.inf if of is None else of.threshold_of(TOP)
    found = connection.execute(
        f"SELECT name, coalesce(number >= '{threshold!r}'::DOUBLE, false) AS is_enough, sum(rows)::BIGINT FROM sums "
        f"WHERE what LIKE 'recipes %' AND split_part(what, ' ', 2)::INTEGER >= {level} GROUP BY ALL"
    ).fetchall()
    patterns = Counter[frozenset[str]]()
    for holding, reaches, rows in found:
        held = [condition for condition, holds in zip(conditions, holding, strict=True) if holds == "1"]
        patterns[frozenset([*held, *([is_enough.condition] if reaches and is_enough else [])])] += rows
    return patterns


def _counts(name: str, steps: Sequence[Step], patterns: _Patterns) -> RecipeCounts:
    dropped, kept = Counter({step.reason: 0 for step in steps}), 0
    for holding, rows in patterns.items():
        reason = next((step.reason for step in steps if step.condition not in holding), None)
        if reason is None:
            kept += rows
        else:
            dropped[reason] += rows
    options = f"--top-fraction {TOP}" if _is_ranked(name) else ""
    return RecipeCounts(name, options, sum(patterns.values()), dict(dropped), kept)

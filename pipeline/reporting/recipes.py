"""What each recipe of `clipmill filter` would keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from ..dataset.dataset import Dataset
from ..errors import UserError
from ..filtering import row_functions
from ..filtering.recipes import RECIPES, SCORE_OPTIONS, Step, flag_of, in_top
from ..filtering.request import FAILED
from ..job.filter import FilterJob
from .similarity import TOP, Similarity

MOST = 1 << 20  # rows that are judged: some 30 µs each, most of it whether the caption is English
_DETECTOR = "rough"  # the default of `clipmill filter`


@dataclass(frozen=True)
class RecipeCounts:
    """rows = all dropped + kept; as `clipmill filter --count` with the recipe and the options has them. Of a dataset of
    more than `MOST` rows, a sample of about so many is judged."""

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


def recipe_numbers(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, alias: str | None, similarities: Sequence[Similarity]
) -> RecipeNumbers:
    """Of the view `pairs`, in one scan: a condition that several recipes have is judged once for each row."""
    recipes: dict[str, tuple[Step, ...]] = {}
    lacking: dict[str, str] = {}
    options: dict[str, str] = {}
    for name, recipe in RECIPES.items():
        other = [names for names in recipe.needs if names != SCORE_OPTIONS]
        score = _best_share(dataset, alias, similarities) if SCORE_OPTIONS in recipe.needs else ()
        if other:
            lacking[name] = f"needs {' and '.join(flag_of(one) for (one,) in other)}"
        elif score is None:
            lacking[name] = "needs a similarity, which no row has"
        else:
            try:
                steps = recipe.steps(dataset, FilterJob(dataset.url, count=True, alias=alias))
            except UserError:
                lacking[name] = f"is for {recipe.model}"
                continue
            recipes[name] = tuple(dict.fromkeys((FAILED, *steps, *score)))
            options[name] = f"--top-fraction {TOP}" if score else ""
    patterns, is_sample = _judged(connection, [step.condition for steps in recipes.values() for step in steps])
    counts = (_counts(name, options[name], steps, patterns) for name, steps in recipes.items())
    return RecipeNumbers(tuple(counts), lacking, is_sample)


def _best_share(dataset: Dataset, alias: str | None, similarities: Sequence[Similarity]) -> tuple[Step, ...] | None:
    """None where no row has a score."""
    model = dataset.model(alias)
    of = next((of for of in similarities if of.alias == model.alias), None)
    return None if of is None else in_top(f"{model.prefix}similarity", TOP, of.threshold_of(TOP))


_Patterns = Mapping[frozenset[str], int]  # the conditions that hold -> the rows for which just these do


def _judged(connection: duckdb.DuckDBPyConnection, conditions: Sequence[str]) -> tuple[_Patterns, bool]:
    """And whether only a sample was judged."""
    row_functions.english(_DETECTOR).register(connection)
    ((rows,),) = connection.execute("SELECT count(*) FROM pairs").fetchall()
    every = -(-rows // MOST)
    unique = list(dict.fromkeys(conditions))
    columns = ", ".join(f"({condition}\n) IS TRUE" for condition in unique)
    sampled = f"WHERE hash(row, shard) % {every} = 0" if every > 1 else ""
    patterns: dict[frozenset[str], int] = {}
    for *holds, count in connection.execute(f"SELECT {columns}, count(*) FROM pairs {sampled} GROUP BY ALL").fetchall():
        patterns[frozenset(c for c, holds_here in zip(unique, holds, strict=True) if holds_here)] = count
    return patterns, every > 1


def _counts(name: str, options: str, steps: Sequence[Step], patterns: _Patterns) -> RecipeCounts:
    dropped, kept = Counter({step.reason: 0 for step in steps}), 0
    for holding, rows in patterns.items():
        reason = next((step.reason for step in steps if step.condition not in holding), None)
        if reason is None:
            kept += rows
        else:
            dropped[reason] += rows
    return RecipeCounts(name, options, sum(patterns.values()), dict(dropped), kept)

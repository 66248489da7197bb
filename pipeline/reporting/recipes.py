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
from ..filtering.rows import Rows
from ..job.filter import FilterJob
from ..running.stages import OnStage, counted
from .similarity import TOP, Similarity

MOST = 1 << 20  # rows that are judged: some 30 µs each, most of it whether the caption is English
_QUERIES = 64  # at most: between them it is told how far this is
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
    connection: duckdb.DuckDBPyConnection,
    rows: Rows,
    alias: str | None,
    similarities: Sequence[Similarity],
    on_stage: OnStage,
) -> RecipeNumbers:
    """In one scan: a condition that several recipes have is judged once for each row. connection: to the dataset."""
    score = _best_share(rows.dataset, alias, similarities)
    steps_or_lack = {name: _steps(name, rows.dataset, alias, score) for name in RECIPES}
    recipes = {name: steps for name, steps in steps_or_lack.items() if not isinstance(steps, str)}
    lacking = {name: lack for name, lack in steps_or_lack.items() if isinstance(lack, str)}
    conditions = [step.condition for steps in recipes.values() for step in steps]
    patterns, is_sample = _judged(connection, rows, list(dict.fromkeys(conditions)), on_stage)
    counts = (_counts(name, steps, patterns) for name, steps in recipes.items())
    return RecipeNumbers(tuple(counts), lacking, is_sample)


_Steps = tuple[Step, ...]


def _steps(name: str, dataset: Dataset, alias: str | None, score: _Steps | None) -> _Steps | str:
    """The recipe's conditions in order, as `filter` has them; or what it lacks. score: those of the best share, None
    without scores."""
    recipe = RECIPES[name]
    files = [names for names in recipe.needs if names != SCORE_OPTIONS]
    if files:
        return f"needs {' and '.join(flag_of(one) for (one,) in files)}"
    if _is_ranked(name) and score is None:
        return "needs a similarity, which no row has"
    try:
        steps = recipe.steps(dataset, FilterJob(dataset.url, count=True, alias=alias))
    except UserError:
        return f"is for {recipe.model}"
    return tuple(dict.fromkeys((FAILED, *steps, *((score or ()) if _is_ranked(name) else ()))))


def _is_ranked(name: str) -> bool:
    return SCORE_OPTIONS in RECIPES[name].needs


def _best_share(dataset: Dataset, alias: str | None, similarities: Sequence[Similarity]) -> tuple[Step, ...] | None:
    """None where no row has a score."""
    model = dataset.model(alias)
    of = next((of for of in similarities if of.alias == model.alias), None)
    return None if of is None else in_top(f"{model.prefix}similarity", TOP, of.threshold_of(TOP))


_Patterns = Mapping[frozenset[str], int]  # the conditions that hold -> the rows for which just these do


def _judged(
    connection: duckdb.DuckDBPyConnection, rows: Rows, conditions: Sequence[str], on_stage: OnStage
) -> tuple[_Patterns, bool]:
    """And whether only a sample was judged."""
    row_functions.english(_DETECTOR).register(connection)
    ((count,),) = connection.execute("SELECT count(*) FROM pairs").fetchall()
    every = -(-count // MOST)
    sampled = f"WHERE hash(row, shard) % {every} = 0" if every > 1 else ""
    columns = ", ".join(f"({condition}\n) IS TRUE" for condition in conditions)
    parts, size = rows.dataset.parts, -(-len(rows.dataset.parts) // _QUERIES)
    runs = [parts[start : start + size] for start in range(0, len(parts), size)]
    patterns = Counter[frozenset[str]]()
    for run in counted(runs, "judging by recipes", "parts", len(parts), on_stage, weigh=len):
        query = f"SELECT {columns}, count(*) FROM {rows.source(run)} {sampled} GROUP BY ALL"
        for *holds, times in connection.execute(query).fetchall():
            patterns[frozenset(c for c, holds_here in zip(conditions, holds, strict=True) if holds_here)] += times
    return patterns, every > 1


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

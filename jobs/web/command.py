"""The command that gives what the page shows."""

from __future__ import annotations

import shlex

from ...pipeline.job.serve import ServeJob
from .view import View


def command(job: ServeJob, view: View, at: str, above: int, similarity: str) -> str:
    """Of the rows at or above `at`, of which there are `above`. similarity: the dataset's column."""
    condition = view.condition
    of_similarity = view.score == "similarity" or not view.is_search
    least = ["--where", f"{similarity} >= {at}"] if of_similarity else []
    labels = ["--labels", job.labels] if condition.label is not None and job.labels else []
    joins = _joins(job, condition.where or "")
    filtering = ["clipmill", "filter", job.dataset, *joins, *condition.options(), *labels]
    if not view.is_search:
        return shlex.join([*filtering, *least, "-o", "subset/"])
    alias = ["--alias", job.alias] if job.alias else []
    score = [] if of_similarity else ["--threshold", at]
    found = [*_query(view), *_side(view), *alias, *score, "-k", str(max(above, 1))]
    if condition.label is not None:  # `search` knows of no labels
        subset = shlex.join([*filtering, *least, "-o", "subset/"])
        return f"{subset} && {shlex.join(['clipmill', 'search', job.dataset, *found, '--within', 'subset/'])}"
    both = [text for text in (condition.where, f"{similarity} >= {at}" if of_similarity else None) if text]
    # a condition may end in a comment: what follows stands on a line of its own
    where = both if len(both) < 2 else [f"({both[0]}\n) AND {both[1]}"]
    return shlex.join(["clipmill", "search", job.dataset, *found, *joins, *(["--where", *where] if where else [])])


def _joins(job: ServeJob, where: str) -> list[str]:
    """Of the side tables that the condition may name."""
    named = [f"{alias}={url}" for alias, url in job.joins.items() if alias.casefold() in where.casefold()]
    return [word for join in named for word in ("--join", join)]


def _query(view: View) -> list[str]:
    query = view.query
    if query.text is not None:
        return ["--", query.text] if query.text.startswith("-") else [query.text]
    if query.key is not None:
        return ["--key", query.key]
    return ["--place", str(query.place)] if query.place is not None else ["--image", "FILE"]


def _side(view: View) -> list[str]:
    return ["--for", "text"] if view.side == "text" else []

"""What somebody looks at: a query, a filter, a threshold and an order. Plain values that a page's address can hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ...pipeline.choices import Side
from ...pipeline.searching.catalogue import Condition

DEEPEST = 2000  # results that can be paged through

Score = Literal["similarity", "match"]  # of image and caption; of the query and what is compared with it
Order = Literal["best", "similarity", "-similarity"]  # best matches or the dataset's order; highest; lowest first


@dataclass(frozen=True)
class Query:
    """What to search for: a text, a key, a place (the position of a row) or an upload (as `Site.upload` named it). All
    None: browse."""

    text: str | None = None
    key: str | None = None
    place: int | None = None
    upload: str | None = None


@dataclass(frozen=True)
class View:
    """condition: without a threshold of its own. score: what the threshold is about. at_least: None shows all."""

    query: Query = field(default_factory=Query)
    side: Side = "image"
    condition: Condition = field(default_factory=Condition)
    score: Score = "similarity"
    at_least: float | None = None
    order: Order = "best"

    @property
    def is_search(self) -> bool:
        return self.query != Query()

    @property
    def least_match(self) -> float | None:
        return self.at_least if self.score == "match" and self.is_search else None

    @property
    def narrowed(self) -> Condition:
        """The condition, and the threshold where it is one of similarity."""
        least = self.at_least if self.score == "similarity" else None
        return replace(self.condition, at_least=least)

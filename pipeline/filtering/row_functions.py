"""Conditions that SQL cannot express, as functions that it can call on a column."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..records import Vectors
from . import language

_TEXT, _VECTOR = "VARCHAR", "FLOAT[]"
_WORDS = re.compile(r"\w+(?:['-]\w+)*")
_PLURALS = (("'s", ""), ("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss"), ("s", ""))


@dataclass(frozen=True)
class RowFunction:
    """`name(column)` in SQL: true, false, or null where the column is. Cheap to send to workers."""

    name: str
    parameter: str  # the column's type
    holds: Callable[[pa.Array], Sequence[bool] | npt.NDArray[np.bool_]]  # of values without nulls

    def register(self, connection: duckdb.DuckDBPyConnection) -> None:
        register: Any = connection.create_function  # typed for enumerations only, which moved between versions
        register(self.name, self._call, [self.parameter], "BOOLEAN", type="arrow", null_handling="special")

    def _call(self, column: pa.ChunkedArray) -> pa.Array:
        present = column.is_valid().combine_chunks().to_numpy(zero_copy_only=False)
        result = np.zeros(len(column), np.bool_)
        if present.any():
            result[present] = self.holds(column.drop_null().combine_chunks())
        return pa.array(result, mask=~present)


def english(detector: str) -> RowFunction:
    """`english(caption)`. UserError where the detector is not installed: now, rather than in a worker."""
    language.english(detector)
    return RowFunction("english", _TEXT, _IsEnglish(detector))


def in_vocabulary(vocabulary: Sequence[str]) -> RowFunction:
    """`in_vocabulary(caption)`: a word, or a run of words, is in the vocabulary."""
    return RowFunction("in_vocabulary", _TEXT, _Names(frozenset(map(_folded, vocabulary))))


def near(centroids: Vectors, wanted: npt.NDArray[np.bool_]) -> RowFunction:
    """`near_reference(image_embedding)`: the nearest of the centroids, float32 [cells, dim], is a wanted one: bool
    [cells]."""
    return RowFunction("near_reference", _VECTOR, _IsNear(centroids, wanted))


@dataclass(frozen=True)
class _IsEnglish:
    detector: str

    def __call__(self, captions: pa.Array) -> list[bool]:
        return language.english(self.detector)(captions.to_pylist())


@dataclass(frozen=True)
class _Names:
    vocabulary: frozenset[str]

    def __call__(self, captions: pa.Array) -> list[bool]:
        longest = max((phrase.count(" ") + 1 for phrase in self.vocabulary), default=0)
        return [self._named(_folded(caption).split(), longest) for caption in captions.to_pylist()]

    def _named(self, words: list[str], longest: int) -> bool:
        for start in range(len(words)):
            for end in range(start + 1, min(start + longest, len(words)) + 1):
                phrase = " ".join(words[start:end])
                if phrase in self.vocabulary or _singular(phrase) in self.vocabulary:
                    return True
        return False


def _folded(text: str) -> str:
    """The words of a text, in lower case, with single spaces between them."""
    return " ".join(_WORDS.findall(text.lower().replace("’", "'")))


def _singular(phrase: str) -> str:
    for ending, instead in _PLURALS:
        if phrase.endswith(ending) and len(phrase) > len(ending) + 1:
            return phrase.removesuffix(ending) + instead
    return phrase


@dataclass(frozen=True)
class _IsNear:
    centroids: Vectors
    wanted: npt.NDArray[np.bool_]

    def __call__(self, embeddings: pa.Array) -> npt.NDArray[np.bool_]:
        from ..deduplication import kmeans  # with torch, which takes a second

        dim = self.centroids.shape[1]
        vectors = embeddings.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        nearest, _ = kmeans.assign(np.require(vectors, requirements="W"), np.require(self.centroids, requirements="W"))
        are_near: npt.NDArray[np.bool_] = self.wanted[nearest[:, 0]]
        return are_near

"""Functions that SQL calls on a column: nulls stay null, the rest is as the function says."""

from __future__ import annotations

import pickle

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from clipmill.pipeline.filtering.row_functions import RowFunction, english, in_vocabulary, near


def ask(function: RowFunction, column: pa.Array) -> list[bool | None]:
    """Through DuckDB, after a journey to a worker."""
    arrived = pickle.loads(pickle.dumps(function))
    with duckdb.connect() as connection:
        arrived.register(connection)
        connection.register("t", pa.table({"x": column}))
        return [row[0] for row in connection.execute(f"SELECT {function.name}(x) FROM t").fetchall()]


def test_english_is_asked_of_every_caption_that_is_there() -> None:
    captions = pa.array(["a dog on the beach", None, "ein Hund am Strand", ""])
    assert ask(english("rough"), captions) == [True, None, False, False]
    assert ask(english("rough"), pa.array([None], pa.string())) == [None]
    assert ask(english("rough"), pa.array([], pa.string())) == []


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("A Fire-Engine, red", False),
        ("two fire engines", True),
        ("fire  ENGINE!", True),
        ("engine fire", False),
        ("Cats", True),
        ("catalogue", False),
        ("berries", True),
        ("three foxes", True),
        ("the cat’s eye", True),
        ("the bus", True),
        ("naïve café", True),
        ("", False),
    ],
)
def test_words_and_phrases_of_the_vocabulary(caption: str, found: bool) -> None:
    words = ["Cat", "fire engine", "berry", "fox", "bus", "CAFÉ"]
    assert ask(in_vocabulary(words), pa.array([caption, None])) == [found, None]


def test_near_is_whoever_has_a_wanted_centroid_nearest() -> None:
    centroids = np.eye(3, dtype=np.float32)
    vectors = pa.array([[0.9, 0.1, 0.0], None, [0.0, 0.1, 0.9], [0.0, 1.0, 0.0]], pa.list_(pa.float32(), 3))
    assert ask(near(centroids, np.array([True, False, False])), vectors) == [True, None, False, False]

"""Measures on hand-written matrices, and against counting every pair."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from clipmill.clipmodel.metrics import recall_at_k, roc_auc, top1
from hypothesis import given
from hypothesis import strategies as st

SIMILARITY = np.array(
    [
        [0.9, 0.1, 0.2, 0.3],  # right
        [0.8, 0.7, 0.1, 0.0],  # one ahead
        [0.5, 0.6, 0.4, 0.7],  # three ahead
        [0.1, 0.2, 0.3, 0.9],  # right
    ]
)


@pytest.mark.parametrize(("k", "recall"), [(0, 0.0), (1, 0.5), (2, 0.75), (3, 0.75), (4, 1.0), (10, 1.0)])
def test_recall_is_the_share_of_queries_with_fewer_than_k_ahead(k: int, recall: float) -> None:
    assert recall_at_k(SIMILARITY, k) == recall


def test_texts_as_queries_are_the_columns() -> None:
    assert recall_at_k(SIMILARITY.T, 1) == 1.0  # each column's largest entry is on the diagonal, unlike each row's


@pytest.mark.parametrize("k", [1, 2, 3])
def test_ties_count_against_the_right_answer(k: int) -> None:
    assert recall_at_k(np.ones((4, 4)), k) == 0.0
    assert recall_at_k(np.ones((4, 4)), 4) == 1.0


def test_a_tie_with_one_other_is_a_second_place() -> None:
    similarity = np.array([[0.5, 0.5, 0.1], [0.1, 0.5, 0.2], [0.3, 0.2, 0.5]])
    assert recall_at_k(similarity, 1) == pytest.approx(2 / 3)
    assert recall_at_k(similarity, 2) == 1.0


def test_a_diverged_model_retrieves_nothing() -> None:
    assert recall_at_k(np.full((3, 3), np.nan), 1) == 0.0
    similarity = np.where(np.eye(4) == 1, SIMILARITY, np.nan)
    assert recall_at_k(similarity, 1) == 0.0
    one = SIMILARITY.copy()
    one[0, 0] = np.nan
    assert recall_at_k(one, 1) == 0.25


def test_top1_is_the_share_of_rows_whose_largest_entry_is_the_label() -> None:
    assert top1(SIMILARITY, np.array([0, 0, 3, 3])) == 1.0
    assert top1(SIMILARITY, np.array([0, 1, 2, 3])) == 0.5
    assert top1(SIMILARITY[:, :2], np.array([1, 1, 0, 0])) == 0.0  # [n, classes] need not be square


def counted(positive: npt.NDArray[np.floating], negative: npt.NDArray[np.floating]) -> float:
    above = (positive[:, None] > negative[None]).mean()
    equal = (positive[:, None] == negative[None]).mean()
    return float(above + equal / 2)


@pytest.mark.parametrize(
    ("positive", "negative", "auc"),
    [
        ([0.9, 0.8], [0.1, 0.2], 1.0),
        ([0.1, 0.2], [0.9, 0.8], 0.0),
        ([0.5], [0.5], 0.5),
        ([0.3, 0.7], [0.5], 0.5),
        ([0.5, 0.7], [0.5, 0.1], 0.875),
    ],
)
def test_roc_auc_by_hand(positive: list[float], negative: list[float], auc: float) -> None:
    assert roc_auc(np.array(positive), np.array(negative)) == pytest.approx(auc)


few = st.lists(st.integers(-3, 3).map(float) | st.floats(-1, 1, width=16), min_size=1, max_size=30).map(np.array)


@given(few, few)
def test_roc_auc_is_the_share_of_pairs_in_order(
    positive: npt.NDArray[np.floating], negative: npt.NDArray[np.floating]
) -> None:
    assert roc_auc(positive, negative) == pytest.approx(counted(positive, negative), abs=1e-12)
    assert roc_auc(negative, positive) == pytest.approx(1 - roc_auc(positive, negative), abs=1e-12)


@given(few, few)
def test_roc_auc_sees_only_the_order(positive: npt.NDArray[np.floating], negative: npt.NDArray[np.floating]) -> None:
    # doubling is exact in floating point, so that it makes and breaks no ties
    assert roc_auc(2 * positive, 2 * negative) == roc_auc(positive, negative)

"""Retrieval and classification measures; pure functions of similarities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def recall_at_k(similarity: Floats, k: int) -> float:
    """Share of queries whose own candidate is among the k most similar.

    similarity: [n, n], query i's right answer is candidate i. A candidate that ties with the right one counts
    as ahead of it, and so does one where either score is NaN: a constant matrix or a diverged model must not score
    as perfect.
    """
    right = np.diagonal(similarity)[:, None]
    ahead = (~(similarity < right)).sum(axis=1) - 1
    return float((ahead < k).mean())


def top1(similarity: Floats, labels: npt.NDArray[np.integer]) -> float:
    """Share of rows of `similarity` [n, classes] whose largest entry is at `labels` [n]."""
    return float((similarity.argmax(axis=1) == labels).mean())


def roc_auc(positive: Floats, negative: Floats) -> float:
    """Probability that a positive's score is above a negative's; ties count one half (Mann-Whitney U)."""
    scores = np.concatenate([positive, negative])
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]  # tied scores share their mean rank
    u = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(u / (len(positive) * len(negative)))

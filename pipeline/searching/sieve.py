"""Which rows may be among the best for a query, told by products in half precision: at a third of the cost of exact
scores, since no number is converted beforehand. What is left is compared exactly (scan.py), so nothing is missed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..records import Vector
from .array_runs import Runs, Stored

Scores = npt.NDArray[np.float32]

_HALF = 2.0**-11  # the share by which rounding to float16 moves a number, at most
_SINGLE = 2.0**-24  # of float32
_TINY = 2.0**-25  # below float16's normal numbers, what rounding moves them by
_LARGEST = 60_000.0  # scores that float16 can hold
_PROBE = 4096  # rows


@dataclass(frozen=True)
class Sieve:
    """half: float16 [dim], the query rounded. error: how far a rough score is from the exact one, at most."""

    half: torch.Tensor
    error: float

    @classmethod
    def of(cls, stored: Stored | Runs, query: Vector, longest: float) -> Sieve | None:
        """None where it would not help, or proves nothing. longest: no finite row of `stored` is longer."""
        reach = longest * float(np.linalg.norm(query.astype(np.float64)))  # no score is higher (Cauchy-Schwarz)
        if stored.dtype != np.float16 or not reach < _LARGEST or not _is_quick(stored.shape[1]):
            return None
        half = query.astype(np.float16)
        rounded = longest * float(np.linalg.norm(query.astype(np.float64) - half))
        summed = 2 * len(query) * _SINGLE * reach  # here and in the exact score, in whatever order
        return cls(torch.from_numpy(half), 1.01 * (rounded + summed + _HALF * (reach + rounded) + _TINY))

    def passes(self, stored: Stored, k: int, floor: float, among: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of the rows `among` those that may be among the k best of them and score `floor` or more, both exactly."""
        rough = _rough(stored, self.half)[among]
        passing = np.isfinite(rough) & (rough >= floor - self.error)
        high = rough[passing]
        if len(high) > k:
            passing &= rough >= np.partition(high, -k)[-k] - 2 * self.error
        return passing


def _rough(stored: Stored, half: torch.Tensor) -> Scores:
    scores: Scores = torch.mv(torch.from_numpy(np.asarray(stored)), half).float().numpy()
    return scores


@cache
def _is_quick(dim: int) -> bool:
    """Whether torch here multiplies float16 quickly, and sums in float32. Older ones, and other processors, may not."""
    random = np.random.default_rng(0)
    stored = (random.standard_normal((_PROBE, dim)) / dim**0.5).astype(np.float16)
    half = torch.from_numpy((random.standard_normal(dim) / dim**0.5).astype(np.float16))
    exact = torch.from_numpy(stored).double() @ half.double()
    error = float((torch.from_numpy(_rough(stored, half)) - exact).abs().max())
    bound = 2 * _HALF * float(exact.abs().max()) + dim * _SINGLE
    rows, query = torch.from_numpy(stored), half.float()
    return error <= bound and _seconds(lambda: _rough(stored, half)) < _seconds(lambda: rows.float() @ query)


def _seconds(call: Any) -> float:
    """Of this thread's work, whatever others do here."""
    times = []
    for _ in range(5):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return min(times)

"""Sketches: an eighth of a vector's bytes, by which no vector that is near another one is passed over.

A sketch has a vector's coordinates along some axes, rounded to 8 bits, and the lengths of what is missing. Let
x = A'a + b and y = A's + r, where the axes are the rows of A, a is Ax, and s is what y's sketch has. By Cauchy and
Schwarz,

    x.y = a.s + a.(Ar) + b.r <= a.s + |a||Ar| + |b||r|,

one product of numbers of x with numbers of y's sketch. It holds for any axes. The less these leave of vectors, the less
the bound exceeds the cosine: they are the principal axes of a sample.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..records import Vectors
from .cells import Records
from .kmeans import device

_SHARE, _AT_LEAST = 4, 64  # axes: a quarter of the dimensions, but at least so many
_SAMPLE = 16  # vectors that the axes are found from, a dimension
_STEPS = 127  # on each side of zero
_LEAST_REACH = 2.0**-6  # of the coordinates along an axis

# Sums of float32 numbers: a sum of n products errs by n 2^-24 of their amounts at the most. That is so for the cosine
# itself, for a and s, and for the lengths of b, r and Ar; through the axes it grows by the root of their number.
_SUMS = 2.0**-19  # a dimension


@dataclass(frozen=True)
class Axes:
    """What sketches are made with. directions: float32 [axes, dim], of length one and at right angles; steps: float32
    [axes], of the coordinates along each."""

    directions: Vectors
    steps: npt.NDArray[np.float32]

    @classmethod
    def of(cls, sample: Vectors) -> Axes:
        """sample: float32 [n, dim] of length one."""
        count = sample.shape[1]
        some = sample[:: max(1, len(sample) // (_SAMPLE * count))]
        _, directions = np.linalg.eigh((some.T @ some).astype(np.float64))  # the longest axis is the last
        axes = min(count, max(_AT_LEAST, count // _SHARE))
        directions = np.ascontiguousarray(directions[:, ::-1][:, :axes].T, np.float32)
        reach = np.abs(some @ directions.T).max(axis=0, initial=_LEAST_REACH)
        return cls(directions, (reach / _STEPS).astype(np.float32))

    @classmethod
    def read(cls, data: bytes) -> Axes:
        with np.load(io.BytesIO(data)) as kept:
            return cls(kept["directions"], kept["steps"])

    def written(self) -> bytes:
        file = io.BytesIO()
        np.savez(file, directions=self.directions, steps=self.steps)
        return file.getvalue()

    @property
    def record(self) -> np.dtype[np.void]:
        """A sketch: `cell` int32, `codes` int8 [axes], and `rest` float16 [2], the lengths |Ar| and |r|."""
        return np.dtype([("cell", "<i4"), ("codes", "i1", (len(self.steps),)), ("rest", "<f2", (2,))])

    @property
    def error(self) -> float:
        """How far a cosine, as it is computed, may exceed its bound."""
        return self.directions.shape[1] * _SUMS

    def fields(self, vectors: Vectors) -> dict[str, npt.NDArray[Any]]:
        """Codes and rests. vectors: float32 [n, dim] of length one, as they are compared."""
        rows, directions, steps = _there(vectors, self.directions, self.steps)
        codes = (rows @ directions.T / steps).round().clamp(-_STEPS, _STEPS)
        missing = rows - (codes * steps) @ directions
        rest = torch.stack([(missing @ directions.T).norm(dim=1), missing.norm(dim=1)], dim=1).cpu().numpy()
        return {
            "codes": codes.to(torch.int8).cpu().numpy(),
            "rest": np.nextafter(rest.astype(np.float16), np.float16(np.inf)),
        }

    def seekers(self, vectors: Vectors) -> Tensor:
        """float32 [n, axes + 2]: whose products with `columns` bound the vectors' cosines."""
        rows, directions, steps = _there(vectors, self.directions, self.steps)
        along = rows @ directions.T
        beside = (rows - along @ directions).norm(dim=1, keepdim=True)
        return torch.cat([along * steps, along.norm(dim=1, keepdim=True), beside], dim=1)


def columns(sketches: Records) -> Tensor:
    """float32 [n, axes + 2]"""
    (found,) = _there(np.concatenate([sketches["codes"], sketches["rest"]], axis=1, dtype=np.float32))
    return found


def _there(*arrays: npt.NDArray[np.float32]) -> list[Tensor]:
    """On the device for products."""
    return [torch.from_numpy(array).to(device()) for array in arrays]

"""From arrays in memory to a device and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Late = Callable[[], npt.NDArray[np.float32]]  # waits for a result
OnBusy = Callable[[float], None]  # told of seconds in which a GPU computed


class Feed(Protocol):
    """Neither method has to wait for the device; `cuda_feed.py` has the one that does not."""

    def load(self, rows: Sequence[Array] | Sequence[Tensor], count: int) -> Tensor:
        """Arrays, or tensors on the device, of one shape and type -> one tensor there, filled up with zeros to `count`
        rows."""
        ...

    def fetch(self, result: Tensor) -> Late:
        """float32 on the device -> a function that returns it, as soon as it is there."""
        ...


class HostFeed:
    """The device is the CPU: nothing to copy, nothing to wait for."""

    def load(self, rows: Sequence[Array] | Sequence[Tensor], count: int) -> Tensor:
        rows = [np.asarray(row) for row in rows]
        return torch.from_numpy(stacked(rows, np.empty((count, *rows[0].shape), rows[0].dtype)))

    def fetch(self, result: Tensor) -> Late:
        return result.numpy


def stacked(rows: Sequence[Array], into: Array) -> Array:
    """The rows at the beginning of `into`, zeros in the rest of it."""
    np.stack(rows, out=into[: len(rows)])
    into[len(rows) :] = 0
    return into

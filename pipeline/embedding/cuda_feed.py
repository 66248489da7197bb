"""To and from a GPU without waiting for it: pinned memory, a stream for each direction, results awaited late.

Written against the documentation and tested for its logic only; it has not run on a GPU yet.
`tests/pipeline/encoding/test_cuda.py` runs it where there is one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .feed import Array, Late, OnBusy, stacked

_AHEAD = 3  # passes that may be under way: one computes, one is copied, one is being put together


@dataclass
class _Slot:
    """Pinned memory, used again and again: making it takes milliseconds."""

    pinned: Tensor  # bytes
    copied: torch.cuda.Event

    def room(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Tensor:
        """Pinned, for an array of that shape, as soon as what was there before is copied."""
        self.copied.synchronize()
        size = math.prod(shape) * dtype.itemsize
        if len(self.pinned) < size:
            self.pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return self.pinned[:size].view(torch.from_numpy(np.empty(0, dtype)).dtype).view(shape)


class CudaFeed:
    """The `Feed` of one GPU, for whom one thread at a time launches passes: each is loaded, computed and fetched.

    on_busy: told the seconds in which the GPU computed a pass, as the GPU itself measured them.
    """

    def __init__(self, device: torch.device, on_busy: OnBusy = lambda _: None) -> None:
        self._device, self._on_busy = device, on_busy
        self._begun: torch.cuda.Event | None = None  # the pass that is loaded, as soon as the device gets to it
        self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._slots = deque(_Slot(torch.empty(0, dtype=torch.uint8), torch.cuda.Event()) for _ in range(_AHEAD))
        self._under_way: deque[torch.cuda.Event] = deque()

    def load(self, rows: Sequence[Array] | Sequence[Tensor], count: int) -> Tensor:
        if isinstance(rows[0], Tensor):
            return self._stacked_there(rows, count)
        return self._copied(rows, count)

    def _copied(self, rows: Sequence[Any], count: int) -> Tensor:
        while len(self._under_way) >= _AHEAD:  # what is on the device and not computed yet takes memory there
            self._under_way.popleft().synchronize()
        slot = self._slots[0]
        self._slots.rotate(-1)
        here = slot.room((count, *rows[0].shape), rows[0].dtype)
        stacked(rows, here.numpy())
        with torch.cuda.stream(self._up):
            there = here.to(self._device, non_blocking=True)
            slot.copied.record(self._up)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(slot.copied)
        there.record_stream(computing)  # or its memory could be given away while it is still being read
        self._begin(computing)
        return there

    def _stacked_there(self, rows: Sequence[Any], count: int) -> Tensor:
        """Of rows that lie on the device already, made on another stream, which has come that far."""
        computing = torch.cuda.current_stream(self._device)
        self._begin(computing)
        batch = torch.empty((count, *rows[0].shape), dtype=rows[0].dtype, device=self._device)
        torch.stack(tuple(rows), out=batch[: len(rows)])
        batch[len(rows) :].zero_()
        for row in rows:
            row.record_stream(computing)  # or its memory could be given away while it is still being read
        return batch

    def _begin(self, computing: torch.cuda.Stream) -> None:
        self._begun = torch.cuda.Event(enable_timing=True)
        self._begun.record(computing)

    def fetch(self, result: Tensor) -> Late:
        begun, self._begun = self._begun, None
        computed = torch.cuda.Event(enable_timing=True)
        computed.record(torch.cuda.current_stream(self._device))
        here = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        with torch.cuda.stream(self._down):
            self._down.wait_event(computed)
            here.copy_(result, non_blocking=True)
            result.record_stream(self._down)
            arrived = self._down.record_event()
        self._under_way.append(arrived)

        def late() -> Array:
            arrived.synchronize()
            if begun is not None:
                self._on_busy(begun.elapsed_time(computed) / 1000)
            return here.numpy().copy()  # pinned memory is scarce, and goes back to torch with `here`

        return late

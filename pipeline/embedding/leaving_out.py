"""Samples that must be forgotten are not written when they come again: a failed row stays that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..dataset.forgotten import Asked, asked_for, blanked
from ..dataset.output import Output
from ..dataset.part import Embeddings


@dataclass(frozen=True)
class LeavingOut:
    """digests: see `forgotten.Asked`. Rows that are asked for later are left out when parts are read."""

    digests: Mapping[str, frozenset[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, output: Output) -> LeavingOut:
        """What is asked for now."""
        asked = Asked.read(output)
        return cls(asked.digests() if asked else {})

    def __call__(self, samples: pa.RecordBatch, shard: str, *sides: Embeddings) -> pa.RecordBatch:
        """The samples, blanked where they are asked for; so are their embeddings. shard: its URL."""
        gone = asked_for(samples, self.digests, shard) if self.digests else np.empty(0, np.bool_)
        if not gone.any():
            return samples
        for side in sides:
            side.vectors[gone] = 0.0
            side.missing[gone] = True
        return blanked(samples, np.flatnonzero(gone))

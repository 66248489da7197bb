"""What is asked for, remembered as digests, and found in the parts; and a log of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.forgotten import ASKED, ASKED_SCHEMA, Asked, LookThrough, digest_of, read_found, write_found
from ..dataset.layout import OWN, part_path
from ..dataset.output import Output
from ..errors import InfrastructureError
from ..running.scatter import scatter
from ..running.stages import OnStage, counted

LOG = f"{OWN}/forgotten-log.jsonl"
_TRIES = 5  # to add to what is asked for, while others do

Digests = Mapping[str, frozenset[bytes]]  # by column


@dataclass(frozen=True)
class _ShardsOfKeys:
    """A key may be that of other samples in other shards: it is remembered with the shard that has it now."""

    output: Output
    keys: frozenset[str]

    def __call__(self, part: str) -> frozenset[bytes]:
        with self.output.open(part_path(part)) as file:
            table = pq.ParquetFile(file, pre_buffer=True).read(["key", "shard"], use_threads=False)
        there = table.filter(pc.is_in(table["key"], value_set=pa.array(self.keys, pa.string())))
        return frozenset(digest_of("key", row["key"], row["shard"]) for row in there.to_pylist())


def digests_of(dataset: Dataset, lists: Mapping[str, frozenset[str]], address: str, on_stage: OnStage) -> Digests:
    """lists: values by column."""
    digests: dict[str, frozenset[bytes]] = {}
    for kind, values in lists.items():
        if kind == "key":
            spread = scatter(_ShardsOfKeys(dataset.output, values), dataset.parts, address)
            told = counted(spread, "looking for keys", "parts", len(dataset.parts), on_stage)
            digests["key"] = frozenset().union(*(of_part for _, of_part in told))
        else:
            digests[kind] = frozenset(digest_of(kind, value) for value in values)  # type: ignore[arg-type]
    return digests


def new_rows(dataset: Dataset, digests: Digests, address: str, on_stage: OnStage) -> dict[str, int]:
    """How many rows of each part would be forgotten that are not yet. Parts without such rows are left out."""
    spread = scatter(LookThrough(dataset.output, digests), dataset.parts, address)
    told = counted(spread, "looking through", "parts", len(dataset.parts), on_stage)
    none = np.empty(0, np.int32)
    before = {part: of_part.rows for part, of_part in dataset.forgotten.parts.items()}
    new = {part: len(np.setdiff1d(found.rows, before.get(part, none))) for part, found in told if found is not None}
    return {part: rows for part, rows in new.items() if rows}


def remember(output: Output, digests: Digests) -> int:
    """Adds to what is asked for; returns how much of it is new."""
    wanted = {(kind, digest) for kind, of_kind in digests.items() for digest in of_kind}
    fresh = 0
    for attempt in range(_TRIES):
        asked = Asked.read(output)
        before = asked.table.to_pylist() if asked else []
        lacking = wanted - {(row["by"], row["digest"]) for row in before}
        if not lacking:
            return fresh
        fresh = len(lacking) if not attempt else fresh
        now = int(time.time())
        added = [{"by": kind, "digest": digest, "at": now} for kind, digest in sorted(lacking)]
        content = Asked.packed(pa.Table.from_pylist([*before, *added], ASKED_SCHEMA))
        if asked is None:
            output.write_new(ASKED, content)
        else:
            output.write(ASKED, content)
    raise InfrastructureError(f"{output.url}/{ASKED}: others write it again and again; run the same command again")


def find(dataset: Dataset, address: str, on_stage: OnStage) -> None:
    """Looks through the parts for all that is asked for, and keeps what it finds in one file."""
    asked = Asked.read(dataset.output)
    if asked is None:
        return
    own = dict(zip(dataset.parts, dataset.own_stamps, strict=True))
    known = {key: rows for key, rows in read_found(dataset.output, asked.identity).items() if own.get(key[0]) == key[1]}
    new = [part for part, stamp in own.items() if (part, stamp) not in known]
    spread = scatter(LookThrough(dataset.output, asked.digests()), new, address)
    for part, rows in counted(spread, "looking through", "parts", len(new), on_stage):
        known[part, own[part]] = rows
    write_found(dataset.output, asked.identity, known, alone=True)


def note(output: Output, **facts: Any) -> None:
    """Adds a line to the log: numbers, and no values."""
    line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts})
    output.write(LOG, (output.read(LOG) or b"") + line.encode() + b"\n")

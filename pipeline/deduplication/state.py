"""What `dedup` keeps in its output for the next run: OUT/.clipmill/cells/, a cache. Deleting it loses nothing.

Parts are taken in generations: the first run's are the first generation, what a dataset has grown by is the next. Each
is divided into runs of parts; a run's objects, and the pairs of near rows that a generation brought, are made once.
A part has its number from the order in which parts were first seen, so that numbers stay when a dataset grows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.layout import OWN
from ..dataset.output import Output
from . import sorted_files
from .components import Ids

KEPT = f"{OWN}/cells"
SCRATCH = f"{OWN}/dedup-"  # prefix of files that are deleted when the subset is finished
PART = 32  # bits of a row's id below its part's number; a row's own number is an int32

_GENERATION = "generation-"
_OUTGROWN = 4  # times the bytes for which the cells were made
_AT_ONCE = 16  # files deleted

Numbered = tuple[int, str]  # a part's number and name


@dataclass(frozen=True)
class Run:
    """Parts that one task goes through. number: among all runs; generation: whose."""

    number: int
    generation: int
    parts: tuple[Numbered, ...]


@dataclass(frozen=True)
class Numbering:
    """The numbers of parts, and their places in the dataset, which change when parts come in between.

    places: int64 [parts], of each number; run_of_part: int64 [parts], of each number the run's.
    """

    places: Ids
    run_of_part: Ids

    @property
    def runs(self) -> int:
        return int(self.run_of_part[-1]) + 1

    def placed(self, ids: Ids) -> Ids:
        """Ids by the places of their parts, so that they ascend in the dataset's order. Of any shape."""
        return _with_parts(ids, self.places)

    def numbered(self, placed: Ids) -> Ids:
        """Back again."""
        return _with_parts(placed, np.argsort(self.places))

    def runs_of(self, ids: Ids) -> Ids:
        return self.run_of_part[ids >> PART]


def _with_parts(ids: Ids, parts: Ids) -> Ids:
    return (parts[ids >> PART] << PART) | (ids & ((1 << PART) - 1))


@dataclass(frozen=True)
class State:
    """The generations of a dataset's parts."""

    output: Output
    runs: tuple[Run, ...]
    sizes: tuple[int, ...]  # of each generation's parts, in bytes

    @classmethod
    def begin(cls, output: Output, dataset: Dataset, settings: Mapping[str, Any], grows: bool) -> State:
        """What there is of earlier runs, and the parts that are new to it, written down.

        All is begun anew with other settings, where a part has gone or was made anew, and, where `grows`, when the
        dataset has outgrown its cells.
        """
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        generations = _read(output)
        if not _still_holds(generations, key, dataset, grows):
            drop(output)
            generations = []
        seen = {part for generation in generations for part, *_ in generation["parts"]}
        facts = zip(dataset.parts, dataset.sizes, dataset.stamps, strict=True)
        if parts := [fact for fact in facts if fact[0] not in seen]:
            lengths = _lengths([size for _, size, _ in parts], sum(dataset.sizes))
            new = {"key": key, "parts": parts, "runs": lengths}
            name = f"{KEPT}/{_GENERATION}{len(generations):05d}.json"
            if not output.write_new(name, json.dumps(new).encode()):  # another run was faster
                new = json.loads(output.read(name) or b"")
            generations.append(new)
        return cls._of(output, generations)

    @classmethod
    def _of(cls, output: Output, generations: Sequence[Mapping[str, Any]]) -> State:
        runs: list[Run] = []
        number = 0
        for generation, content in enumerate(generations):
            numbered = [(number + place, part) for place, (part, *_) in enumerate(content["parts"])]
            number += len(numbered)
            for length in content["runs"]:
                runs.append(Run(len(runs), generation, tuple(numbered[:length])))
                del numbered[:length]
        return cls(output, tuple(runs), tuple(sum(size for _, size, _ in each["parts"]) for each in generations))

    def of(self, generation: int) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.generation == generation)

    def numbering(self, dataset: Dataset) -> Numbering:
        places = {part: place for place, part in enumerate(dataset.parts)}
        numbered = np.array([places[part] for run in self.runs for _, part in run.parts], np.int64)
        run_of_part = np.repeat([run.number for run in self.runs], [len(run.parts) for run in self.runs])
        return Numbering(numbered, run_of_part)

    def scratch(self, version: str) -> str:
        """Prefix of a run's own files, by the dataset's version and the numbers of its parts: both change when it has
        grown; the numbers may change, too, when what is kept was deleted."""
        digest = hashlib.sha256(version.encode())
        for run in self.runs:
            digest.update(f"\n{run.generation} {' '.join(part for _, part in run.parts)}".encode())
        return f"{SCRATCH}{digest.hexdigest()[:12]}-"

    def files(self) -> dict[str, int]:
        """What is kept, by name in the output, and how many bytes each has."""
        return {f"{KEPT}/{name}": size for name, size in self.output.sizes(KEPT).items()}


def drop(output: Output) -> None:
    """The generations go last, the latest first: a run that is killed in between finds what is left of them."""
    names = output.names(KEPT)
    generations = sorted(name for name in names if name.startswith(_GENERATION))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: output.delete(f"{KEPT}/{name}"), names.difference(generations)))
    for name in reversed(generations):
        output.delete(f"{KEPT}/{name}")


def _read(output: Output) -> list[dict[str, Any]]:
    names = sorted(name for name in output.names(KEPT) if name.startswith(_GENERATION))
    return [json.loads(output.read(f"{KEPT}/{name}") or b"{}") for name in names]


def _still_holds(generations: Sequence[Mapping[str, Any]], key: str, dataset: Dataset, grows: bool) -> bool:
    now = dict(zip(dataset.parts, dataset.stamps, strict=True))
    seen = [(part, stamp) for generation in generations for part, _, stamp in generation.get("parts", [])]
    same = all(now.get(part) == stamp for part, stamp in seen)
    is_outgrown = (
        bool(generations)
        and grows
        and sum(dataset.sizes) > _OUTGROWN * sum(size for _, size, _ in generations[0].get("parts", []))
    )
    return bool(generations) and same and not is_outgrown and all(each.get("key") == key for each in generations)


def _lengths(sizes: Sequence[int], total: int) -> list[int]:
    """How many parts each run has: as many as make a fair size, where all parts have `total` bytes."""
    most, lengths, size = sorted_files.fair(total), [0], 0
    for more in sizes:
        if size + more > most and lengths[-1]:
            lengths.append(0)
            size = 0
        lengths[-1] += 1
        size += more
    return lengths

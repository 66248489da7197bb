"""What the benchmarks of whole runs say besides the steady rate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import benchkit
from benchkit import Row, expect
from processes import Pace
from web_pairs import PairsSpec


def both_ways(what: str, paces: Mapping[str, Sequence[Pace]]) -> list[Row]:
    """With start-up; and a core-second, which hardly depends on who else uses the machine."""
    started = {name: [each.with_start_up for each in found] for name, found in paces.items()}
    spent = {name: [each.pairs_a_core_second for each in found] for name, found in paces.items()}
    return [
        benchkit.compared(f"{what}, start-up included", "pairs/s", started),
        benchkit.compared(f"{what}, steady, by processor time", "pairs/core-second", spent),
    ]


def expect_all(ours: Pace, spec: PairsSpec) -> None:
    """That every pair was embedded."""
    embedded = json.loads(ours.many.out)["run"]["embedded"]
    expect(embedded == spec.pairs, f"{embedded} of {spec.pairs} pairs embedded")

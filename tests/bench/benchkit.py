"""What the benchmarks share: contenders taken in turn, medians and ratios, the table, the JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import machine
from rich.console import Console
from rich.table import Table

Contender = Callable[[], float]  # does its work once; returns its rate, in units a second
Rounds = Mapping[str, Sequence[float]]  # contender -> its rate in each round


@dataclass(frozen=True)
class Spread:
    """A median and the extremes around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))


@dataclass(frozen=True)
class Row:
    """One line of the table: what we do, what would be possible, and what others do."""

    what: str
    unit: str
    ours: Spread
    limit: Spread | None = None  # the same unit
    limit_is: str = ""
    share: Spread | None = None  # of the limit, each round against its own
    against: Mapping[str, Spread] = field(default_factory=dict)  # peer -> our rate over its, round by round
    note: str = ""


def in_turn(contenders: Mapping[str, Contender], rounds: int) -> Rounds:
    """Rates by contender, one a round: A B C, C B A, A B C, … so that what else the machine does meets all alike."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            rates[name].append(contenders[name]())
    return rates


def ratio(mine: Sequence[float], other: Sequence[float]) -> Spread:
    """Of rates of the same round, which a busy machine moves least."""
    return Spread.of(a / b for a, b in zip(mine, other, strict=True))


def compared(
    what: str, unit: str, rates: Rounds, *, limit: Sequence[float] = (), limit_is: str = "", note: str = ""
) -> Row:
    """The row of `ours` among the contenders; every other one is a peer."""
    mine = rates["ours"]
    return Row(
        what,
        unit,
        Spread.of(mine),
        Spread.of(limit) if limit else None,
        limit_is,
        ratio(mine, limit) if limit else None,
        {name: ratio(mine, found) for name, found in rates.items() if name != "ours"},
        note,
    )


def show(rows: Sequence[Row], title: str) -> None:
    table = Table(title=title, title_justify="left", show_lines=True)
    for heading in ("what", "ours", "unit", "limit", "share", "against (times as fast)", "note"):
        table.add_column(heading, justify="right" if heading in ("ours", "share") else "left")
    for row in rows:
        limit = f"{_number(row.limit.median)} {row.limit_is}" if row.limit else row.limit_is
        share = f"{row.share.median:.2f} ({row.share.low:.2f}-{row.share.high:.2f})" if row.share else ""
        peers = "\n".join(f"{name} {_times(spread)}" for name, spread in row.against.items())
        table.add_row(row.what, _number(row.ours.median), row.unit, limit, share, peers, row.note)
    Console(width=None if sys.stdout.isatty() else 180).print(table)


def _times(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    return json.dumps({"about": dict(about), "rows": [asdict(row) for row in rows]}, indent=1) + "\n"


def is_quick() -> bool:
    """Whether sizes are to be tiny, so that everything runs once; the figures mean nothing then."""
    return os.environ.get("CLIPMILL_BENCH_QUICK", "") not in ("", "0")


def main(measure: Callable[[bool], list[Row]]) -> None:
    """The command line of a benchmark file: measure, print, write."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", default=is_quick(), help="tiny sizes, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    pause = 0.1 if options.quick else 1.0  # seconds
    before = machine.others_cores(pause)
    print(machine.described(), flush=True)
    rows = measure(options.quick)
    about = machine.about() | {"quick": options.quick, "others_cores": [before, machine.others_cores(pause)]}
    show(rows, "QUICK: sizes too small to mean anything" if options.quick else "")
    print(f"others kept {about['others_cores'][0]:.1f} cores busy before, {about['others_cores'][1]:.1f} after")
    if options.json:
        options.json.write_text(as_json(rows, about), encoding="utf-8")


def expect(condition: bool, message: str) -> None:
    """Ends the benchmark where what it measured is wrong; never for being slow."""
    if not condition:
        sys.exit(f"{Path(sys.argv[0]).name}: {message}")

"""bench.json into docs/performance.md, between its marks; the rest of the page is written by hand.

python tests/bench/report.py [BENCH.JSON [PAGE.MD]]

bench-gpu.json takes the place of the table of a GPU's figures instead.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sizing
from sizing import GPUS, IMAGES, Costs

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
CORE = "one core, beside the encoder: read to write"


def main(source: Path, page: Path) -> None:
    found = json.loads(source.read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    if "rows" in found:  # of one benchmark
        blocks = {"gpu figures": _figures({"gpu": found})}
    else:
        costs = _costs(found)
        blocks = {"figures": _figures(found), "gpus": _gpus(costs), "data sets": _data_sets(costs)}
    for name, block in blocks.items():
        begin, end = f"<!-- {name}: written by tests/bench/report.py -->", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, count = re.subn(pattern, lambda _, new=f"{begin}\n{block}\n{end}": new, text, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"{page}: no place for {name} (a line '{begin}', and '{end}' after it)")
    page.write_text(text, encoding="utf-8")


def _figures(found: dict[str, Any]) -> str:
    about = next(iter(found.values()))["about"]
    others = [cores for bench in found.values() for cores in bench["about"]["others_cores"]]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{about['gpu'] or 'CPU'}, {about['cores']} cores of {about['processor']}, {about['memory_gib']} GiB; "
        f"Python {about['python']}, {versions}. Other programs kept {min(others):.1f} to {max(others):.1f} cores busy.",
        "",
    ]
    if about["quick"]:
        lines += ["**From the quick mode: these figures mean nothing.**", ""]
    rows = [row for bench in found.values() for row in bench["rows"]]
    heading = ("", "ours", "limit", "share of it", "times as fast as", "")
    return "\n".join([*lines, *_table(heading, (_cells(row) for row in rows))])


def _cells(row: dict[str, Any]) -> Sequence[str]:
    limit = f"{_number(row['limit']['median'])} ({row['limit_is']})" if row["limit"] else ""
    against = "<br>".join(f"{peer} {_times(spread)}" for peer, spread in row["against"].items())
    share = _times(row["share"]) if row["share"] else ""
    return row["what"], f"{_number(row['ours']['median'])} {row['unit']}", limit, share, against, row["note"]


def _costs(found: dict[str, Any]) -> Costs:
    row = next(row for row in found["stages"]["rows"] if row["what"] == CORE)
    reading = found["reading"]["rows"][0]["ours"]["median"] if "reading" in found else None
    return Costs(1 / row["ours"]["median"], float(row["note"].split()[0]) * 1000, reading and 1 / reading)


def _gpus(costs: Costs) -> str:
    rows = []
    for model in IMAGES:
        for gpu in GPUS:
            one = sizing.needs(model, gpu, costs)
            cores = (one.cores_beside_engines, one.cores)
            figures = (one.pairs_a_second, *cores, one.gbit_a_second, one.shards_an_hour)
            rows.append((model, gpu, *map(_number, figures)))
    heading = ("model", "GPU", "pairs/s", "cores, engines decode", "cores, CPUs decode", "Gbit/s read", "shards/h")
    return "\n".join(_table(heading, rows))


def _data_sets(costs: Costs) -> str:
    rows = []
    for pairs, name in ((1e8, "100 M"), (1e9, "1 B"), (1e10, "10 B")):
        for model in IMAGES:
            hours = [sizing.whole(pairs, model, gpu, costs).gpu_hours for gpu in GPUS]
            one = sizing.whole(pairs, model, "A100", costs)
            cores = (one.core_hours_beside_engines, one.core_hours)
            figures = (*hours, *cores, one.shards, one.read_tb, one.written_tb)
            rows.append((name, model, *map(_number, figures)))
    gpus = [f"{gpu} hours" for gpu in GPUS]
    cores = ("core hours, engines decode", "core hours, CPUs decode")
    return "\n".join(_table(("pairs", "model", *gpus, *cores, "shards", "TB read", "TB written"), rows))


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _times(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['low']:.2f}–{spread['high']:.2f})"


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    main(*(arguments + [Path("bench.json"), PAGE][len(arguments) :]))

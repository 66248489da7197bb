"""Every benchmark, each in a process of its own; one table, and bench.json.

python tests/bench/run.py [NAME…]        all but gpu, or those named: tokenizer towers …
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import benchkit
from benchkit import Row, Spread

HERE = Path(__file__).parent
ORDER = (
    "tokenizer", "decode", "reading", "stages", "towers", "adapters", "pairs", "flow_tiny", "flow_b32", "scaling",
    "memory", "driver", "filter", "narrow", "growing", "dedup", "against", "requests", "search", "index", "page",
    "startup",
)  # fmt: skip
OUT = Path("bench.json")


def main(chosen: list[str]) -> int:
    """1 if one of them failed; the others are told all the same."""
    began = time.monotonic()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen or ORDER:
            file = Path(folder) / f"{name}.json"
            print(f"== {name} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
            ran = subprocess.run(
                [sys.executable, str(HERE / f"bench_{name}.py"), "--json", str(file)],
                stdout=subprocess.DEVNULL,
                check=False,
            )
            if ran.returncode == 0:
                found[name] = json.loads(file.read_text(encoding="utf-8"))
    missing = [name for name in chosen or ORDER if name not in found]
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    rows = [_row(row) for bench in found.values() for row in bench["rows"]]
    quick = "QUICK: sizes too small to mean anything. " if benchkit.is_quick() else ""
    others = max((cores for bench in found.values() for cores in bench["about"]["others_cores"]), default=0.0)
    benchkit.show(rows, f"{quick}{time.monotonic() - began:.0f} s; others kept up to {others:.1f} cores busy")
    if missing:
        print(f"failed: {', '.join(missing)}", file=sys.stderr)
    return int(bool(missing))


def _row(found: dict[str, Any]) -> Row:
    """The inverse of `benchkit.as_json`."""
    spreads = {name: Spread(**found[name]) if found[name] else None for name in ("ours", "limit", "share")}
    against = {peer: Spread(**spread) for peer, spread in found["against"].items()}
    return Row(**found | spreads | {"against": against})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

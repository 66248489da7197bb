"""What is wrong is told before a command imports what it works with, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
from clipmill.jobs.cli import main
ran = {}
for words in json.loads(sys.argv[1]):
    sys.argv = ["clipmill", *words]
    try:
        main()
    except SystemExit as end:
        loaded = [name for name in ("duckdb", "faiss", "ray", "torch") if name in sys.modules]
        ran[" ".join(words)] = [end.code, loaded]
print("\\n" + json.dumps(ran))
"""
REFUSED = (
    "status nowhere",
    "search nowhere hello",
    "search nowhere hello -k 0",
    "label nowhere -o out --classes classes.txt",
    "filter nowhere -o out",
    "dedup nowhere -o out",
    "export nowhere -o out --to datacomp",
    "report nowhere -o out.html",
    "index nowhere -o out",
    "serve nowhere",
    "embed nowhere.tar -o out -m tiny --batch-size 0",
)
MISSING = "embed nowhere.tar -o out -m tiny"  # which imports Ray


def test_refusals_come_before_the_heavy_imports(tmp_path: Path) -> None:
    commands = [["--help"], *(line.split() for line in (*REFUSED, MISSING))]
    script = [sys.executable, "-c", SCRIPT, json.dumps(commands)]
    ran = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told == {"--help": [0, []], **{line: [2, []] for line in REFUSED}, MISSING: [2, ["ray"]]}
    assert list(tmp_path.iterdir()) == []

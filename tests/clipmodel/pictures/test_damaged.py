"""Files of every type, damaged at random: none crashes, hangs, prints, or takes more than one picture may have."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clipmill.clipmodel.errors import ImageError
from clipmill.clipmodel.pictures.limits import MAX_BYTES
from clipmill.clipmodel.preprocess import Preprocess
from picture_kit import files, plugged

EACH = 40  # damaged files of a type
SCRIPT = """
import json, sys, time
from hostile_pictures import peak
from test_damaged import damaged, reasons
for name in json.loads(sys.argv[1]):
    before, began = peak(), time.monotonic()
    print(json.dumps([name, reasons(name), time.monotonic() - began, peak() - before]))
"""


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes are changed, most of them where headers are; runs are filled, left out or repeated; the end is lost."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 6))):
        at = chance.randrange(min(len(changed) or 1, chance.choice((40, 200, 10_000_000))))
        run = chance.choice((1, 2, 4, 30))
        way = chance.randrange(5)
        if way == 0:
            changed[at : at + 1] = chance.randbytes(1)
        elif way == 1:
            changed[at : at + run] = chance.choice((b"\xff", b"\0", b"\x7f")) * run
        elif way == 2:
            del changed[at : at + run]
        elif way == 3:
            changed[at:at] = changed[at : at + run] * chance.choice((1, 1, 100))
        elif chance.random() < 0.3:
            del changed[at + 1 :]
    return bytes(changed)


def reasons(name: str) -> list[str]:
    """What becomes of the damaged files of a type, the same each time."""
    data = (files() | {other: data for other, (data, _) in plugged().items()})[name]
    return [outcome(damaged(data, random.Random(f"{name} {seed}"))) for seed in range(EACH)]


def outcome(data: bytes) -> str:
    try:
        assert Preprocess(8)(data).shape == (8, 8, 3)
    except ImageError as error:
        return str(error)
    return "decoded"


def run(names: list[str]) -> list[list[Any]]:
    """[name, outcomes, seconds, bytes] of each type, decoded in a process of its own."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "kit")]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {folders!r}\n{SCRIPT}", json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured through /proc")
def test_damaged_files_have_a_reason_and_take_no_more_than_others() -> None:
    names = [*files(), *plugged()]
    results = run(names)
    assert [name for name, *_ in results] == names
    for name, outcomes, seconds, held in results:
        assert seconds < 30 and held < MAX_BYTES, name
        for text in outcomes:
            assert text and "\n" not in text and len(text) < 100 and "0x" not in text, (name, text)
    again = {name: outcomes for name, outcomes, *_ in run(names[::3])}
    assert again == {name: outcomes for name, outcomes, *_ in results if name in again}

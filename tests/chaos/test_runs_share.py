"""Several runs into one output at once embed each shard once, whoever is killed meanwhile, on a disk and on S3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos_kit import TESTS, until
from clipmill.pipeline.dataset.claims import CLAIMS
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.runs import RUNS
from clipmill.pipeline.dataset.summary import status
from fakes import write_pairs
from s3 import Bucket

SHARDS = 48


@dataclass(frozen=True)
class Many:
    """An output that several runs are to write, and what they tell of."""

    inputs: Path
    output: Output
    weights: Path
    log: Path

    @contextmanager
    def runs(self, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Processes that have begun at the same moment."""
        command = [sys.executable, str(TESTS / "kit" / "one_of_many.py"), str(self.inputs), self.output.url]
        command += [f"tiny={self.weights}", str(self.log), json.dumps(dict(self.output.storage_options))]
        with ExitStack() as stack:
            processes = []
            for number in range(count):
                said = stack.enter_context(self.log.with_suffix(f".{number}").open("wb"))
                processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said))
                stack.callback(processes[-1].wait, 60)
                stack.callback(processes[-1].kill)
            for process in processes:
                assert process.stdout and process.stdout.readline() == b"ready\n"
            for process in processes:
                assert process.stdin
                process.stdin.write(b"\n")
                process.stdin.flush()
            yield processes

    def begun(self) -> list[tuple[int, str]]:
        """Process and shard, in the order in which they were begun."""
        lines = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [(int(process), name) for process, name in lines]

    def check_whole(self) -> None:
        """Every sample is one row, every shard one part; nothing of the runs is left but the account."""
        now = status(self.output)
        assert now is not None and now.complete and now.dataset.shards == SHARDS
        dataset = Dataset.open(self.output.url, self.output.storage_options)
        tables = [dataset.read(part, ["shard", "row"]) for part in dataset.parts]
        rows = Counter((row["shard"], row["row"]) for table in tables for row in table.to_pylist())
        assert set(rows.values()) == {1} and len(rows) == 3 * SHARDS
        assert self.output.read(SUCCESS) is not None
        assert self.output.names(CLAIMS) == self.output.names(RUNS) == set()


@pytest.fixture(params=["disk", "s3"])
def many(request: pytest.FixtureRequest, sharp_weights: Path, tmp_path: Path) -> Many:
    for number in range(SHARDS):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_pairs(tmp_path / "in" / f"{number:05d}.tar", 3)
    output = Output.at(str(tmp_path / "out"))
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        output = Output.at(bucket.url("out"), bucket.server.options())
    return Many(tmp_path / "in", output, sharp_weights, tmp_path / "begun")


def said(many: Many) -> str:
    return "\n".join(path.read_text(errors="replace")[-2000:] for path in many.log.parent.glob("begun.*"))


def test_two_share_all_shards(many: Many) -> None:
    with many.runs(2) as processes:
        assert [process.wait(300) for process in processes] == [0, 0], said(many)
    begun = many.begun()
    assert Counter(name for _, name in begun) == {f"{number:05d}.tar": 1 for number in range(SHARDS)}
    many.check_whole()


def test_of_five_one_is_killed_in_the_middle(many: Many) -> None:
    with many.runs(5) as processes:
        assert until(lambda: len(many.begun()) >= SHARDS // 4, 300), said(many)
        ((busiest, _),) = Counter(process for process, _ in many.begun()).most_common(1)
        (killed,) = [process for process in processes if process.pid == busiest]
        killed.kill()
        killed.wait(30)
        at_its_death = [name for process, name in many.begun() if process == killed.pid]
        others = [process for process in processes if process is not killed]
        assert [process.wait(300) for process in others] == [0] * 4, said(many)
    times = Counter(name for _, name in many.begun())
    again = {name for name, count in times.items() if count > 1}
    assert len(times) == SHARDS and sum(times.values()) == SHARDS + len(again)
    assert again <= {at_its_death[-1]}  # what it had in hand
    many.check_whole()

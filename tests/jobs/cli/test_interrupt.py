"""`clipmill embed` in real processes, stopped midway: what is committed stays, and running again completes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard
from console import EXECUTABLE, started
from living import living, name_of

SHARDS, PAIRS = 8, 480
pytestmark = [pytest.mark.long, pytest.mark.skipif(os.name != "posix", reason="signals and process groups")]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(DrawnSpec(PAIRS, SHARDS, PairSpec(seed=21, sides=(40, 60)), damaged=5), folder)
    return folder


def command(shards: Path, out: Path) -> list[str]:
    return ["embed", str(shards), "-o", str(out), "-m", "tiny=random:1", "--workers", "1", "--batch-size", "4"]


@dataclass
class Running:
    """`clipmill embed` in a process group of its own, as a shell gives it, and on a Ray cluster of its own."""

    process: subprocess.Popen[str]
    others: list[psutil.Process] = field(default_factory=list)  # those that it started, and those that these did

    def look(self) -> None:
        self.others = psutil.Process(self.process.pid).children(recursive=True)

    def alive(self) -> list[str]:
        """Names of the others that still run, but for Ray's two agents: when Ray is killed, they try to report this
        for a minute."""
        return [name for each in living(self.others) if (name := name_of(each)) and not name.endswith("Agent")]


@contextmanager
def running(shards: Path, out: Path) -> Iterator[Running]:
    arguments = [EXECUTABLE, *command(shards, out), "--address", "local"]
    pipe = subprocess.PIPE
    run = Running(subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, start_new_session=True))
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()
        for each in run.others:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def committed(out: Path) -> list[Path]:
    return list(out.glob("data/*.parquet"))


def identities(shards: Path) -> Counter[tuple[str, str]]:
    """(shard, key) of every sample that went in."""
    return Counter((str(tar), s.key) for tar in sorted(shards.glob("*.tar")) for s in read_samples(Shard(str(tar))))


def check_whole(out: Path, shards: Path) -> None:
    """Every sample is one row, every shard one part, and nothing is left lying about."""
    rows: pa.Table = pq.read_table(out, columns=["shard", "key", "error"])
    assert Counter(zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True)) == identities(shards)
    assert rows["error"].null_count == PAIRS - 5
    assert len(committed(out)) == SHARDS
    assert list((out / ".clipmill" / "staging").iterdir()) == []
    assert (out / ".clipmill/_SUCCESS").exists()


def check_third_run_does_nothing(shards: Path, out: Path) -> None:
    """At an address where no Ray is: it is not asked for."""
    before = {path: path.stat().st_mtime_ns for path in committed(out)}
    ran = started(*command(shards, out), "--address", "127.0.0.1:1")
    assert ran.code == 0
    assert ran.out.startswith(f"nothing to do: all {SHARDS} shards are embedded already")
    assert {path: path.stat().st_mtime_ns for path in committed(out)} == before


def check_stopped(out: Path) -> None:
    """Some shards are done, some are not, none is half done."""
    assert 1 <= len(committed(out)) < SHARDS
    assert {pq.read_metadata(part).num_rows for part in committed(out)} == {PAIRS // SHARDS}
    assert not (out / ".clipmill/_SUCCESS").exists()


def finish(shards: Path, out: Path) -> None:
    """Run again to the end. What was committed is not made again."""
    before = {path: path.stat().st_mtime_ns for path in committed(out)}
    ran = started(*command(shards, out))
    assert ran.code == 0, ran.err
    assert f"{SHARDS} shards, {len(before)} done before" in ran.err
    assert f"in {SHARDS - len(before)} shards" in ran.out
    assert before.items() <= {path: path.stat().st_mtime_ns for path in committed(out)}.items()


def test_ctrl_c_says_how_to_go_on_and_running_again_completes(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(shards, out) as run:
        assert until(lambda: len(committed(out)) >= 1, 300)
        run.look()
        assert "raylet" in run.alive()
        os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to everyone
        said, complained = run.process.communicate(timeout=60)
        assert run.process.returncode == 130
        assert said == ""
        assert "Traceback" not in complained
        last = complained.strip().splitlines()[-1]
        assert last.startswith("clipmill: stopped") and "run the same command" in last and last.endswith("to go on")
        assert until(lambda: not run.alive(), 20), run.alive()
    check_stopped(out)
    finish(shards, out)
    check_whole(out, shards)
    check_third_run_does_nothing(shards, out)


def test_a_killed_driver_takes_its_workers_along_and_running_again_completes(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(shards, out) as run:
        assert until(lambda: len(committed(out)) >= 2, 300)
        run.look()
        run.process.send_signal(signal.SIGKILL)
        run.process.wait(timeout=10)
        assert until(lambda: not run.alive(), 20), run.alive()
        check_stopped(out)
        finish(shards, out)
    check_whole(out, shards)
    check_third_run_does_nothing(shards, out)


def test_a_stopped_command_puts_away_before_it_ends() -> None:
    """The script ends the process itself, after all that was registered to be done at the end."""
    stopped = (
        "import atexit, sys; from clipmill.jobs import cli;"
        "cli.main = lambda: (atexit.register(print, 'put away'), sys.exit(130)); cli.script()"
    )
    ran = subprocess.run([sys.executable, "-c", stopped], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (130, "put away\n")

"""`clipmill embed` is killed at random moments, resumed, killed again: in the end every sample is there once."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import psutil
import pytest
from chaos_kit import LEDGER, Driver, check_exact, committed, driver, fingerprints, rows, until
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from clipmill.pipeline.records import Shard
from living import living, name_of

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.name != "posix", reason="signals and sessions")]

KILLS = int(os.environ.get("CLIPMILL_CHAOS", "3"))
SEED = int(os.environ.get("CLIPMILL_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PAIRS = 12  # a shard
SHARDS = 6 + 4 * KILLS  # two workers with two shards each may finish these before they notice that they are alone
PATIENCE = 120  # seconds, for anything that another machine's load may delay; nothing here waits as long otherwise


def wait_for_the_moment(run: Driver, out: Path, chance: random.Random, last: bool) -> str:
    """Until a moment of chance, or the run's end; which moment it was."""
    before, kind = len(committed(out)), "end" if last else chance.choice(["clock", "staging", "part", "parts"])
    staging = out / ".clipmill" / "staging"

    def unfinished() -> set[str]:
        return {path.name for path in staging.iterdir() if ".parquet" in path.name} if staging.is_dir() else set()

    old = unfinished()  # of those that were killed before
    if kind == "clock":  # mostly Ray and torch starting
        pause = chance.uniform(0.1, 9.0)
    elif kind == "staging":
        until(lambda: run.ended or unfinished() - old, PATIENCE)
        pause = chance.uniform(0, 0.02)
    elif kind == "end":
        until(lambda: run.ended or len(committed(out)) == SHARDS, PATIENCE)
        pause = chance.uniform(0, 0.4)
    else:
        more = 1 if kind == "part" else chance.randrange(2, 5)
        until(lambda: run.ended or len(committed(out)) >= before + more, PATIENCE)
        pause = chance.uniform(0, 0.1)
    end = time.monotonic() + pause
    until(lambda: run.ended or time.monotonic() > end, pause + 1)
    return f"{kind} + {pause:.2f} s"


@pytest.mark.timeout(300 + PATIENCE * KILLS)
def test_a_driver_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    print(f"seed {SEED}, {KILLS} kills (CLIPMILL_CHAOS_SEED, CLIPMILL_CHAOS)")
    chance, out = random.Random(SEED), tmp_path / "out"
    drawn = DrawnSpec(SHARDS * PAIRS, SHARDS, PairSpec(seed=SEED, sides=(40, 60)), damaged=SHARDS)
    tars = write_shards(drawn, tmp_path / "shards")
    shards = [Shard(str(tar), tar.stat().st_size) for tar in tars]
    command = ["embed", str(tmp_path / "shards"), "-o", str(out), "-m", "tiny=random:1", "--workers", "2"]
    command += ["--batch-size", "4", "--address", "local", "--max-failed-samples", "1"]
    landed = 0
    for kill in range(KILLS):
        before = fingerprints(out)
        with driver(command, tmp_path / f"{kill}.log") as run:
            moment = wait_for_the_moment(run, out, chance, last=kill == KILLS - 1)
            landed += not run.ended
            run.kill()
            after = fingerprints(out)
            # on a machine this busy Ray itself may not come up, and ends its driver; which is a death like any other
            assert run.process.returncode in (-9, 0) or "Failed to connect to GCS" in run.said(), run.said()
            print(f"kill {kill} at {moment}: {len(before)} parts before, {len(after)} after")
            assert before.items() <= after.items()  # what was committed before is not touched
            if chance.random() < 0.5:  # else the next one starts while the workers of this one still are there
                assert until(lambda: not run.orphans(), PATIENCE), run.orphans()
            elif not until(lambda: not run.orphans(), 0.5):
                after = fingerprints(out)
        assert after.items() <= fingerprints(out).items()
        assert max(rows(out).values(), default=1) == 1
    assert landed > KILLS // 2, "most runs were over before they were killed"
    before = fingerprints(out)
    with driver(command, tmp_path / "last.log") as run:
        assert run.process.wait(PATIENCE + 10 * SHARDS) == 0, run.said()  # it may have all of them to do
        assert until(lambda: not run.orphans(), PATIENCE), run.orphans()
    assert before.items() <= fingerprints(out).items()
    check_exact(out, shards, {".clipmill/_SUCCESS"} | {f".clipmill/{name}" for name in LEDGER})


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told by /proc")
def test_nothing_that_a_killed_driver_started_lives_on(tmp_path: Path) -> None:
    """Ray's agents included, which by themselves go on for a minute."""
    drawn = DrawnSpec(40 * PAIRS, 40, PairSpec(seed=SEED, sides=(40, 60)))
    write_shards(drawn, tmp_path / "shards")
    out, log = tmp_path / "out", tmp_path / "log"
    command = ["embed", str(tmp_path / "shards"), "-o", str(out), "-m", "tiny=random:1", "--workers", "1"]
    with driver([*command, "--batch-size", "4", "--address", "local", "--decode-workers", "1"], log) as run:
        assert until(lambda: run.ended or len(committed(out)) >= 1, PATIENCE)
        assert not run.ended, run.said()
        started = psutil.Process(run.process.pid).children(recursive=True)
        names = {name_of(process) for process in started}
        assert {"raylet", "gcs_server", "ray::DashboardAgent"} <= names and any("_Actor" in name for name in names)
        run.kill()
        assert until(lambda: not living(started), 15), living(started)

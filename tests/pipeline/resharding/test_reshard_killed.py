"""A killed `clipmill reshard` loses nothing and leaves nothing half done."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.job import ReshardJob
from clipmill.pipeline.resharding.reshard import reshard
from reshard_kit import tars, written

SHARDS = 51  # of one sample each


def test_killed_and_resumed_it_is_as_if_never_killed(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    executable = Path(sys.executable).with_name("clipmill")
    command = [executable, "reshard", dataset.url, "-o", out, "--samples-per-shard", "1"]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)
    while len(tars(str(out))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(tars(str(out)))
    assert 3 <= done < SHARDS
    job = ReshardJob(dataset.url, str(out), samples_per_shard=1)
    assert reshard(job).shards_done_before == done
    whole = ReshardJob(dataset.url, str(tmp_path / "whole"), samples_per_shard=1)
    reshard(whole)
    assert written(job.out) == written(whole.out)

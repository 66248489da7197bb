"""What a step costs in a process of its own, its imports apart, on a disk and on an object store whose requests take a
while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchkit import expect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from clipmill.pipeline.steps import STEPS
from proxy import Proxy
from s3 import Bucket

LATENCY = 0.025  # seconds a request

_RUN = """
import json, resource, sys, time
import clipmill.pipeline, pandas, s3fs  # which are imported by the first that needs them
step, job, options = sys.argv[1:]
step, job = (getattr(clipmill.pipeline, name) for name in (step, job))
job, stages = job(**json.loads(options)), {}
def on_stage(stage):
    begin, _ = stages.setdefault(stage.name, (time.monotonic(), 0))
    stages[stage.name] = begin, time.monotonic() - begin
began = time.monotonic()
summary = step(job, on_stage)
used = resource.getrusage(resource.RUSAGE_SELF)
told = {"seconds": time.monotonic() - began, "peak": used.ru_maxrss / 1e6, "cpu": used.ru_utime + used.ru_stime}
funnel = getattr(summary, "funnel", None)
stages = {name: round(seconds, 2) for name, (_, seconds) in stages.items()}
dropped = dict(funnel.dropped) if funnel else {}
print(json.dumps({**told, "stages": stages, "dropped": dropped, "kept": funnel.kept if funnel else 0}))
"""


@dataclass(frozen=True)
class Cost:
    """Of one run."""

    seconds: float
    cpu: float  # seconds of processors, of the process that does everything here
    peak: float  # GB, of the same
    stages: dict[str, float]  # seconds
    dropped: dict[str, int]  # rows of a subset, by reason
    kept: int  # rows of a subset
    requests: int = 0
    fetched: int = 0  # bytes of answers
    stored: int = 0  # bytes of what was there afterwards and not before

    def note(self, more: str = "") -> str:
        asked = f"{self.requests:,} requests, {self.fetched / 1e6:,.0f} MB fetched, " if self.requests else ""
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.stages.items())
        return (
            f"{asked}{self.stored / 1e6:,.0f} MB more stored, {self.cpu:.1f} s of processors, {self.peak:.2f} GB at "
            f"most{more}; {stages}"
        )


@dataclass(frozen=True)
class Step:
    """One of clipmill's, by its name, with the options of its job; `dataset` and `out` come with each run."""

    name: str
    options: Mapping[str, Any]

    def run(self, dataset: str, out: str, environment: Mapping[str, str] | None = None) -> Cost:
        (job,) = (step.job_name for step in STEPS if step.name == self.name)
        options = json.dumps({"dataset": dataset, "out": out, **self.options})
        ended = subprocess.run(
            [sys.executable, "-c", _RUN, self.name, job, options],
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        expect(ended.returncode == 0, ended.stderr[-1000:])
        return Cost(**json.loads(ended.stdout.splitlines()[-1]))

    def on_s3(self, bucket: Bucket, net: Proxy, dataset: str, out: str) -> Cost:
        """out: a name in the bucket. The proxy counts."""
        before = int(bucket.storage.du(bucket.name))
        net.seen.clear()
        cost = self.run(dataset, bucket.url(out), bucket.server.environment(net.endpoint))
        stored = int(bucket.storage.du(bucket.name)) - before
        return replace(cost, requests=len(net.seen), fetched=net.bytes(), stored=stored)

    def on_disk(self, dataset: Path, out: Path) -> Cost:
        places = (dataset, out) if dataset not in out.parents else (dataset,)
        before = sum(map(_size, places))
        cost = self.run(str(dataset), str(out))
        return replace(cost, stored=sum(map(_size, places)) - before)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

"""Runs with a deadline or a budget: they end in time, say what is left and what it cost, and go on when run again."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.jobs import cli
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.errors import LimitReachedError, StoppedError, UserError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.bill import Bill
from clipmill.pipeline.running.cluster import machine_names
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import Event, ShardDone, Stopping
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from clipmill.pipeline.running.until import Limited
from fakes import FakeWorkers, attempts

TWO = Placement(2, 1, 0.0)


def test_at_the_deadline_hung_shards_are_let_go_and_slow_ones_not_begun(cluster: None, tmp_path: Path) -> None:
    names = ["hung-0", *(f"slow-{number}" for number in range(99))]
    limit = Limited(lambda: False, Bill(EmbedJob([], "", "tiny").prices, 0.0), deadline=time.monotonic() + 15.0)
    shards = [Shard(f"s3://bucket/{name}.tar") for name in names]
    events: list[Event] = list(run_shards(shards, FakeWorkers(tmp_path), TWO, RunOptions(until=limit)))
    late = time.monotonic() - limit.deadline
    done = [event for event in events if isinstance(event, ShardDone)]
    (stopping,) = [event for event in events if isinstance(event, Stopping)]
    assert stopping.why == "--deadline" and 0 < stopping.in_hand <= 4
    assert 0 < len(done) < 99 and late < 5.0
    begun = attempts(tmp_path)
    before = sum(isinstance(event, ShardDone) for event in events[: events.index(stopping)])
    assert before + stopping.in_hand + stopping.left == len(names)
    assert sum(begun.values()) <= len(done) + 4  # nobody began what had no time


def test_a_run_whose_budget_is_spent_says_what_is_left_and_the_same_command_goes_on(
    cluster: None, base: EmbedJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = replace(base, out=str(tmp_path / "out"), price_per_hour=("cpu=3600", "gpu=0"), budget=0.5)
    with pytest.raises(LimitReachedError) as told:
        embed(job)
    assert re.match(r"stopped at its --budget with (\d+) of \1 shards left; it cost [\d.]+; run the", str(told.value))
    assert told.value.exit_code == 4 and isinstance(told.value, StoppedError)
    summary = told.value.summary.as_json()
    assert summary["cost"] >= 0.5 and summary["shards_left"] == summary["planned_shards"] and not summary["complete"]
    rest = embed(replace(job, budget=1e6))
    assert rest.complete and rest.cost is not None and 0 < rest.cost < 1e6
    assert rest.cost == pytest.approx(rest.seconds, rel=0.5)  # one machine, one a second
    assert rest.cost_left == rest.seconds_left == 0


def test_the_command_line_ends_with_a_code_of_its_own_and_tells_json(
    cluster: None, base: EmbedJob, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["embed", *base.inputs, "-o", str(tmp_path / "out"), "-m", str(base.model), "--deadline", "1s", "--json"]
    monkeypatch.setattr("sys.argv", ["clipmill", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 4
    assert "stopped at its --deadline" in said.err and "run the same command to go on" in said.err
    assert json.loads(said.out)["shards_left"] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": 5.0}, "--budget 5: name --price-per-hour, too"),
        ({"budget": 0.0, "price_per_hour": 1.0}, "--budget 0: must be a number above 0"),
        ({"deadline": "soon"}, "--deadline soon: must be a duration"),
        ({"price_per_hour": ("H200=x",)}, "--price-per-hour H200=x: must be a number"),
    ],
)
def test_limits_that_are_none_are_refused(base: EmbedJob, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        replace(base, **change).check()
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("flag", [[], ["--limits-are-success"]])
def test_a_specification_ends_well_at_its_limits_where_that_is_wanted(
    flag: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(job: EmbedJob, json_: bool) -> None:
        raise LimitReachedError(f"stopped at its --deadline of {job.deadline}")

    (tmp_path / "job.yaml").write_text(
        "apiVersion: clipmill/v1\nkind: embed\n"
        f"spec: {{inputs: [x.tar], out: {tmp_path}/out, model: tiny, deadline: 2026-12-01T06:00:00}}\n"
    )
    monkeypatch.setattr(sys.modules["clipmill.jobs.cli.run"], "command_of", lambda _: stop)
    monkeypatch.setattr("sys.argv", ["clipmill", "run", str(tmp_path / "job.yaml"), *flag])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == (0 if flag else 4)
    assert "stopped at its --deadline of 2026-12-01T06:00:00" in capsys.readouterr().err


def test_machines_are_called_what_prices_name(cluster: None) -> None:
    assert [name for names in machine_names() for name in names if name in ("cpu", "gpu")]

"""What runs tell Prometheus is what they say in their summaries; the dashboard shows that, and nothing else."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.summary import Summary
from clipmill.pipeline.running import metrics as module
from clipmill.pipeline.running.events import Planned, Rows, WorkersAdded, WorkersStarted
from clipmill.pipeline.running.metrics import NAMES, Metrics
from prometheus_client.parser import text_string_to_metric_families

DASHBOARD = Path(__file__).resolve().parents[3] / "infra" / "grafana" / "clipmill.json"
PATIENCE = 60.0  # seconds; Ray exports every ten, and a scrape meanwhile may see a part of it

Samples = dict[tuple[str, str], float]  # name, and the label besides `out` -> value


def test_metrics_equal_the_summary(cluster: None, base: EmbedJob, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no tar")
    job = replace(base, inputs=[*base.inputs, str(broken)], max_failed_shards=1)
    jobs = [replace(job, out=str(tmp_path / name)) for name in ("first", "second")]
    summaries = {summary.out: summary for summary in (embed(job) for job in jobs)}
    wanted = {out: pytest.approx(_counted(summary)) for out, summary in summaries.items()}
    end = time.monotonic() + PATIENCE
    while (scraped := {out: _scraped(out) for out in wanted}) != wanted and time.monotonic() < end:
        time.sleep(0.5)
    assert scraped == wanted


def test_gauges_are_told_again_with_every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray drops those that were not set for two of its reports, and most change once a run."""
    told: list[tuple[str, float]] = []

    class Recorded:
        def __init__(self, name: str, *_: object) -> None:
            self.name = name

        def set(self, value: float, _: dict[str, str]) -> None:
            told.append((self.name, value))

    monkeypatch.setattr(module, "Gauge", Recorded)
    metrics = Metrics("out")
    for event in (Planned(4, 1, "tiny", "fp32", 3), WorkersStarted(2), WorkersAdded(1)):
        metrics.see(event)
    told.clear()
    metrics.see(Rows(10, 0, 2))
    assert dict(told) == {"clipmill_shards_planned": 3, "clipmill_workers": 3, "clipmill_shards_in_flight": 2}


def _counted(summary: Summary) -> Samples:
    run = summary.run
    assert run.failed and run.shards > 1 and summary.failed_shards
    rows = {"embedded": run.embedded, "failed": run.failed}
    shards = {"done": run.shards, "failed": len(summary.failed_shards)}
    return {
        **_labelled("clipmill_rows", rows),
        **_labelled("clipmill_row_failures", run.failures),
        **_labelled("clipmill_stage_seconds", run.seconds),
        **_labelled("clipmill_shards", shards),
        ("clipmill_part_bytes", ""): run.part_bytes,
        ("clipmill_flop", ""): run.flop,
        ("clipmill_flop_affordable", ""): run.affordable,
    }


def _labelled(name: str, values: Mapping[str, float]) -> Samples:
    return {(name, label): value for label, value in values.items() if value}


def _scraped(out: str) -> Samples:
    """Counters of the run into `out`, as Ray's node tells them now."""
    url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    counters = [family for family in families if family.type == "counter" and family.name.startswith("ray_clipmill_")]
    samples = [each for family in counters for each in family.samples if each.labels.get("out") == out]
    return {
        (
            each.name.removeprefix("ray_").removesuffix("_total"),
            "".join(each.labels.get(key, "") for key in ("outcome", "reason", "stage")),
        ): each.value
        for each in samples
    }


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    named = {name for query in queries for name in re.findall(r"ray_(clipmill_[a-z_]+)", query)}
    known = {*NAMES, *(f"{name}_total" for name in NAMES)}
    assert named <= known
    assert {name.removesuffix("_total") for name in named} == set(NAMES)  # and each is shown somewhere

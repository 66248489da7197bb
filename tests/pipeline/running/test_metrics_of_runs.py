"""What runs tell Prometheus is what they say in their summaries; the dashboard shows that, and nothing else."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.summary import Summary
from clipmill.pipeline.running import metrics as module
from clipmill.pipeline.running.events import Planned, Rows, WorkersAdded, WorkersStarted
from clipmill.pipeline.running.metrics import COUNTERS, GAUGES, Metrics
from prometheus_client.parser import text_string_to_metric_families
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

INFRA = Path(__file__).resolve().parents[3] / "infra"
DASHBOARDS = sorted((INFRA / "grafana").glob("*.json"))
ALERTS = INFRA / "prometheus" / "alerts.yaml"
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


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What Ray is told of gauges, in order."""
    gauges: list[tuple[str, float]] = []

    class Recorded:
        def __init__(self, name: str, *_: object) -> None:
            self.name = name

        def set(self, value: float, _: dict[str, str]) -> None:
            gauges.append((self.name, value))

    monkeypatch.setattr(module, "Gauge", Recorded)
    return gauges


def test_gauges_are_told_again_with_every_event(told: list[tuple[str, float]]) -> None:
    """Ray drops those that were not set for two of its reports, and most change once a run."""
    metrics = Metrics("out")
    for event in (Planned(4, 1, "tiny", "fp32", 3), WorkersStarted(2), WorkersAdded(1)):
        metrics.see(event)
    told.clear()
    metrics.see(Rows(10, 0, 2))
    values = dict(told)
    assert values.pop("clipmill_quiet_seconds") < 1
    assert values == {"clipmill_shards_planned": 3, "clipmill_workers": 3, "clipmill_shards_in_flight": 2}


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
        ("clipmill_machine_rows", ""): run.rows,  # all on the one machine
        ("clipmill_machine_failures", ""): len(summary.failed_shards),
        **_labelled("clipmill_machine_seconds", {"worker": run.seconds["worker"]}),
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


def shown() -> list[str]:
    """Queries of the dashboards, their variables filled."""
    panels = [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [re.sub(r"\$\w+", "x", query.replace("$__rate_interval", "1m")) for query in queries]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def named(query: str) -> set[str]:
    return set(re.findall(r"ray_(clipmill_[a-z_]+)", query))


def test_dashboards_and_alerts_name_only_metrics_that_exist() -> None:
    known = {*(f"{name}_total" for name in COUNTERS), *GAUGES}  # Prometheus calls counters so
    for query in (*shown(), *(rule["expr"] for rule in rules())):
        assert named(query) <= known, query
    assert {name for query in shown() for name in named(query)} == known  # and each is shown somewhere


def test_dashboards_and_alerts_group_by_labels_that_metrics_have() -> None:
    labels = {"out", "instance", *(label for _, keys in COUNTERS.values() for label in keys)}
    for query in (*shown(), *(rule["expr"] for rule in rules())):
        grouped = ",".join(re.findall(r"(?:by|on) \(([^)]*)\)", query))
        assert {label.strip() for label in grouped.split(",")} - {""} <= labels, query


def test_what_ray_is_asked_of_machines_is_what_it_tells() -> None:
    asked = {name for query in shown() for name in re.findall(r"ray_(node_\w+)", query)}
    assert asked and asked <= set(METRICS_GAUGES)


def test_prometheus_would_take_every_query() -> None:
    promql = pytest.importorskip("promql_parser")
    for query in (*shown(), *(rule["expr"] for rule in rules())):
        promql.parse(query)
    with pytest.raises(ValueError):
        promql.parse("sum by (out (x)")


def test_alerts_say_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert re.search("[<>]", rule["expr"]), rule["alert"]  # a threshold: else it fires always
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        told = rule["annotations"]
        assert "{{ $value" in told["summary"] or "machine" in told["summary"]
        assert told["description"].endswith(".")
        used = set(re.findall(r"\$labels\.(\w+)", told["summary"]))
        assert used <= set(re.split(r"[,\s]+", re.findall(r"by \(([^)]*)\)", rule["expr"])[0]))


def test_gauges_go_on_where_nothing_happens(told: list[tuple[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is silent is what an alert is for; silence must not end what it looks at."""
    monkeypatch.setattr(module, "_BEAT", 0.02)
    with Metrics("out") as metrics:
        metrics.see(Planned(4, 1, "tiny", "fp32", 3))
        told.clear()
        time.sleep(0.3)
    quiet = [value for name, value in told if name == "clipmill_quiet_seconds"]
    assert len(quiet) > 2 and quiet == sorted(quiet) and quiet[-1] > 0.05
    assert ("clipmill_shards_planned", 3) in told

"""What Prometheus would scrape from a live run is what its summary says."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from clipmill.pipeline.metrics import NAMES
from fakes import Ran
from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, dict[str, str], float]


def scraped() -> list[Sample]:
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return [(s.name, s.labels, s.value) for family in families for s in family.samples if "clipmill" in s.name]


def total(samples: list[Sample], name: str, **labels: str) -> float:
    wanted = {f"ray_{name}", f"ray_{name}_total"}
    return sum(v for n, has, v in samples if n in wanted and all(has.get(k) == w for k, w in labels.items()))


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Ray passes counts on every few seconds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def test_metrics_equal_the_summary(ran: Ran) -> None:
    out, totals = str(ran.out), ran.summary.run

    def agree() -> bool:
        samples = [sample for sample in scraped() if sample[1].get("out") == out]
        return (
            total(samples, "clipmill_rows", outcome="embedded") == totals.embedded
            and total(samples, "clipmill_rows", outcome="failed") == totals.failed
            and total(samples, "clipmill_shards", outcome="done") == totals.shards
            and total(samples, "clipmill_part_bytes") == totals.part_bytes
            and total(samples, "clipmill_shards_planned") == ran.summary.planned
            and total(samples, "clipmill_workers") == ran.summary.workers
        )

    assert until(agree), scraped()
    samples = [sample for sample in scraped() if sample[1].get("out") == out]
    for reason, rows in totals.failures.items():
        assert total(samples, "clipmill_row_failures", reason=reason) == rows
    for stage, seconds in totals.seconds.items():
        assert total(samples, "clipmill_stage_seconds", stage=stage) == pytest.approx(seconds, abs=0.01)


DASHBOARD = Path(__file__).resolve().parents[2] / "infra" / "grafana" / "clipmill.json"


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    import re

    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    named = {name for query in queries for name in re.findall(r"ray_(clipmill_[a-z_]+)", query)}
    known = {*NAMES, *(f"{name}_total" for name in NAMES)}
    assert named <= known
    assert {name.removesuffix("_total") for name in named} == set(NAMES)  # and each is shown somewhere

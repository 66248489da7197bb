"""The dashboard shows the metrics that runs tell of, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

from clipmill.pipeline.metrics import NAMES

DASHBOARD = Path(__file__).resolve().parents[2] / "infra" / "grafana" / "clipmill.json"


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    named = {name for query in queries for name in re.findall(r"ray_(clipmill_[a-z_]+)", query)}
    known = {*NAMES, *(f"{name}_total" for name in NAMES)}
    assert named <= known
    assert {name.removesuffix("_total") for name in named} == set(NAMES)  # and each is shown somewhere

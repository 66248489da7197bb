"""Job specifications to begin with, and what is made of them: `python -m clipmill.jobs.examples` writes that again."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from ..clusters.rendering import render
from ..specifications.kinds import json_schema
from ..specifications.templates import Values

FOLDER = Path(__file__).parent
_ANY = Values("2026-01-01", {})  # manifests hold slots unfilled


def made() -> dict[str, str]:
    """What the repository keeps of the output of `clipmill render` and `clipmill schema`, and of its alerts: path in it
    -> text."""
    return {
        "infra/kuberay/rayjob.yaml": render(FOLDER / "embed.yaml", _ANY),
        "infra/kuberay/raycronjob.yaml": render(FOLDER / "nightly.yaml", _ANY),
        "infra/kuberay/raycluster.yaml": render(FOLDER / "nightly.yaml", _ANY, cluster_only=True),
        "infra/prometheus/prometheus-rule.yaml": _rule(FOLDER.parents[1] / "infra" / "prometheus" / "alerts.yaml"),
        "jobs/examples/clipmill.schema.json": json.dumps(json_schema(), indent=2) + "\n",
    }


def _rule(alerts: Path) -> str:
    """The same alerts as the Prometheus operator takes them."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "clipmill", "labels": {"app.kubernetes.io/name": "clipmill"}},
        "spec": yaml.safe_load(alerts.read_text(encoding="utf-8")),
    }
    comment = "# For the Prometheus operator: the alerts of alerts.yaml, from which `make examples` makes this file.\n"
    return comment + yaml.safe_dump(rule, sort_keys=False, allow_unicode=True, width=120)

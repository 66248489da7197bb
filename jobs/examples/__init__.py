"""Job specifications to begin with, and what is made of them: `python -m clipmill.jobs.examples` writes that again."""

from __future__ import annotations

import json
from pathlib import Path

from ..clusters.rendering import render
from ..specifications.kinds import json_schema
from ..specifications.templates import Values

FOLDER = Path(__file__).parent
_ANY = Values("2026-01-01", {})  # manifests hold slots unfilled


def made() -> dict[str, str]:
    """What the repository keeps of the output of `clipmill render` and `clipmill schema`: path in it -> text."""
    return {
        "infra/kuberay/rayjob.yaml": render(FOLDER / "embed.yaml", _ANY),
        "infra/kuberay/raycronjob.yaml": render(FOLDER / "nightly.yaml", _ANY),
        "infra/kuberay/raycluster.yaml": render(FOLDER / "nightly.yaml", _ANY, cluster_only=True),
        "jobs/examples/clipmill.schema.json": json.dumps(json_schema(), indent=2) + "\n",
    }

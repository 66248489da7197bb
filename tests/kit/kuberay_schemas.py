"""KubeRay's own schemas (custom resource definitions of August 2026, unknown fields refused), kept in tests/data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema

_SCHEMAS = Path(__file__).resolve().parents[1] / "data" / "kuberay"


def faults(document: dict[str, Any]) -> list[str]:
    """What is wrong with a RayCluster, RayJob or RayCronJob, as `path: message`."""
    schema = json.loads(gzip.decompress((_SCHEMAS / f"{document['kind']}.v1.json.gz").read_bytes()))
    errors = jsonschema.Draft7Validator(schema).iter_errors(document)
    found = [f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in errors]
    return found + ([] if document["apiVersion"] == "ray.io/v1" else ["apiVersion: not ray.io/v1"])

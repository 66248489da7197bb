"""The files for Ray's own cluster launcher pass Ray's validation, and ask for machines as the manifests do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILES = sorted((Path(__file__).resolve().parents[2] / "infra" / "ray").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ray_accepts_it(path: Path) -> None:
    config = prepare_config(yaml.safe_load(path.read_text()))
    validate_config(config)
    types = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["min_workers"] == types["cpu"]["min_workers"] == 0


def test_there_are_files_for_both_clouds() -> None:
    assert [path.stem for path in FILES] == ["aws", "gcp"]

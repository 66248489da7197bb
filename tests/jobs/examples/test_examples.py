"""The example specifications: valid, one of every kind; what is kept of them rendered is what they render to."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from clipmill.jobs.examples import FOLDER, made
from clipmill.jobs.specifications.cluster_spec import read_cluster
from clipmill.jobs.specifications.kinds import KINDS, json_schema
from clipmill.jobs.specifications.specification import read_specification
from clipmill.jobs.specifications.templates import Values
from kuberay_schemas import faults

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted(FOLDER.glob("*.yaml"))
VALUES = Values("2026-11-25", {"BUCKET": "s3://b", "WEBHOOK": "https://hooks.example/x"})


def test_there_is_one_of_every_kind() -> None:
    assert {yaml.safe_load(path.read_text())["kind"] for path in EXAMPLES} == {*KINDS, "pipeline"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted_by_the_parser_the_schema_and_its_own_checks(path: Path) -> None:
    specification = read_specification(path, VALUES)
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())
    read_cluster(specification.cluster, path.name)
    for step in specification.steps:
        step.job.check()
        changed = step.job.dataset if step.kind == "forget" else step.job.out
        assert changed.startswith("weights/" if step.kind == "train" else "s3://b/")  # weights go to a disk


@pytest.mark.parametrize("path", made(), ids=lambda path: Path(path).name)
def test_what_is_kept_is_what_is_made(path: str) -> None:
    """`make examples` writes it again."""
    assert (ROOT / path).read_text(encoding="utf-8") == made()[path]


def test_kuberay_accepts_the_rendered_examples() -> None:
    kinds = []
    for path, text in made().items():
        for document in yaml.safe_load_all(text) if path.endswith(".yaml") else ():
            if document["apiVersion"] == "ray.io/v1":
                kinds.append(document["kind"])
                assert faults(document) == []
    assert kinds == ["RayJob", "RayCronJob", "RayCluster"]

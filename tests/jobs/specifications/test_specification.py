"""Job specifications: what they say is what the commands are told, and what is wrong with them is one line."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from clipmill.jobs.specifications.kinds import KINDS, json_schema, model_of
from clipmill.jobs.specifications.specification import Specification, parse_specification, read_specification
from clipmill.jobs.specifications.templates import Template, Values
from clipmill.jobs.specifications.yaml_file import MOST_BYTES
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.job import EmbedJob
from console import Console, console
from s3 import Bucket

VALUES = Values("2026-11-25", {"HOME_BUCKET": "s3://b"})
EMBED = {"inputs": ["a.tar"], "out": "out", "model": "tiny"}


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return console(monkeypatch, capsys)


def parsed(text: str, values: Values = VALUES) -> Specification:
    return parse_specification(yaml.safe_load(text), values, "job.yaml")


def single(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "clipmill/v1", "kind": "embed", "spec": {**EMBED, **spec}}


def test_a_single_job_is_its_dataclass() -> None:
    (step,) = parse_specification(single(workers=2, columns="lang"), VALUES, "job.yaml").steps
    assert (step.name, step.kind) == ("embed", "embed")
    assert step.job == EmbedJob(["a.tar"], "out", "tiny", columns=["lang"], workers=2) or step.job.columns == ["lang"]


def test_a_pipelines_later_steps_name_what_earlier_ones_were_given() -> None:
    specification = parsed("""
apiVersion: clipmill/v1
kind: pipeline
vars: {root: "{{ env.HOME_BUCKET }}/{{ date }}", inputs: [a.tar, b.tar]}
steps:
  - name: first
    embed: {inputs: "{{ vars.inputs }}", out: "{{ vars.root }}/first", model: tiny}
  - name: second
    embed: {inputs: "{{ steps.first.out }}/x.tar", out: "{{vars.root}}/second", model: "{{ steps.first.model }}"}
""")
    first, second = (step.job for step in specification.steps)
    assert (list(first.inputs), first.out) == (["a.tar", "b.tar"], "s3://b/2026-11-25/first")
    assert (list(second.inputs), second.out) == (["s3://b/2026-11-25/first/x.tar"], "s3://b/2026-11-25/second")


WRONG = [
    ("[]", "a job specification is a mapping"),
    ("kind: embed", "apiVersion: must be clipmill/v1, not None"),
    ("{apiVersion: clipmill/v1, kind: embedd, spec: {}}", "kind: unknown 'embedd'; did you mean embed?"),
    ("{apiVersion: clipmill/v1, kind: embed, specs: {}}", "specs: unknown 'specs'; did you mean spec?"),
    ("{apiVersion: clipmill/v1, kind: embed}", "spec: must be a mapping of the fields of `clipmill embed`"),
    ("{apiVersion: clipmill/v1, kind: embed, spec: {out: o, model: m}}", "spec.inputs: missing"),
    ("{apiVersion: clipmill/v1, kind: pipeline, steps: []}", "steps: must be a list of at least one step"),
    (
        "{apiVersion: clipmill/v1, kind: pipeline, steps: [{name: a, embedd: {}}]}",
        "steps[0]: a step has a name and one command: unknown 'embedd'; did you mean embed?",
    ),
    ("{apiVersion: clipmill/v1, kind: pipeline, steps: [{name: a}]}", "steps[0]: a step has a name and one command"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_named_with_its_place_and_what_to_do(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parsed(text)
    assert str(error.value).startswith("job.yaml: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"batchsize": 3}, "spec.batchsize: unknown 'batchsize'; did you mean batch_size?"),
        ({"batch-size": 3}, "spec.batch-size: unknown 'batch-size'; did you mean batch_size?"),
        ({"workers": "two"}, "spec.workers: Input should be a valid integer"),
        ({"precision": "fp4"}, "spec.precision: Input should be 'auto'"),
        ({"inputs": [3]}, "spec.inputs.0: Input should be a valid string"),
        ({"out": "{{ env.NO_SUCH }}"}, "spec.out: {{ … }}: the environment has no NO_SUCH"),
        ({"out": "{{ vars.root }}"}, "there is no vars.root; there are: none"),
        ({"out": "{{ today }}"}, "'today' is none of date, env.NAME"),
    ],
)
def test_a_wrong_field_is_named(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse_specification(single(**spec), VALUES, "job.yaml")
    assert said in str(error.value)


def test_values_that_no_run_could_use_are_refused_before_the_first_step() -> None:
    """Whichever step has them: it may come hours later."""
    with pytest.raises(UserError, match=r"steps\[1\]\.filter: --top-fraction 30: must be a share"):
        parsed("""
apiVersion: clipmill/v1
kind: pipeline
steps:
  - embed: {inputs: a.tar, out: out, model: tiny}
  - filter: {dataset: out, out: best, top_fraction: 30}
""")


@pytest.mark.parametrize(
    ("condition", "refused"),
    [
        ("length(repeat(caption, 1000000)) > 0", "the function repeat"),
        ("key IN (SELECT key FROM '/etc/passwd')", "a subquery"),
        ("getenv('AWS_SECRET_ACCESS_KEY') > 'x'", "the function getenv"),
        ("width >", "syntax error"),
    ],
)
def test_conditions_of_somebody_elses_specification_read_their_row_alone(condition: str, refused: str) -> None:
    spec = {"dataset": "out", "out": "best", "where": ["width > {{ vars.side }} AND english(caption)", condition]}
    document = {"apiVersion": "clipmill/v1", "kind": "filter", "vars": {"side": 64}, "spec": spec}
    with pytest.raises(UserError, match=f"^job.yaml: spec: where: .*{refused}"):
        parse_specification(document, VALUES, "job.yaml")
    spec["where"] = spec["where"][:1]
    assert parse_specification(document, VALUES, "job.yaml").steps[0].job.where[0].startswith("width > 64")


def test_two_steps_of_one_name_and_steps_that_are_not_there_are_refused() -> None:
    step = {"name": "a", "embed": EMBED}
    document = {"apiVersion": "clipmill/v1", "kind": "pipeline", "steps": [step, step]}
    with pytest.raises(UserError, match=r"steps\[1\]\.name: 'a': every step needs a name of its own"):
        parse_specification(document, VALUES, "job.yaml")
    document["steps"] = [step, {"name": "b", "embed": {**EMBED, "out": "{{ steps.aa.out }}"}}]
    with pytest.raises(UserError, match=r"there is no steps\.aa; did you mean steps\.a\?"):
        parse_specification(document, VALUES, "job.yaml")


def test_the_command_lines_variables_go_before_the_files_own() -> None:
    values = Values.given(["root=elsewhere"], "2026-01-02")
    document = {**single(out="{{ vars.root }}/{{ date }}"), "vars": {"root": "here"}}
    assert parse_specification(document, values, "job.yaml").steps[0].job.out == "elsewhere/2026-01-02"
    for wrong in (["root"], ["=x"]):
        with pytest.raises(UserError, match="must be NAME=VALUE"):
            Values.given(wrong, None)
    with pytest.raises(UserError, match="must be YYYY-MM-DD"):
        Values.given([], "today")


def test_slots_within_text_are_text_and_a_whole_slot_keeps_its_kind() -> None:
    values = Values("2026-11-25", {}, {"n": 3, "list": [1, 2]})
    assert Template(values).filled({"a": "{{ vars.n }}", "b": "x{{vars.n}}", "c": ["{{ vars.list }}"]}, "f") == {
        "a": 3,
        "b": "x3",
        "c": [[1, 2]],
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a: 1\na: 2", "the key 'a' is given twice"), (b"a: [", "not valid YAML"), (b"\xff\xfe\x00", "not")],
)
def test_a_file_that_is_no_yaml_is_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_specification(path, VALUES)
    assert "\n" not in str(error.value)


def test_a_specification_may_lie_in_an_object_store(bucket: Bucket, clipmill: Console) -> None:
    bucket.storage.pipe_file(bucket.url("job.yaml"), json.dumps(single()).encode())
    bucket.storage.pipe_file(bucket.url("large.yaml"), b"x" * (MOST_BYTES + 1))
    ran = clipmill("run", bucket.url("job.yaml"), "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["steps"][0]["embed"]["out"] == "out"
    for name, complaint in (("gone.yaml", "no such file or folder"), ("large.yaml", "larger than 4 MiB")):
        refused = clipmill("run", bucket.url(name), "--dry-run")
        assert refused.code == 2 and refused.err.count("\n") <= 2
        assert f"{bucket.url(name)}: {complaint}" in " ".join(refused.err.split())


def test_the_schema_accepts_what_the_parser_does_and_refuses_misspelt_keys() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(single(workers=2, batch_size="{{ vars.n }}"))
    assert validator.is_valid({**single(), "kind": "pipeline", "steps": [{"name": "a", "embed": EMBED}]}) is False
    pipeline = {"apiVersion": "clipmill/v1", "kind": "pipeline", "steps": [{"name": "a", "embed": EMBED}]}
    assert validator.is_valid(pipeline)
    assert not validator.is_valid(single(worker=2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_kind_is_in_its_model_with_its_help(kind: str) -> None:
    model = model_of(kind).model_fields
    assert list(model) == [field.name for field in fields(KINDS[kind].job)]
    assert all(field.description for field in model.values())


def test_a_dry_run_shows_every_default_and_no_secret(clipmill: Console, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(single(storage_options={"secret": "hush", "endpoint_url": "http://u:hush@host"})))
    ran = clipmill("run", path, "--dry-run")
    assert ran.code == 0, ran.err
    assert "hush" not in ran.out
    shown = yaml.safe_load(ran.out)["steps"][0]["embed"]
    assert set(shown) == {field.name for field in fields(EmbedJob)}
    assert json.loads(clipmill("run", path, "--dry-run", "--json").out)["steps"][0]["embed"]["out"] == "out"

"""Whatever a specification holds, reading it ends soon: with a specification, or with one line that names the file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from clipmill.jobs.specifications.specification import Specification, parse_specification, read_specification
from clipmill.jobs.specifications.templates import Values
from clipmill.jobs.specifications.yaml_file import read_yaml
from clipmill.pipeline.errors import UserError
from console import started
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

VALUES = Values("2026-11-25", {})
HEAD = "apiVersion: clipmill/v1\nkind: embed\n"
BLANKS = " " * 200_000


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Generous, for busy machines: what is refused here took minutes, or never ended."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def aliases(levels: int, each: int = 9) -> str:
    """Each level holds the one before several times."""
    lines = [f"  a0: &a0 [{','.join('x' * each)}]"]
    lines += [f"  a{i}: &a{i} [{','.join([f'*a{i - 1}'] * each)}]" for i in range(1, levels)]
    return "\n".join(lines)


def steps_that_double(count: int, field: str) -> str:
    """Each step holds the one before twice, by its slots."""
    first = {"name": "s0", "embed": {"inputs": ["a"], "out": "o", "model": "tiny", "storage_options": {"a": "x"}}}
    steps = [first]
    for i in range(1, count):
        before = f"{{{{ steps.s{i - 1}.{field} }}}}"
        doubled = {"out": before * 2} if field == "out" else {"storage_options": {"a": before, "b": before}}
        steps.append({"name": f"s{i}", "embed": {**first["embed"], **doubled}})  # type: ignore[dict-item]
    return json.dumps({"apiVersion": "clipmill/v1", "kind": "pipeline", "steps": steps})


HOSTILE = {
    "aliases of aliases": f"{HEAD}vars:\n{aliases(9)}\nspec: {{inputs: '{{{{ vars.a8 }}}}', out: o, model: tiny}}",
    "aliases as fields": f"{HEAD}spec:\n{aliases(40)}",
    "merges of merges": "a: &a {k: v}\n"
    + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{','.join(['*' + chr(97 + i)] * 9)}]}}" for i in range(20)),
    "an alias within itself": f"{HEAD}vars: &a [*a]\nspec: {{}}",
    "a slot of blanks": f"{HEAD}spec: {{inputs: a, out: '{{{{{BLANKS}', model: tiny}}",
    "a slot of blanks and no name": f"{HEAD}spec: {{inputs: a, out: '{{{{{BLANKS}}}}}', model: tiny}}",
    "slots that open": f"{HEAD}spec: {{inputs: a, out: {'{{ ' * 100_000!r}, model: 3}}",
    "a long name in a slot": f"{HEAD}vars: {{{'a' * 100_000}b: 1}}\nspec: {{out: '{{{{ vars.{'a' * 100_000} }}}}'}}",
    "nested lists": f"{HEAD}spec: {'[' * 100_000}",
    "nested lists that end": f"{HEAD}spec: {'[' * 5_000}{']' * 5_000}",
    "nested mappings": f"{HEAD}spec: {'{a: ' * 5_000}{'}' * 5_000}",
    "nested blocks": f"{HEAD}spec:\n  " + "- " * 5_000,
    "nested JSON": '{"apiVersion": "clipmill/v1", "kind": "embed", "spec": ' + '{"a":' * 5_000 + "1" + "}" * 5_001,
    "texts that double": steps_that_double(60, "out"),
    "mappings that double": steps_that_double(60, "storage_options"),
    "a number in base 60": f"{HEAD}spec: {{workers: 1{':1' * 200_000}}}",
    "a number of many digits": f"{HEAD}spec: {{workers: {'9' * 100_000}}}",
    "a wrong tag": f"{HEAD}spec: {{images: !!bool perhaps}}",
    "an empty number": f"{HEAD}spec: {{workers: !!int ''}}",
    "many keys": f"{HEAD}spec: {{{', '.join(f'k{i}: 1' for i in range(30_000))}}}",
    "a list as a key": f"{HEAD}spec: {{[a]: 1}}",
    "a list as the kind": "{apiVersion: clipmill/v1, kind: [embed], spec: {}}",
    "a schedule that is a number": f"{HEAD}schedule: 5\nspec: {{inputs: a, out: o, model: tiny}}",
    "a large file": f"{HEAD}spec: {{inputs: [{'x,' * 3_000_000}]}}",
    "control characters": f"{HEAD}spec: \x00\x01",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_would_take_for_ever_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with within(20), pytest.raises(UserError) as error:
        read_specification(path, VALUES)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message and len(message) < 1000


def test_the_command_line_refuses_it_too(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(HOSTILE["aliases of aliases"])
    with within(30):
        ran = started("run", path)
    assert ran.code == 2
    assert "more than 100,000 values, aliases included" in ran.complaint()


def test_some_aliases_and_a_long_list_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    inputs = "".join(f"  - s3://bucket/shards/{i:05d}.tar\n" for i in range(10_000))
    path.write_text(
        f"{HEAD}vars:\n  root: &root s3://b\n  same: [*root, *root]\nspec:\n inputs:\n{inputs} out: o\n model: tiny"
    )
    (step,) = read_specification(path, VALUES).steps
    assert len(step.job.inputs) == 10_000


TEXTS = st.text(st.sampled_from("{} \n.abvs*&[]<:!-_'\"#1"), max_size=60)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_any_text_is_a_value_or_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text, newline="")
    try:
        content = read_yaml(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert content == yaml.safe_load(text)  # as YAML has it, where it is taken


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.dates()
CONTENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)
)
FIELDS = st.sampled_from(["inputs", "out", "model", "workers", "storage_options", "columns", "images"])


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(FIELDS, CONTENTS),
    st.fixed_dictionaries(
        {},
        optional={
            "vars": CONTENTS,
            "notify": CONTENTS,
            "schedule": CONTENTS,
            "cluster": CONTENTS,
            "kind": CONTENTS,
        },
    ),
)
def test_any_content_is_a_specification_or_one_line(spec: dict[str, Any], top: dict[str, Any]) -> None:
    content = {"apiVersion": "clipmill/v1", "kind": "embed", "spec": spec, **top}
    try:
        specification = parse_specification(content, VALUES, "job.yaml")
    except UserError as error:
        assert str(error).startswith("job.yaml: ")
    else:
        assert isinstance(specification, Specification)

"""The table of steps is what there is: each row has its job, its function, its results, its command and an example."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, get_type_hints

import clipmill.pipeline
import pytest
import typer
from clipmill.jobs.cli import app
from clipmill.jobs.cli.commands import command_of
from clipmill.jobs.cli.helping import _HEADING
from clipmill.jobs.specifications.kinds import KINDS
from clipmill.pipeline.job.fields import writes_a_file
from clipmill.pipeline.steps import STEPS, Step

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
every_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)


@every_step
def test_a_steps_job_is_a_dataclass_that_can_check_itself(step: Step) -> None:
    assert is_dataclass(step.job)
    assert step.job.__name__ == step.job_name
    assert callable(step.job.check)
    assert getattr(clipmill.pipeline, step.job_name) is step.job


@every_step
def test_its_home_has_a_function_of_its_name_that_takes_the_job_and_the_types_of_its_results(step: Step) -> None:
    home = import_module(f"clipmill.{step.home}")
    function = getattr(home, step.name)
    first = next(iter(inspect.signature(function).parameters))
    assert get_type_hints(function)[first] is step.job
    assert all(isinstance(getattr(home, name), type) for name in step.results)
    if step.home.startswith("pipeline."):
        assert all(getattr(clipmill.pipeline, name) is getattr(home, name) for name in (step.name, *step.results))


@every_step
def test_its_command_takes_its_job_and_has_an_option_for_each_field(step: Step) -> None:
    first = next(iter(inspect.signature(command_of(step.name)).parameters))
    assert get_type_hints(command_of(step.name))[first] is step.job
    assert {field.name for field in fields(step.job) if field.init} <= {p.name for p in COMMANDS[step.name].params}


@every_step
def test_its_examples_are_understood_by_its_command(step: Step) -> None:
    assert step.examples
    for example in step.examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("clipmill", step.name)
        context = COMMANDS[command].make_context(command, arguments)
        assert context.args == []


def test_every_option_under_a_heading_is_an_option_of_some_step() -> None:
    parameters = {parameter.name for step in STEPS for parameter in COMMANDS[step.name].params}
    assert set(_HEADING) - parameters <= {"overwrite", "count"}


def test_a_run_makes_no_folder_where_a_step_writes_a_file() -> None:
    """`out` says so: its value is a FILE."""
    assert [kind for kind, step in KINDS.items() if writes_a_file(step.job)] == ["report", "train"]


def test_the_kinds_of_specifications_are_the_steps_that_write_something() -> None:
    assert list(KINDS) == [step.name for step in STEPS if step.specified]
    others = [step for step in KINDS.values() if step.name != "forget"]  # which changes what there is
    assert all({"out", "storage_options"} <= {field.name for field in fields(step.job)} for step in others)

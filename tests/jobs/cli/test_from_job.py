"""A job's dataclass becomes options: names, kinds, defaults and help come from its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
import typer
from clipmill.jobs.cli.from_job import takes_job
from clipmill.jobs.cli.options import Json
from clipmill.pipeline.job import Flag
from typer.testing import CliRunner
from typing_extensions import Doc


@dataclass(frozen=True)
class Job:
    inputs: Annotated[Sequence[str], Doc("What to read."), Flag(argument=True, metavar="INPUT…")]
    out: Annotated[str, Doc("Where to."), Flag(("--out", "-o"))]
    words: Annotated[Sequence[str], Doc("Some words."), Flag(("--word",))] = ("a", "b")
    kind: Annotated[Literal["auto"] | Literal["x", "y"], Doc("Which.")] = "auto"
    images: Annotated[bool, Doc("Read images.")] = True
    top_k: Annotated[int | None, Doc("How many."), Flag(default="all")] = None
    again: Annotated[bool, Doc("Once more.")] = False
    options: Annotated[Mapping[str, Any], Doc("Of the storage."), Flag(("--option",))] = field(default_factory=dict)


@pytest.fixture
def ran() -> Any:
    """Runs a command with arguments; returns the job that it was called with, or what was printed instead."""
    seen: list[tuple[Job, bool]] = []

    @takes_job
    def command(job: Job, json_: Json = False) -> None:
        seen.append((job, json_))

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command)

    def run(*arguments: str) -> Any:
        seen.clear()
        result = CliRunner().invoke(app, list(arguments))
        return seen[0] if seen else result.output

    return run


def test_what_is_not_given_is_the_jobs_own_default(ran: Any) -> None:
    assert ran("in", "-o", "out") == (Job(("in",), "out"), False)


def test_every_kind_of_field_arrives_as_the_job_declares_it(ran: Any) -> None:
    given = ["in", "more", "-o", "out", "--word", "c", "--kind", "y", "--no-images", "--top-k", "3", "--again"]
    job, json_ = ran(*given, "--option", "anon=true", "--option", "port=9", "--json")
    assert job == Job(("in", "more"), "out", ("c",), "y", False, 3, True, {"anon": True, "port": 9})
    assert json_


def test_the_help_is_the_fields_own(ran: Any) -> None:
    said = " ".join(ran("--help").split())
    for text in ("What to read.", "Where to.", "Some words.", "Which.", "--images / --no-images", "[default: (all)]"):
        assert text in said
    assert "--no-again" not in said


@pytest.mark.parametrize("given", [["in"], ["-o", "out"], ["in", "-o", "out", "--kind", "z"]])
def test_what_is_missing_or_wrong_is_refused(given: list[str], ran: Any) -> None:
    assert "Error" in ran(*given)

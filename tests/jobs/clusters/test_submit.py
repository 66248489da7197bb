"""Submitted to a Ray head that has no clipmill: the same results, killed and resumed, followed to its exit code."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from clipmill.jobs.clusters.kuberay import JOB_PATH
from clipmill.jobs.clusters.rendering import render
from clipmill.jobs.clusters.submit import follow
from clipmill.jobs.specifications.templates import Values
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.summary import status
from console import Ran, started
from fakes import Drawn, parts
from ray.job_submission import JobSubmissionClient
from ray_head import TOKEN, Head, ray_head

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("head"), NIGHT="tonight") as head:
        yield head


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


def job(folder: Path, inputs: Path, weights: Path, out: str = "{{ vars.root }}/{{ env.NIGHT }}") -> Path:
    path = folder / "job.yaml"
    spec = {"inputs": [str(inputs)], "out": out, "model": f"tiny={weights}", "gpus_per_worker": 0, "batch_size": 7}
    path.write_text(json.dumps({"apiVersion": "clipmill/v1", "kind": "embed", "spec": spec}))
    return path


def submitted(path: Path, head: Head, root: Path, *more: str) -> Ran:
    return started("submit", path, "--address", head.dashboard, "--set", f"root={root}", *more)


def test_the_rows_are_those_of_a_run_here(
    token: None, head: Head, drawn: Drawn, sharp_weights: Path, cluster: None, tmp_path: Path
) -> None:
    path = job(tmp_path, drawn.folder, sharp_weights)
    there = submitted(path, head, tmp_path, "--json")
    assert there.code == 0, there.err + there.out
    assert json.loads(there.out.strip().splitlines()[-1])["complete"]
    embed(EmbedJob([str(drawn.folder)], str(tmp_path / "here"), f"tiny={sharp_weights}", batch_size=7))
    assert parts(tmp_path / "tonight") == parts(tmp_path / "here")
    again = submitted(path, head, tmp_path)
    assert again.code == 0
    assert "nothing to do" in again.out


def test_a_wrong_tokens_holder_is_told_what_to_do(
    head: Head, drawn: Drawn, sharp_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    refused = submitted(job(tmp_path, drawn.folder, sharp_weights), head, tmp_path)
    assert (refused.code, "set RAY_AUTH_TOKEN" in refused.complaint()) == (2, True)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    refused = submitted(job(tmp_path, drawn.folder, sharp_weights), head, tmp_path)
    assert (refused.code, "wants a token" in refused.complaint()) == (2, True)


@pytest.fixture(scope="module")
def head_with_clipmill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("equipped"), with_clipmill=True) as head:
        yield head


@pytest.mark.parametrize("service", ["head", "client"])
def test_a_driver_that_joins_learns_at_once_that_a_token_is_wanted(
    service: str,
    head_with_clipmill: Head,
    drawn: Drawn,
    sharp_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line: Ray tries for half a minute, and writes twenty lines of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    address = getattr(head_with_clipmill, service)
    command = ["embed", drawn.folder, "-o", tmp_path / "out", "-m", f"tiny={sharp_weights}", "--address", address]
    command += ["--workers", "1"]
    began = time.monotonic()
    refused = started(*command)
    assert time.monotonic() - began < 20
    assert refused.code == 2
    assert f"{address}: the Ray cluster wants a token, and there is none in RAY_AUTH_TOKEN" in refused.complaint()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    refused = started(*command)
    assert (refused.code, "refuses the token in RAY_AUTH_TOKEN" in refused.complaint()) == (2, True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert started(*command).code == 0


def test_its_exit_code_is_ours(token: None, head: Head, sharp_weights: Path, tmp_path: Path) -> None:
    failed = submitted(job(tmp_path, tmp_path / "no.tar", sharp_weights), head, tmp_path)
    assert failed.code == 2
    assert "no.tar: no such file or folder" in failed.out


def test_what_is_wrong_with_the_file_is_said_before_anything_is_sent(head: Head, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text('{"apiVersion": "clipmill/v1", "kind": "embed", "spec": {"input": []}}')
    assert "did you mean inputs?" in submitted(path, head, tmp_path).complaint()
    path.write_text(
        '{"apiVersion": "clipmill/v1", "kind": "embed", "spec": {"inputs": [], "out": "o", "model": "tiny"}}'
    )
    wrong = started("submit", path, "--address", "head:8265")
    assert (wrong.code, "must be the cluster's dashboard" in wrong.complaint()) == (2, True)
    nobody = started("submit", path, "--address", "http://127.0.0.1:1")
    assert (nobody.code, "http://127.0.0.1:1" in nobody.complaint()) == (1, True)


def test_a_killed_job_is_resumed_by_the_next_and_overlapping_ones_do_no_harm(
    token: None, head: Head, drawn: Drawn, sharp_weights: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(40):
        (many / f"{i:05d}.tar").hardlink_to(drawn.tars[i % 3])
    path = job(tmp_path, many, sharp_weights, str(tmp_path / "out"))
    out = Output.at(str(tmp_path / "out"))
    assert submitted(path, head, tmp_path, "--no-wait").code == 0
    _until(lambda: len(out.parts()) >= 2)
    (driver,) = [
        each
        for each in psutil.process_iter()
        if "clipmill.jobs.cli" in (words := " ".join(_words(each))) and f"root={tmp_path}" in words
    ]
    driver.kill()
    first = len(out.parts())
    assert 0 < first < 40
    second = subprocess.Popen(
        _command(path, head, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    _until(lambda: len(out.parts()) > first)
    overlapping = submitted(path, head, tmp_path)
    said, _ = second.communicate(timeout=400)
    assert second.returncode == 0, said
    assert overlapping.code == 0
    outs = (said, overlapping.out)  # either may have been first at the lock: workers of the killed one make parts, too
    assert sum("another run is at work there" in each or "nothing to do" in each for each in outs) == 1
    found = status(out)
    assert found is not None
    assert (found.complete, found.dataset.shards) == (True, 40)
    assert out.read(".clipmill/lock.json") is None


def test_a_rendered_jobs_entrypoint_runs_where_clipmill_is_installed(
    token: None, drawn: Drawn, sharp_weights: Path, tmp_path: Path
) -> None:
    path = job(tmp_path, drawn.folder, sharp_weights, str(tmp_path / "out"))
    config, runs = yaml.safe_load_all(render(path, Values.given([], None)))
    mounted = tmp_path / "etc"
    mounted.mkdir()
    for name, text in config["data"].items():
        (mounted / name).write_text(text)
    entrypoint = runs["spec"]["entrypoint"].replace(str(Path(JOB_PATH).parent), str(mounted))
    (tmp_path / "ray").mkdir()
    with ray_head(tmp_path / "ray", with_clipmill=True) as head:
        client = JobSubmissionClient(head.dashboard, headers={"Authorization": f"Bearer {TOKEN}"})
        name = client.submit_job(entrypoint=entrypoint)
        follow(head.dashboard, name, lambda _: None)
    found = status(Output.at(str(tmp_path / "out")))
    assert found is not None
    assert found.complete


def test_a_cancelled_job_stops(token: None, head: Head, drawn: Drawn, sharp_weights: Path, tmp_path: Path) -> None:
    path = job(tmp_path, drawn.folder, sharp_weights, str(tmp_path / "out"))
    name = submitted(path, head, tmp_path, "--no-wait").out.strip()
    stopped = started("cancel", name, "--address", head.dashboard)
    assert (stopped.code, stopped.out) == (0, "stopping\n")


def _command(path: Path, head: Head, root: Path) -> list[str]:
    from console import EXECUTABLE

    return [str(EXECUTABLE), "submit", str(path), "--address", head.dashboard, "--set", f"root={root}"]


def _words(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return words if "run" in words else []


def _until(true: object, seconds: float = 300) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)

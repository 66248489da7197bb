"""A specification's run: its steps as their commands do them, a webhook at the end, and a watch from elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from clipmill.jobs.cli.commands import command_of
from clipmill.jobs.showing.watching import follow
from clipmill.jobs.specifications.runner import run_specification
from clipmill.jobs.specifications.specification import Specification, SpecifiedStep, parse_specification
from clipmill.jobs.specifications.templates import Values
from clipmill.jobs.specifications.webhook import notifying
from clipmill.pipeline import EmbedJob
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.dataset.lock import LOCK
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.summary import Watch
from clipmill.pipeline.errors import InputError
from fakes import Ran
from made import make_dataset


class Hook:
    """A webhook's server, which remembers; `failures` requests are answered with 500 first."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.failures = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.failures:
                    hook.failures -= 1
                    self.send_error(500)
                    return
                hook.got.append(body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def test_the_webhook_learns_of_a_good_end(hook: Hook) -> None:
    hook.failures = 1
    with notifying(hook.url, {"kind": "embed"}):
        pass
    (said,) = hook.got
    assert (said["kind"], said["ok"], said["exit_code"], said["error"]) == ("embed", True, 0, None)
    assert said["began"] <= said["ended"]


def test_the_webhook_learns_of_a_bad_end_without_secrets(hook: Hook) -> None:
    with pytest.raises(InputError), notifying(hook.url, {}):
        raise InputError("http://u:hush@host/a.tar: no such file")
    (said,) = hook.got
    assert (said["ok"], said["exit_code"]) == (False, 2)
    assert "hush" not in said["error"]
    with pytest.raises(KeyboardInterrupt), notifying(hook.url, {}):
        raise KeyboardInterrupt
    assert hook.got[1]["exit_code"] == 130


def test_a_webhook_that_nobody_answers_does_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    with notifying("http://127.0.0.1:1/?token=hush", {}):
        pass
    said = capsys.readouterr().err
    assert "the webhook got no message" in said
    assert "hush" not in said


def test_a_run_does_its_steps_holds_their_locks_and_tells(hook: Hook, ran: Ran, base: EmbedJob, tmp_path: Path) -> None:
    did: list[str] = []

    def run_step(kind: str, job: EmbedJob) -> None:
        assert kind == "embed"
        assert Output.at(job.out).read(LOCK) is not None
        did.append(Path(job.out).name)

    steps = tuple(SpecifiedStep(name, "embed", EmbedJob([], str(tmp_path / name), "tiny")) for name in ("a", "b"))
    run_specification(Specification("pipeline", steps, hook.url), run_step)
    assert did == ["a", "b"]
    assert hook.got[0]["steps"] == ["a", "b"]
    assert Output.at(str(tmp_path / "a")).read(LOCK) is None


def test_a_pipeline_forgets_rows_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    rows = {"url": ["u0", "u1", "u2"], "similarity": [0.1, 0.2, 0.3], "image_embedding": [[1.0, 0, 0, 0]] * 3}
    dataset = make_dataset(tmp_path / "in", [rows])
    (tmp_path / "gone.txt").write_text("u1\n")
    forgetting = {"dataset": dataset.url, "urls": str(tmp_path / "gone.txt")}
    filtering = {"dataset": "{{ steps.takedowns.dataset }}", "out": str(tmp_path / "best"), "columns": "url"}
    steps = [{"name": "takedowns", "forget": forgetting}, {"name": "best", "filter": filtering}]
    content = {"apiVersion": "clipmill/v1", "kind": "pipeline", "steps": steps}
    specification = parse_specification(content, Values.given((), None), "job.yaml")
    run_specification(specification, lambda kind, job: command_of(kind)(job, json_=True))
    forgotten, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert (forgotten["new"], forgotten["pending"]) == (1, 1)
    assert pq.read_table(tmp_path / "best" / "data", columns=["url"])["url"].to_pylist() == ["u0", "u2"]


def test_a_watch_ends_when_the_dataset_is_complete(ran: Ran, job: EmbedJob, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output.at(job.out)
    output.delete(SUCCESS)
    watch = Watch(output)
    first = watch.look()
    assert first is not None
    assert not first.complete
    threading.Timer(0.5, lambda: output.write(SUCCESS, b"")).start()
    last = follow(watch, first, 0.1, True)
    assert last.complete
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 2
    assert [lines[0]["complete"], lines[-1]["complete"]] == [False, True]

"""Secrets given by options, the environment and URLs are in nothing that is written or printed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from clipmill.jobs.clusters.submit import Submission, submit
from clipmill.pipeline.errors import UserError
from console import Console, Ran, console
from fakes import Drawn
from s3 import Bucket

HOOK = "planted-in-a-webhook"  # a path that is a secret, as chats have them
ENVIRONMENT = "planted-in-the-environment"
IN_URL = "planted-in-a-url"

JOB = """\
apiVersion: clipmill/v1
kind: pipeline
notify: "http://127.0.0.1:9/{{ env.PLANTED_HOOK }}?token={{ env.PLANTED_TOKEN }}"
vars:
  storage: {endpoint_url: "{{ env.AWS_ENDPOINT_URL }}", key: "{{ env.ACCESS }}", secret: "{{ env.PLANTED_SECRET }}"}
steps:
  - embed:
      inputs: "{{ vars.root }}/in/*.tar"
      out: "{{ vars.root }}/embeddings"
      model: "{{ vars.model }}"
      storage_options: "{{ vars.storage }}"
  - label:
      dataset: "{{ steps.embed.out }}"
      out: "{{ vars.root }}/labels"
      classes: "{{ vars.root }}/in/classes.txt"
      model: "{{ vars.model }}"
      storage_options: "{{ vars.storage }}"
  - filter:
      dataset: "{{ steps.embed.out }}"
      out: "{{ vars.root }}/best"
      top_fraction: 0.9
      storage_options: "{{ vars.storage }}"
  - export:
      dataset: "{{ steps.embed.out }}"
      out: "{{ vars.root }}/exported"
      to: clip-retrieval
      storage_options: "{{ vars.storage }}"
  - dedup:
      dataset: "{{ steps.embed.out }}"
      out: "{{ vars.root }}/unique"
      within: "{{ steps.filter.out }}"
      storage_options: "{{ vars.storage }}"
  - reshard:
      source: "{{ steps.dedup.out }}"
      out: "{{ vars.root }}/shards"
      storage_options: "{{ vars.storage }}"
  - report:
      dataset: "{{ steps.embed.out }}"
      out: "{{ vars.root }}/report.html"
      labels: "{{ steps.label.out }}"
      storage_options: "{{ vars.storage }}"
"""


@pytest.fixture
def secrets(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What must not be seen. The store's own secret is a real one, or nothing could be written."""
    account = bucket.server.owner
    monkeypatch.setenv("ACCESS", account.key)
    monkeypatch.setenv("PLANTED_SECRET", account.secret)
    monkeypatch.setenv("PLANTED_TOKEN", ENVIRONMENT)
    monkeypatch.setenv("PLANTED_HOOK", HOOK)
    monkeypatch.setenv("HF_TOKEN", ENVIRONMENT)
    return [account.secret, ENVIRONMENT, HOOK, IN_URL]


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "200")
    return console(monkeypatch, capsys)


def texts_in(name: str, content: bytes) -> Iterator[str]:
    """All that a file says; Parquet is compressed, and says nothing to those who only look at its bytes."""
    yield content.decode("latin-1")
    if name.endswith(".parquet"):
        table = pq.read_table(io.BytesIO(content))
        yield str(table.schema.metadata)
        for field in table.schema:
            if not pa.types.is_fixed_size_list(field.type):
                yield str(table[field.name].to_pylist())


def leaks(secrets: list[str], said: dict[str, str]) -> list[str]:
    return [f"{secret} in {name}" for name, text in said.items() for secret in secrets if secret in text]


def printed(*runs: Ran) -> dict[str, str]:
    return {f"output {number}": ran.out + ran.err for number, ran in enumerate(runs)}


def ray_logs() -> dict[str, str]:
    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    return {path.name: path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()}


def test_a_whole_pipeline_keeps_them_to_itself(
    cluster: None, secrets: list[str], bucket: Bucket, drawn: Drawn, sharp_weights: Path, tmp_path: Path,
    clipmill: Console,
) -> None:  # fmt: skip
    bucket.storage.put_file(str(drawn.tars[0]), bucket.url("in/00000.tar"))
    bucket.storage.pipe_file(bucket.url("in/classes.txt"), b"red star\nblue fish\n")
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    given = ("--set", f"root=s3://{bucket.name}", "--set", f"model=tiny={sharp_weights}")
    runs = [
        clipmill("run", path, *given, "--dry-run"),
        clipmill("--log", "text", "run", path, *given),
        clipmill("--log", "json", "run", path, *given, "--json"),
        clipmill("render", path, *given),
        clipmill("status", bucket.url("embeddings"), "--json"),
    ]
    assert [ran.code for ran in runs] == [0] * len(runs), [ran.err for ran in runs]
    objects = bucket.objects()
    assert {"report.html", "embeddings/.clipmill/plan.json", "shards/00000.tar"} <= set(objects)
    written = {name: "\n".join(texts_in(name, content)) for name, content in objects.items()}
    assert leaks(secrets, {**written, **printed(*runs), **ray_logs()}) == []


def test_failures_do_not_tell_them(
    cluster: None, secrets: list[str], bucket: Bucket, drawn: Drawn, tmp_path: Path, clipmill: Console
) -> None:
    flags = [f"--storage-option={name}={value}" for name, value in bucket.server.options().items()]
    wrong = [f"--storage-option={name}={value}" for name, value in {**bucket.server.options(), "key": "no"}.items()]
    out = bucket.url("out")
    runs = [
        clipmill("embed", bucket.url("no/*.tar"), "-o", out, "-m", "tiny", *flags),
        clipmill("embed", bucket.url("no/*.tar"), "-o", out, "-m", "tiny", *flags, "--debug"),
        clipmill("embed", bucket.url("no/*.tar"), "-o", out, "-m", "tiny", *wrong, "--debug"),
        clipmill("embed", drawn.folder, "-o", out, "-m", "tiny", *flags, f"--storage-option={ENVIRONMENT}"),
    ]
    assert 0 not in [ran.code for ran in runs]
    assert leaks(secrets, printed(*runs)) == []


SIGNED = [f"http://user:{IN_URL}@127.0.0.1:9/a", f"http://127.0.0.1:9/a?X-Amz-Signature={IN_URL}"]


@pytest.mark.parametrize("url", SIGNED)
@pytest.mark.parametrize("place", ["input", "list", "out", "weights", "dataset", "classes"])
def test_a_url_with_a_secret_in_it_is_refused(
    url: str, place: str, drawn: Drawn, tmp_path: Path, clipmill: Console
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{url}.tar\n")
    good, out = str(drawn.tars[0]), tmp_path / "out"
    arguments: dict[str, list[Any]] = {
        "input": ["embed", url, "-o", out, "-m", "tiny"],
        "list": ["embed", f"@{listed}", "-o", out, "-m", "tiny"],
        "out": ["embed", good, "-o", url, "-m", "tiny"],
        "weights": ["embed", good, "-o", out, "-m", f"tiny={url}"],
        "dataset": ["status", url],
        "classes": ["label", url, "-o", out, "--classes", url],
    }
    said = clipmill(*arguments[place]).complaint()
    assert IN_URL not in said
    assert "--storage-option" in said
    assert not list(tmp_path.rglob("plan.json"))


def test_a_cluster_is_not_sent_secrets_where_it_would_show_them(tmp_path: Path) -> None:
    for variable in (f"aws_secret={IN_URL}", f"root={SIGNED[0]}"):
        with pytest.raises(UserError, match="dashboard would show") as error:
            submit(Submission("", "http://127.0.0.1:9", "2026-11-25", (variable,)))
        assert IN_URL not in str(error.value)


@pytest.mark.parametrize("content", [IN_URL, [f"secret={IN_URL}"]])
def test_options_of_the_wrong_kind_are_not_repeated(content: Any, tmp_path: Path, clipmill: Console) -> None:
    spec = {"inputs": "a.tar", "out": "o", "model": "tiny", "storage_options": content}
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({"apiVersion": "clipmill/v1", "kind": "embed", "spec": spec}))
    said = clipmill("run", path).complaint()
    assert "storage_options" in said
    assert IN_URL not in said


def test_a_manifest_with_a_secret_in_it_is_refused(tmp_path: Path, clipmill: Console) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("{{ env.PLANTED_SECRET }}", IN_URL))
    said = clipmill("render", path, "--set", "root=s3://b", "--set", "model=tiny").complaint()
    assert "vars.storage.secret" in said
    assert IN_URL not in said

"""What is read only once, such as `<(…)`: every option that names a small file takes it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clipmill.jobs.cli.early import check_early
from clipmill.jobs.clusters import submit as submitting
from clipmill.pipeline import EmbedJob
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.storage.streams import is_stream
from console import Console, console
from fakes import Ran, jpeg, write_pairs

Pipe = Callable[[str | bytes], str]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """The name that a shell gives a command for `<(…)`."""
    ends = []

    def piped(content: str | bytes) -> str:
        read, write = os.pipe()
        os.write(write, content.encode() if isinstance(content, str) else content)
        os.close(write)
        ends.append(read)
        return f"/dev/fd/{read}"

    yield piped
    for end in ends:
        os.close(end)


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return console(monkeypatch, capsys)


def test_a_pipe_is_known_from_a_file(pipe: Pipe, tmp_path: Path) -> None:
    assert is_stream(pipe("")) and is_stream("/dev/null")
    assert not any(map(is_stream, (str(tmp_path), __file__, "nowhere", "s3://b/x", "a\0b", "x" * 5000, "")))


def test_classes_and_templates(clipmill: Console, pipe: Pipe, ran: Ran, sharp_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("red star\nblue fish")
    (tmp_path / "templates.txt").write_text("a drawing of a {}.\na {}")
    same = ("--model", f"tiny={sharp_weights}", "--json")
    from_files = clipmill(
        "label", ran.out, "-o", tmp_path / "a", "--classes", tmp_path / "classes.txt", "--templates",
        tmp_path / "templates.txt", *same,
    )  # fmt: skip
    piped = clipmill(
        "label", ran.out, "-o", tmp_path / "b", "--classes", pipe("red star\nblue fish"), "--templates",
        pipe("a drawing of a {}.\na {}"), *same,
    )  # fmt: skip
    assert (from_files.code, piped.code) == (0, 0), from_files.err + piped.err
    a, b = (json.loads(each.out) for each in (from_files, piped))
    assert (a["counts"], a["prompts"]) == (b["counts"], b["prompts"])
    settings = [json.loads((tmp_path / out / ".clipmill" / "step.json").read_text()) for out in "ab"]
    assert settings[0] == settings[1]
    refused = clipmill("label", ran.out, "-o", tmp_path / "c", "--classes", pipe("\n"), *same)
    assert (refused.code, "no class in it" in refused.complaint()) == (2, True)


def test_a_vocabulary_and_an_image(clipmill: Console, pipe: Pipe, ran: Ran, sharp_weights: Path) -> None:
    counted = clipmill("filter", ran.out, "--count", "--recipe", "text_based", "--vocabulary", pipe("star"), "--json")
    assert 0 < json.loads(counted.out)["funnel"]["kept"] < 108
    found = clipmill(
        "search", ran.out, "--image", pipe(jpeg(1, 64, 64)), "-k", 2, "--model", f"tiny={sharp_weights}", "--json"
    )
    assert found.code == 0, found.err
    assert len(json.loads(found.out)["hits"]) == 2


def test_a_list_of_inputs(pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "a.tar", 1)
    write_pairs(tmp_path / "b.tar", 1)
    for mark in ("@", ""):
        named = f"{mark}{pipe(f'a.tar{os.linesep}{tmp_path}/b.tar')}"
        check_early(EmbedJob((named,), str(tmp_path / "out"), "tiny"))  # leaves it alone
        assert [shard.url for shard in list_shards([named])] == [f"{tmp_path}/a.tar", f"{tmp_path}/b.tar"]
    with pytest.raises(InputError, match="the list is empty"):
        list_shards([pipe("")])


SPECIFICATION = {"apiVersion": "clipmill/v1", "kind": "filter", "spec": {"dataset": "in", "out": "out"}}


def test_specifications(clipmill: Console, pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump({**SPECIFICATION, "cluster": {"image": "clipmill:1.0"}})
    (tmp_path / "job.yaml").write_text(text)
    for command in (("run", "--dry-run"), ("render",)):
        from_file, piped = (clipmill(*command, name) for name in (tmp_path / "job.yaml", pipe(text)))
        assert (piped.code, piped.out) == (0, from_file.out), piped.err
    sent: list[Any] = []
    monkeypatch.setattr(submitting, "submit", lambda submission: sent.append(submission) or "job-1")
    assert clipmill("submit", pipe(text), "--address", "http://127.0.0.1:9", "--no-wait").code == 0
    assert sent[0].specification == text


def test_a_list_of_urls_is_refused_since_it_could_not_be_resumed(clipmill: Console, pipe: Pipe, tmp_path: Path) -> None:
    refused = clipmill("ingest", pipe("http://127.0.0.1:9/a.jpg"), "-o", tmp_path / "out")
    assert (refused.code, "a pipe cannot be ingested" in refused.complaint()) == (2, True)
    assert not (tmp_path / "out").exists()

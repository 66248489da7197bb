"""No half pair passes for a whole one: they are refused where there is nothing else, and else counted by cause in the
parts' footers, the manifest, the summary and the metrics' source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import EmbedJob, embed, status
from clipmill.pipeline.dataset.manifest_files import MANIFEST
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running.events import Event, Notice
from fakes import jpeg, write_tar

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def job(base: EmbedJob, tmp_path: Path) -> EmbedJob:
    return replace(base, inputs=[str(tmp_path / "in.tar")], out=str(tmp_path / "out"))


def write(job: EmbedJob, *members: tuple[str, bytes]) -> None:
    write_tar(Path(job.inputs[0]), iter(members))


MIXED: Sequence[tuple[str, bytes]] = (
    ("a.jpg", jpeg(1)), ("a.txt", b"a red square"),
    ("b.jpg", jpeg(2)),
    ("c.txt", b"a blue circle"),
    ("d.jpg", jpeg(3)), ("d.txt", b""),
    ("e.jpg", jpeg(4)), ("e.prompt", b"a green star"),
)  # fmt: skip
CAUSES = {"caption: no file": 1, "caption: empty": 1, "caption: not understood": 1, "image: no file": 1}


def test_half_pairs_are_counted_by_cause_everywhere(job: EmbedJob) -> None:
    write(job, *MIXED)
    summary = embed(job)
    assert (summary.dataset.rows, summary.dataset.embedded) == (5, 5)
    assert summary.dataset.half_pairs == CAUSES == summary.run.half_pairs
    assert summary.as_json()["dataset"]["half_pairs"] == CAUSES
    (part,) = Path(job.out).glob("data/*.parquet")
    assert json.loads(pq.read_metadata(part).metadata[b"clipmill.counts"])["half_pairs"] == CAUSES


def test_status_knows_them_from_the_manifest_and_from_footers(job: EmbedJob) -> None:
    write(job, *MIXED)
    embed(job)
    output = Output.at(job.out)
    for _ in range(2):
        found = status(output)
        assert found is not None and found.dataset.half_pairs == CAUSES
        output.delete(MANIFEST)


def test_one_side_alone_is_no_half_pair_where_only_that_side_is_wanted(job: EmbedJob) -> None:
    write(job, ("b.jpg", jpeg(2)), ("c.jpg", jpeg(3)))
    assert embed(replace(job, texts=False)).dataset.half_pairs == {}


def test_a_run_of_nothing_but_half_pairs_is_refused_before_it_begins(job: EmbedJob) -> None:
    write(job, ("b.jpg", jpeg(2)), ("c.jpg", jpeg(3)))
    with pytest.raises(UserError, match="none of the first 2 samples has both an image and a caption") as error:
        embed(job)
    assert "--no-texts" in str(error.value) and "--allow-half-pairs" in str(error.value)
    assert not Path(job.out).exists()
    summary = embed(replace(job, allow_half_pairs=True))
    assert summary.dataset.half_pairs == {"caption: no file": 2}


def test_captions_under_another_name_are_told_of_and_found_when_named(job: EmbedJob) -> None:
    pairs = [(f"{k}.{name}", content) for k in "ab" for name, content in (("jpg", jpeg(5)), ("prompt", b"a star"))]
    write(job, ("0.jpg", jpeg(1)), ("0.txt", b"a dog"), *pairs)
    events: list[Event] = []
    embed(job, events.append)
    (notice,) = [event.text for event in events if isinstance(event, Notice)] or [""]
    assert "prompt" in notice and "--caption-key" in notice
    shutil.rmtree(job.out)
    summary = embed(replace(job, caption_keys=("prompt", "txt")))
    assert summary.dataset.half_pairs == {}
    (part,) = Path(job.out).glob("data/*.parquet")
    assert pq.read_table(part)["caption"].to_pylist() == ["a dog", "a star", "a star"]


def test_keys_that_come_back_are_counted(job: EmbedJob) -> None:
    """A tar with all images first and all captions after."""
    images = [(f"{n}.jpg", jpeg(n)) for n in range(3)]
    captions = [(f"{n}.txt", b"a dog") for n in range(3)]
    write(job, ("x.jpg", jpeg(9)), ("x.txt", b"a cat"), *images, *captions)
    summary = embed(job)
    assert summary.dataset.notes == {"key came back": 3}
    assert summary.dataset.half_pairs == {"caption: no file": 3, "image: no file": 3}

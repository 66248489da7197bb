"""What has changed since it was embedded is named, and what is wrong is one line."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import FUNNEL, begin_subset
from clipmill.pipeline.errors import InputError, OutputError, PlanMismatchError, UserError
from clipmill.pipeline.job import ReshardJob
from clipmill.pipeline.resharding.reshard import reshard
from embedded import embed_here
from fakes import jpeg, write_tar
from made import make_dataset
from reshard_kit import files_of, make_shards, subset_of, tars


@pytest.fixture
def own(tmp_path: Path) -> tuple[Dataset, list[Path]]:
    """A dataset whose shards may be changed."""
    shards = make_shards(tmp_path / "shards", 2)
    return embed_here(shards, tmp_path / "out"), shards


def test_a_source_shard_that_is_gone_or_has_changed_is_named(own: tuple[Dataset, list[Path]], tmp_path: Path) -> None:
    made, shards = own
    job = ReshardJob(made.url, str(tmp_path / "new"))
    shutil.copy(shards[1], tmp_path / "kept")
    write_tar(shards[1], [("00000.jpg", jpeg(1))])
    with pytest.raises(InputError, match=rf"{shards[1]} has changed since it was embedded"):
        reshard(job)
    shards[1].unlink()
    with pytest.raises(InputError, match=rf"{shards[1]} is gone, so its samples cannot be read again"):
        reshard(job)
    assert tars(job.out) == []


@pytest.mark.usefixtures("way")
def test_other_bytes_of_the_same_size_and_age_are_noticed(own: tuple[Dataset, list[Path]], tmp_path: Path) -> None:
    made, shards = own
    stat = shards[0].stat()
    content = shards[0].read_bytes()
    place = content.index(jpeg(5)) + 100
    shards[0].write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    os.utime(shards[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(
        InputError, match=rf"{shards[0]}: row 5 \(00005\) is not the sample that was embedded: its image has changed"
    ):
        reshard(ReshardJob(made.url, str(tmp_path / "new")))
    shards[0].write_bytes(b"\0" * len(content))
    os.utime(shards[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(
        InputError, match=r"row 0 \(00000\) is not the sample that was embedded: the sample is not there any more"
    ):
        reshard(ReshardJob(made.url, str(tmp_path / "new")))


def test_a_subset_that_is_older_than_its_part_is_refused(own: tuple[Dataset, list[Path]], tmp_path: Path) -> None:
    made, shards = own
    subset = subset_of(made, tmp_path / "subset", lambda _, row: row > 5)
    write_tar(shards[0], [(f"x{i}.{kind}", data) for i in range(20) for kind, data in files_of(0, i)])
    shutil.rmtree(tmp_path / "out")
    embed_here(shards, tmp_path / "out")
    with pytest.raises(InputError, match="was embedded again since this subset was made; make the subset again"):
        reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))
    funnel = Path(subset.output.url) / FUNNEL
    stamps = Dataset.open(made.url).stamps  # as if the new parts had the very same ones
    funnel.write_text(json.dumps({**json.loads(funnel.read_text()), "stamps": stamps}))
    with pytest.raises(InputError, match="has changed since the subset was made from it; make the subset again"):
        reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))


def test_other_rows_of_as_many_are_another_subset(own: tuple[Dataset, list[Path]], tmp_path: Path) -> None:
    made, _ = own
    subset = subset_of(made, tmp_path / "subset", lambda _, row: row < 5)
    reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))
    assert reshard(ReshardJob(subset.output.url, str(tmp_path / "new"))).shards_done_before > 0
    shutil.rmtree(tmp_path / "subset")
    subset = subset_of(made, tmp_path / "subset", lambda _, row: 5 <= row < 10)
    with pytest.raises(PlanMismatchError, match="of sources is"):
        reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))


def test_a_folder_of_other_shards_is_refused(own: tuple[Dataset, list[Path]], tmp_path: Path) -> None:
    made, shards = own
    before = shards[0].read_bytes()
    with pytest.raises(
        OutputError, match=r"holds 00000\.tar, which `clipmill reshard` did not write: choose another folder"
    ):
        reshard(ReshardJob(made.url, str(tmp_path / "shards")))
    assert shards[0].read_bytes() == before
    with pytest.raises(OutputError, match="is the output of `clipmill embed`"):
        reshard(ReshardJob(made.url, made.url))


def test_other_settings_into_the_same_folder_are_refused(job: ReshardJob, dataset: Dataset, tmp_path: Path) -> None:
    reshard(job)
    with pytest.raises(PlanMismatchError, match="samples per shard is 11, not 10"):
        reshard(replace(job, samples_per_shard=11))
    with pytest.raises(PlanMismatchError, match="shuffle is 1, not None"):
        reshard(replace(job, shuffle=1))
    subset = subset_of(dataset, tmp_path / "subset", lambda _, row: row == 8)
    with pytest.raises(PlanMismatchError, match=r"subset is .*; samples is 3, not 51"):
        reshard(replace(job, source=subset.output.url))


def test_what_is_no_subset_is_said(job: ReshardJob, tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="is not a clipmill dataset"):
        reshard(replace(job, source=str(tmp_path / "nothing")))
    labels = Output.at(str(tmp_path / "labels")).prepare()
    begin(labels, "label", {"dataset": dataset.url, "fingerprint": dataset.settings.digest})
    with pytest.raises(InputError, match="is not a subset"):
        reshard(replace(job, source=labels.url))
    begin_subset(Output.at(str(tmp_path / "half")).prepare(), "filter", dataset, {})
    with pytest.raises(InputError, match="not finished; run the same `clipmill filter` again"):
        reshard(replace(job, source=str(tmp_path / "half")))
    with pytest.raises(UserError, match="--samples-per-shard 0: must be at least 1"):
        reshard(replace(job, samples_per_shard=0))


def test_a_subset_of_a_dataset_that_was_made_anew_is_refused(own: tuple[Dataset, list[Path]], tmp_path: Path) -> None:
    made, _ = own
    subset = subset_of(made, tmp_path / "subset", lambda *_: True)
    shutil.rmtree(tmp_path / "out")
    make_dataset(tmp_path / "out", [{"key": ["a"]}])
    with pytest.raises(InputError, match="a subset of "):
        reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))

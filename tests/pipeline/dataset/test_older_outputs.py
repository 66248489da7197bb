"""Outputs of older versions open for ever: once moved where the message says, nothing of them is made again."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel.config import VARIANTS
from clipmill.clipmodel.weights import ModelCard
from clipmill.pipeline import EmbedJob, FilterJob, LabelJob, embed, filter, label
from clipmill.pipeline.dataset.columns import columns_besides
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begun
from clipmill.pipeline.dataset.labels import Labels
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.dataset.plan import PLAN, Fingerprint, freeze, planned_shards, read_plan
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.dataset.summary import status
from clipmill.pipeline.errors import OutputError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.searching.ann import read_card
from fakes import files
from release import UNPACKED
from s3 import Bucket

DATA = Path(__file__).resolve().parents[2] / "data"
NOVEMBER, RELEASE = DATA / "outputs_november.tar.gz", DATA / "outputs_0.1.tar.gz"
WHERE, WHERE_LATER = "/tmp/nov", "/tmp/outputs"  # where they were made
FOLDERS = ("embeddings", "labels", "best", "unique", "index", "best-shards")


@pytest.fixture
def november(tmp_path: Path) -> Path:
    """A folder of outputs as they were in November 2026: parts beside each other, and their names shorter."""
    return unpacked(NOVEMBER, tmp_path, WHERE)


def unpacked(outputs: Path, folder: Path, made_in: str) -> Path:
    with tarfile.open(outputs) as tar:
        tar.extractall(folder, **UNPACKED)
    for settings in [*folder.glob("*/_clipmill/*.json"), *folder.glob("*/.clipmill/*.json")]:
        settings.write_text(settings.read_text().replace(f"{made_in}/", f"{folder}/"))
    return folder


def told(call: Callable[[], Any]) -> str:
    """The shell commands that the refusal names."""
    with pytest.raises(OutputError, match="was made by an earlier clipmill") as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value).partition("then run this again: ")[2]


def move(folder: Path) -> None:
    subprocess.run(["bash", "-ec", told(Output.at(str(folder)).prepare)], check=True)


@pytest.fixture
def moved(november: Path) -> Path:
    for name in FOLDERS:
        move(november / name)
    return november


def test_every_step_says_how_to_move_it_and_touches_nothing(november: Path) -> None:
    before = files(str(november))
    place = november / "embeddings"
    moves = "mkdir -p data && mv *.parquet data/ && mv _SUCCESS _clipmill/ && mv _clipmill .clipmill"
    commands = f"cd {place} && {moves}"
    assert told(lambda: Dataset.open(str(place))) == commands
    assert told(lambda: status(Output.at(str(place)))) == commands
    assert told(lambda: embed(EmbedJob([str(november / "best-shards")], str(place), "tiny"))) == commands
    best = november / "best"
    commands = f"cd {best} && mkdir -p data && mv *.parquet data/ && mv _clipmill .clipmill"
    assert told(lambda: Subset.open(str(best))) == commands
    assert told(lambda: begun(Output.at(str(november / "best-shards")))).endswith(
        "best-shards && mv _clipmill .clipmill"
    )
    assert told(lambda: begun(Output.at(str(november / "index")))).endswith("index && mv _clipmill .clipmill")
    assert files(str(november)) == before


def test_no_step_begins_anew_over_an_older_output(november: Path) -> None:
    move(november / "embeddings")
    dataset = str(november / "embeddings")
    before = files(str(november))
    told(lambda: filter(FilterJob(dataset, str(november / "best"), top_fraction=0.5)))
    told(lambda: label(LabelJob(dataset, str(november / "labels"), str(november / "classes.txt"))))
    assert files(str(november)) == before


def test_a_moved_dataset_is_whole(moved: Path) -> None:
    dataset = Dataset.open(str(moved / "embeddings"))
    assert len(dataset.parts) == 3 and all(len(part) == len("00000-01234567.parquet") for part in dataset.parts)
    rows = [row for part in dataset.parts for row in dataset.read(part, ["shard", "row", "error"]).to_pylist()]
    assert len(rows) == 18 and sum(row["error"] is None for row in rows) == 16
    now = status(dataset.output)
    assert now is not None and now.complete and (now.planned, now.dataset.rows) == (3, 18)
    assert dataset.shards() == [f"{WHERE}/shards/0000{number}.tar" for number in range(3)]


def test_nothing_of_a_moved_dataset_is_embedded_again(moved: Path) -> None:
    output = Output.at(str(moved / "embeddings"))
    settings = read_plan(output)
    assert settings is not None
    before, new = planned_shards(output), Shard(f"{WHERE}/shards/00003.tar", 5)
    plan = freeze(
        output, settings, [*(Shard(shard.url, shard.size, shard.etag) for shard in before), new], output.parts()
    )
    left = [shard for shard in plan.listed if shard.part_name not in output.parts()]
    assert left == [new] and not plan.changed
    assert planned_shards(output) == [*before, new]  # the older parts keep their names
    names = ledger(output, plan.shards, Manifest.of()).column("part").to_pylist()
    assert names == [shard.part_name for shard in before]


def test_moved_subsets_labels_and_indexes_still_fit(moved: Path) -> None:
    check_all_fit(moved)


def test_the_outputs_of_0_1_are_as_they_were(tmp_path: Path) -> None:
    place = unpacked(RELEASE, tmp_path, WHERE_LATER)
    dataset = Dataset.open(str(place / "embeddings"))
    now = status(dataset.output)
    assert now is not None and now.complete and (now.planned, now.dataset.rows, now.dataset.embedded) == (3, 18, 16)
    assert all(len(part) == len("00000-0123456789abcdef.parquet") for part in dataset.parts)
    check_all_fit(place)
    begun = read_plan(dataset.output)
    assert begun is not None and begun.digest == json.loads(dataset.output.read(PLAN) or b"")["fingerprint"]
    card = ModelCard("tiny", "clipmill", begun.weights_sha256, VARIANTS["tiny"])
    job = EmbedJob([], dataset.url, "tiny")  # the command that made it
    settings = Fingerprint.of({"": card}, "fp32", PartLayout(columns_besides(()), 256, 77), job).going_on(begun)
    assert settings == begun
    plan = freeze(dataset.output, settings, planned_shards(dataset.output), dataset.output.parts())
    assert [shard.part_name for shard in plan.listed] == list(dataset.parts) and not plan.changed


def check_all_fit(moved: Path) -> None:
    """Subsets, labels and the index are of the dataset, and nothing is made again."""
    dataset = Dataset.open(str(moved / "embeddings"))
    for name, kept in (("best", 9), ("unique", 16)):
        subset = Subset.open(str(moved / name))
        subset.check_fits(dataset)
        assert (
            sum(pq.read_metadata(subset.url_of(part)).num_rows for part in subset.parts) == subset.funnel.kept == kept
        )
    labels = Labels.open(str(moved / "labels"), dataset)
    labels.check_fits(dataset)
    card = read_card(Output.at(str(moved / "index")))
    assert card is not None and card.version == dataset.version
    before = files(str(moved / "best"))
    assert filter(FilterJob(dataset.url, str(moved / "best"), top_fraction=0.5)).done_before
    assert files(str(moved / "best")) == before
    by_label = FilterJob(dataset.url, str(moved / "new"), where=["labels.label = 'a star'"], labels=labels.output.url)
    assert 0 < filter(by_label).funnel.kept < 16


def test_on_a_store_the_message_names_the_stores_own_commands(november: Path, bucket: Bucket) -> None:
    bucket.storage.put(f"{november}/embeddings", f"{bucket.name}/", recursive=True)
    output = Output.at(bucket.url("embeddings"), bucket.server.options())
    commands = told(output.prepare).split(" && ")
    url = bucket.url("embeddings")
    assert commands == [
        f"aws s3 mv {url}/ {url}/data/ --recursive --exclude '*' --include '*.parquet' --exclude '*/*'",
        f"aws s3 mv {url}/_SUCCESS {url}/_clipmill/_SUCCESS",
        f"aws s3 mv {url}/_clipmill/ {url}/.clipmill/ --recursive",
    ]
    for key in [key for key in bucket.objects() if key.startswith("embeddings/")]:  # what they do
        name = key.removeprefix("embeddings/")
        new = (
            f"data/{name}"
            if name.endswith(".parquet") and "/" not in name
            else f".clipmill/{name.removeprefix('_clipmill/')}"
        )
        bucket.storage.mv(f"{bucket.name}/{key}", f"{bucket.name}/embeddings/{new}")
    assert len(Dataset.open(url, bucket.server.options()).parts) == 3

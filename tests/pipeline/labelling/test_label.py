"""Labels: the most probable classes of each image, row by row; resumed, grown, refused; how right they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from clipmill.clipmodel.weights import Loaded
from clipmill.clipmodel.zeroshot import probabilities
from clipmill.pipeline import LabelJob, label
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.labels import Labels
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.subset import IDENTITY, Funnel, begin_subset, finish_subset, write_subset_part
from clipmill.pipeline.errors import InputError, PlanMismatchError, UserError
from clipmill.pipeline.labelling import label as labelling
from clipmill.pipeline.labelling.label import BACKGROUND, SUMMARY
from clipmill.pipeline.labelling.part import LabelCounts
from clipmill.pipeline.records import Vectors
from clipmill.pipeline.running.stages import Stage
from fakes import files
from label_kit import NAMES, NOTHING
from made import make_dataset


def rows(job: LabelJob) -> list[dict[str, Any]]:
    parts = Dataset.open(job.dataset).parts
    return [row for part in parts for row in pq.read_table(Path(job.out) / "data" / part).to_pylist()]


def test_each_image_gets_its_most_probable_classes(make: Any, classes: Vectors, sharp: Loaded) -> None:
    job = make()
    summary = label(job)
    assert (summary.classes, summary.prompts, summary.parts, summary.parts_done_before) == (4, 4, 2, 0)
    assert summary.counts == LabelCounts(rows=6, labelled=5)
    dataset = pa.Table.from_batches(Dataset.open(job.dataset).batches(["key", "shard", "row", "image_embedding"]))
    for row, source in zip(rows(job), dataset.to_pylist(), strict=True):
        assert all(row[name] == source[name] for name in ("key", "shard", "row"))
        if source["image_embedding"] is None:
            assert row["error"] == "decode: no image"
            assert all(row[name] is None for name in ("label", "label_id", "probability", "margin", "labels"))
            continue
        image = torch.tensor(source["image_embedding"], dtype=torch.float32)[None]
        shares, places = probabilities(image, torch.from_numpy(classes), sharp.model.logit_scale)[0].topk(3)
        assert row["labels"] == [NAMES[place] for place in places]
        assert row["probabilities"] == pytest.approx(shares.tolist(), abs=1e-5)
        assert (row["label"], row["label_id"]) == (row["labels"][0], 10 * (int(places[0]) + 1))
        assert row["probability"] == row["probabilities"][0]
        assert row["margin"] == pytest.approx(float(shares[0] - shares[1]), abs=1e-5)
        assert row["error"] is None


def test_below_the_threshold_the_label_is_none(make: Any) -> None:
    job = replace(make(), threshold=1.0)
    assert label(job).counts == LabelCounts(rows=6, labelled=0, none=5)
    for row in rows(job):
        assert (row["label"], row["label_id"]) == (None if row["error"] else "none", None)
        assert row["error"] or (row["probability"] < 1 and len(row["labels"]) == 3)


@pytest.fixture
def house_in_the_background(sharp: Loaded, make: Any, tmp_path: Path) -> LabelJob:
    """Without the class that the last two images show."""
    (tmp_path / "three.txt").write_text("\n".join(NAMES[:3]))
    return replace(make(), classes=str(tmp_path / "three.txt"), background=("a house", "green bolt"))


def test_what_the_background_fits_better_is_none(house_in_the_background: LabelJob) -> None:
    job = house_in_the_background
    summary = label(job)
    assert summary.counts == LabelCounts(rows=6, labelled=3, none=2, uncovered=2)
    assert summary.background == ("a house", "green bolt")
    by_label = [(row["label"], row["background"]) for row in rows(job) if not row["error"]]
    assert [name for name, _ in by_label] == ["red star", "blue fish", "grey crescent", "none", "none"]
    assert all((background > 0.5) == (name == "none") for name, background in by_label)
    saved = json.loads((Path(job.out) / SUMMARY).read_text())
    assert saved["counts"] == {"rows": 6, "labelled": 3, "none": 2, "uncovered": 2}
    assert label(job).counts == summary.counts


def test_general_words_are_measured_and_change_no_label(house_in_the_background: LabelJob) -> None:
    job = replace(house_in_the_background, background=())
    summary = label(job)
    assert summary.counts.none == 0 and summary.background == BACKGROUND
    found = [row for row in rows(job) if not row["error"]]
    assert all(0 <= row["background"] <= 1 and 0 <= row["entropy"] <= 1 for row in found)
    covered, uncovered = found[:3], found[3:]
    assert min(row["label_similarity"] for row in covered) > 0.95 > max(row["label_similarity"] for row in uncovered)


def test_one_class_alone_is_certain(make: Any, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("anything\n")
    job = replace(make(), classes=str(tmp_path / "one.txt"), top_k=5)
    label(job)
    found = [row for row in rows(job) if not row["error"]]
    assert {(row["label"], row["label_id"], row["probability"], row["margin"]) for row in found} == {
        ("anything", 0, 1, 1)
    }


def test_again_there_is_nothing_to_do_and_no_model_is_needed(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make()
    label(job)
    before = files(job.out)
    monkeypatch.setattr(labelling, "load_model", lambda *_: pytest.fail("the classifier is kept"))
    stages: list[Stage] = []
    again = label(job, stages.append)
    assert again.parts_done_before == again.parts == 2 and again.counts.labelled == 5
    assert {n: s for n, s in files(job.out).items() if n.endswith(".parquet")} == {
        n: s for n, s in before.items() if n.endswith(".parquet")
    }
    assert stages == [Stage("labelling", "parts", done, 2) for done in range(3)]


def test_what_was_lost_or_made_anew_or_is_new_is_labelled(make: Any, parts: list[dict[str, Any]]) -> None:
    job = make()
    label(job)
    first, second = Dataset.open(job.dataset).parts
    (Path(job.out) / "data" / first).unlink()
    before = files(job.out)
    assert label(job).parts_done_before == 1
    assert files(job.out)[f"data/{second}"] == before[f"data/{second}"]
    anew = make([*parts, {"image_embedding": parts[0]["image_embedding"][:2]}])
    path = Path(anew.dataset) / "data" / second  # as `embed --refresh` leaves it: other rows, another footer
    table = pq.read_table(path).slice(1)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, "clipmill.shard": "changed"}), path)
    grown = label(anew)
    assert (grown.parts, grown.parts_done_before, grown.counts.rows) == (3, 1, 7)


def test_only_the_rows_of_a_subset(make: Any, tmp_path: Path) -> None:
    job = make()
    dataset = Dataset.open(job.dataset)
    output = Output.at(str(tmp_path / "subset")).prepare()
    begin_subset(output, "filter", dataset, {})
    write_subset_part(output, dataset.parts[0], dataset.read(dataset.parts[0], IDENTITY).take([1, 2]))
    finish_subset(output, dataset, Funnel(6, {"other": 4}, 2))
    job = replace(job, within=output.url, truth="truth")
    summary = label(job)
    assert summary.counts == LabelCounts(rows=2, labelled=1)
    assert [row["row"] for row in rows(job)] == [1, 2]
    assert summary.accuracy is not None and (summary.accuracy.images, summary.accuracy.top1) == (1, 1.0)
    with pytest.raises(PlanMismatchError, match="within is None, not "):
        label(replace(job, within=None))


@pytest.mark.parametrize("truth", ["truth", "number"])
def test_accuracy_is_counted_where_the_truth_is_known(truth: str, make: Any) -> None:
    """red star right, blue fish right, a failed one, a grey crescent that is a red star, a house right, an unknown."""
    accuracy = label(replace(make(), truth=truth)).accuracy
    assert accuracy is not None
    assert (accuracy.images, accuracy.unknown, accuracy.top1, accuracy.k) == (4, 1, 0.75, 3)
    assert accuracy.top_k is not None and accuracy.top_k >= 0.75
    star, fish, crescent, house = accuracy.classes
    assert (star.precision, star.recall, star.support) == (1.0, 0.5, 2)
    assert (star.mistaken_for, star.mistakes) == ("grey crescent", 1)
    assert (fish.precision, fish.recall, fish.support, fish.mistaken_for) == (1.0, 1.0, 1, None)
    assert (crescent.precision, crescent.recall, crescent.support) == (0.0, None, 0)
    assert (house.precision, house.recall, house.support) == (1.0, 1.0, 1)


def test_no_answer_is_a_wrong_one(make: Any) -> None:
    accuracy = label(replace(make(), truth="truth", threshold=1.0)).accuracy
    assert accuracy is not None and (accuracy.top1, accuracy.images) == (0.0, 4)
    assert {score.mistaken_for for score in accuracy.classes if score.support} == {"none"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"top_k": 0}, "--top-k 0: must be at least 1"),
        ({"threshold": 30.0}, "--threshold 30: must be a probability"),
        ({"background": ("a house", " ")}, "--background: the name is empty"),
        ({"truth": "kind"}, "--truth kind: .* has no such column"),
        ({"truth": "image_embedding"}, "the column holds .*name one that holds class names or whole numbers"),
        ({"alias": "b32"}, "no model is called 'b32'"),
        ({"model": "tiny"}, "was made with"),
        ({"templates": "foto"}, "not a built-in set"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(changes: Any, complaint: str, make: Any) -> None:
    job = replace(make(), **changes)
    with pytest.raises(UserError, match=complaint):
        label(job)
    assert not list(Path(job.out).glob("data/*.parquet"))


def test_other_settings_into_the_same_folder_are_refused(make: Any) -> None:
    job = make()
    label(job)
    with pytest.raises(PlanMismatchError, match="top-k is 2, not 3"):
        label(replace(job, top_k=2))
    with pytest.raises(PlanMismatchError, match="templates is "):
        label(replace(job, templates="photo"))
    with pytest.raises(PlanMismatchError, match="background is "):
        label(replace(job, background=("a house",)))


def test_a_dataset_of_other_weights_is_refused(make: Any) -> None:
    job = make()
    label(job)
    make_dataset(Path(job.dataset).with_name("other"), [{}], dim=256)
    other = replace(job, dataset=str(Path(job.dataset).with_name("other")))
    with pytest.raises(PlanMismatchError, match=r"begun with other settings: .*fingerprint is "):
        label(other)
    with pytest.raises(PlanMismatchError, match="was made with 000000000000"):
        label(replace(other, out=job.out + "2"))


def test_a_dataset_of_nothing_but_failures_or_of_nothing(make: Any) -> None:
    job = make([{"image_embedding": NOTHING, "error": ["decode: no image"], "truth": ["a house"]}, {}])
    summary = label(replace(job, truth="truth"))
    assert summary.counts == LabelCounts(rows=1)
    assert summary.accuracy is not None and summary.accuracy.top1 is None
    assert [row["label"] for row in rows(job)] == [None]


def test_a_dataset_of_images_alone_is_labelled(make: Any) -> None:
    assert label(make(embeds="images")).counts.labelled == 5


def test_a_dataset_of_texts_alone_is_refused(make: Any) -> None:
    with pytest.raises(InputError, match="has no embeddings of images"):
        label(replace(make(embeds="texts"), out="unused"))


def test_labels_are_found_again_whole_or_not_at_all(make: Any, parts: list[dict[str, Any]]) -> None:
    job = make()
    dataset = Dataset.open(job.dataset)
    with pytest.raises(InputError, match="does not hold labels"):
        Labels.open(job.out, dataset)
    label(job)
    assert Labels.open(job.out, dataset).parts == dataset.parts
    (Path(job.out) / "data" / dataset.parts[1]).unlink()
    with pytest.raises(InputError, match="1 of 2 parts have no labels"):
        Labels.open(job.out, dataset)


@pytest.mark.usefixtures("cluster")
def test_on_ray_the_labels_are_the_same(make: Any) -> None:
    job = replace(make(), truth="truth")
    here = label(job)
    there = label(replace(job, out=job.out + "-ray", address="local"))
    assert rows(job) == rows(replace(job, out=job.out + "-ray"))
    assert (there.counts, there.accuracy) == (here.counts, here.accuracy)

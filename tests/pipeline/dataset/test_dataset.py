"""A dataset opened again: its parts, its models, its rows; in DuckDB, within a subset; spread over workers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from clipmill.pipeline.dataset import dataset as module
from clipmill.pipeline.dataset.dataset import Dataset, vectors_of
from clipmill.pipeline.dataset.derived import begin, begun
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import read_manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import planned_shards
from clipmill.pipeline.dataset.sql import connect, identifier, literal
from clipmill.pipeline.dataset.subset import IDENTITY, Funnel, Subset, begin_subset, finish_subset, write_subset_part
from clipmill.pipeline.embedding.dataset_model import load_model
from clipmill.pipeline.errors import InputError, ModelError, OutputError, PlanMismatchError, UserError
from clipmill.pipeline.running.scatter import scatter
from fakes import Ran


@pytest.fixture(scope="session")
def dataset(ran: Ran) -> Dataset:
    return Dataset.open(str(ran.out))


def test_parts_come_in_the_plans_order_with_all_rows(dataset: Dataset, ran: Ran) -> None:
    rows = pa.Table.from_batches(dataset.batches(["shard", "row"], rows=7)).to_pylist()
    assert len(rows) == ran.summary.dataset.rows
    assert [(row["shard"], row["row"]) for row in rows] == sorted((row["shard"], row["row"]) for row in rows)


def test_its_model_is_the_one_that_made_it(dataset: Dataset, sharp_weights: Path) -> None:
    model = dataset.model()
    assert (model.alias, model.prefix, model.variant, model.dim) == ("", "", "tiny", 256)
    assert load_model(dataset, spec=f"tiny={sharp_weights}").card.weights_sha256 == model.weights_sha256


def test_other_weights_or_none_are_refused(dataset: Dataset) -> None:
    with pytest.raises(PlanMismatchError, match="was made with"):
        load_model(dataset, spec="tiny")
    with pytest.raises(ModelError, match="name its weights with --model PATH"):
        load_model(dataset)
    with pytest.raises(InputError, match="no model is called 'b32'"):
        dataset.model("b32")


def test_what_is_no_dataset_or_has_no_part_is_one_line(tmp_path: Path, ran: Ran) -> None:
    with pytest.raises(InputError, match="is not a clipmill dataset"):
        Dataset.open(str(tmp_path))
    (tmp_path / ".clipmill").mkdir()
    (tmp_path / ".clipmill/plan.json").write_bytes((ran.out / ".clipmill/plan.json").read_bytes())
    with pytest.raises(InputError, match="nothing is embedded yet"):
        Dataset.open(str(tmp_path))


def test_many_parts_that_are_complete_are_told_by_the_manifest(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of its rows."""
    listed = Dataset.open(str(ran.out))
    monkeypatch.setattr(module, "MANY", 3)
    rows = read_manifest(listed.output)
    monkeypatch.setattr(module, "read_manifest", lambda _: rows.only(reversed(rows.urls)))
    with monkeypatch.context() as patched:
        patched.setattr(Output, "part_sizes", None)
        assert Dataset.open(str(ran.out)) == listed
    monkeypatch.setattr(module, "read_manifest", lambda _: rows.only(rows.urls[1:]))  # it is damaged
    damaged = Dataset.open(str(ran.out))
    assert (damaged.parts, damaged.sizes, damaged.stamps[1:]) == (listed.parts, listed.sizes, listed.stamps[1:])


def test_a_part_that_was_made_anew_has_another_stamp_even_at_the_same_size(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Dataset.open(str(ran.out))
    rows = read_manifest(before.output)
    first, *others = rows
    anew = Manifest.of([replace(first, seconds={**first.seconds, "total": first.seconds["total"] + 0.001})])
    later = Manifest.of(others) + anew
    by_url = {shard.url: shard.part_name for shard in planned_shards(before.output)}
    monkeypatch.setattr(module, "read_manifest", lambda _: rows + later.under(by_url[url] for url in later.urls))
    after = Dataset.open(str(ran.out))
    changed = [part for part, old, new in zip(before.parts, before.stamps, after.stamps, strict=True) if old != new]
    assert changed == [by_url[first.url]] and after.sizes == before.sizes


def test_vectors_are_as_stored_and_zero_where_there_are_none(dataset: Dataset) -> None:
    column = dataset.read(dataset.parts[0], ["image_embedding"])["image_embedding"]
    vectors, present = vectors_of(column)
    for vector, here, stored in zip(vectors, present, column.to_pylist(), strict=True):
        assert here == (stored is not None)
        assert np.array_equal(vector, np.zeros(256) if stored is None else np.asarray(stored, np.float32))
    sliced, _ = vectors_of(column.slice(3, 5))
    assert np.array_equal(sliced, vectors[3:8])
    assert vectors_of(column.slice(0, 0))[0].shape == (0, 256)


def test_duckdb_sees_every_row_or_those_of_a_subset(dataset: Dataset, tmp_path: Path) -> None:
    with connect(dataset) as connection:
        assert connection.sql("SELECT count(*) FROM pairs").fetchall() == [(120,)]
    output = Output.at(str(tmp_path / "subset")).prepare()
    assert begin_subset(output, "filter", dataset, {"where": "row < 3"})
    with pytest.raises(InputError, match="not finished"):
        Subset.open(output.url)
    for part in dataset.parts[:2]:
        write_subset_part(output, part, dataset.read(part, IDENTITY).slice(0, 3))
    made = finish_subset(output, dataset, Funnel(120, {"--where": 114}, 6))
    assert not begin_subset(output, "filter", dataset, {"where": "row < 3"})
    grown = replace(dataset, version="another")
    assert begin_subset(Output.at(str(tmp_path / "other")), "filter", grown, {"where": "row < 3"})
    subset = Subset.open(output.url)
    assert subset == made
    subset.check_fits(dataset)
    with connect(dataset, subset) as connection:
        found = connection.sql("SELECT shard, row FROM pairs ORDER BY shard, row").fetchall()
        assert [row for _, row in found] == [0, 1, 2, 0, 1, 2]
    with pytest.raises(PlanMismatchError, match="where is 'row < 4', not 'row < 3'"):
        begin_subset(output, "filter", dataset, {"where": "row < 4"})


def test_an_empty_subset_is_one(dataset: Dataset, tmp_path: Path) -> None:
    output = Output.at(str(tmp_path)).prepare()
    begin_subset(output, "filter", dataset, {})
    with connect(dataset, finish_subset(output, dataset, Funnel(120, {"--where": 120}, 0))) as connection:
        assert connection.sql("SELECT count(*) FROM pairs").fetchall() == [(0,)]


def test_a_steps_folder_is_its_own(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path)).prepare()
    assert begun(output) is None
    begin(output, "label", {"classes": 3})
    begin(output, "label", {"classes": 3})
    assert begun(output) == ("label", {"classes": 3})
    with pytest.raises(PlanMismatchError, match="is the output of `clipmill label`"):
        begin(output, "dedup", {"classes": 3})
    with pytest.raises(PlanMismatchError, match="classes is 4, not 3"):
        begin(output, "label", {"classes": 4})


def test_a_folder_of_strangers_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(OutputError, match=r"holds other\.parquet"):
        begin(Output.at(str(tmp_path)), "label", {})


def test_the_dataset_itself_is_no_folder_for_a_step(dataset: Dataset) -> None:
    with pytest.raises(OutputError, match="is the output of `clipmill embed`: choose another output folder"):
        begin(dataset.output, "label", {})


def test_text_cannot_leave_its_quotes(dataset: Dataset) -> None:
    with connect(dataset) as connection:
        assert connection.sql(f"SELECT {literal(chr(39) * 3 + '; --')} AS {identifier('a' + chr(34) + 'b')}").fetchall()


def _double(item: int) -> int:
    if item < 0:
        raise UserError("negative")
    return 2 * item


@pytest.fixture(params=["here", "on Ray"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address for `scatter`."""
    if request.param == "here":
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        return "auto"
    request.getfixturevalue("cluster")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    request.addfinalizer(lambda: ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__]))
    return "local"


def test_every_item_comes_back_with_its_result(where: str) -> None:
    assert dict(scatter(_double, range(20), where)) == {item: 2 * item for item in range(20)}


def test_what_a_function_raises_is_raised_to_the_caller(where: str) -> None:
    with pytest.raises(UserError, match="negative"):
        list(scatter(_double, [1, -1], where))

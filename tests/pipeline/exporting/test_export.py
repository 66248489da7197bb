"""Exports, read by readers written from each layout's documentation, equal the dataset; again, grown, left out."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from clipmill.pipeline import Export, ExportJob, export
from clipmill.pipeline.dataset import Dataset
from clipmill.pipeline.errors import InputError, OutputError, PlanMismatchError, UserError
from clipmill.pipeline.exporting.clip_retrieval import Slice, numbered
from clipmill.pipeline.output import Output
from clipmill.pipeline.subset import IDENTITY, Funnel, begin_subset, finish_subset, write_subset_part
from fakes import Ran, files, parts
from hypothesis import given
from hypothesis import strategies as st
from made import make_dataset, unit_vectors
from pyiceberg.catalog.sql import SqlCatalog
from s3 import Bucket

Rows = list[dict[str, Any]]


@pytest.fixture
def job(ran: Ran, tmp_path: Path) -> Callable[..., ExportJob]:
    return lambda to, **changes: ExportJob(str(ran.out), str(tmp_path / to), to, **changes)


@pytest.fixture(scope="module")
def embedded(ran: Ran) -> Rows:
    return [row for row in parts(ran.out) if row["error"] is None]


def part_of(seed: int, rows: int, **changes: Any) -> dict[str, Any]:
    """Pairs with all that an export looks at."""
    return {
        "uid": [f"{seed:016x}{row:016x}" for row in range(rows)],
        "image_embedding": unit_vectors(seed, rows),
        "text_embedding": unit_vectors(seed + 100, rows),
        "similarity": np.linspace(0, 1, rows),
        "width": [30] * rows,
        "height": [20] * rows,
        "caption_tokens": [5] * rows,
        **changes,
    }


def subset_of(dataset: Dataset, folder: Path, keep: list[int]) -> str:
    """Of each part the rows at those places."""
    output = Output.at(str(folder)).prepare()
    begin_subset(output, "filter", dataset, {})
    for part in dataset.parts:
        table = dataset.read(part, IDENTITY)
        write_subset_part(output, part, table.take(pa.array([place for place in keep if place < len(table)])))
    finish_subset(output, dataset, Funnel(0, {}, 0))
    return output.url


# --- DataComp ------------------------------------------------------------------------------------------------------


def read_datacomp(folder: Path) -> Rows:
    """As DataComp's README has it: a Parquet file and an npz of one name, whose rows belong together."""
    rows = []
    for path in sorted(folder.glob("*.parquet")):
        metadata = pd.read_parquet(path)
        arrays = np.load(path.with_suffix(".npz"))
        assert all(len(arrays[name]) == len(metadata) and arrays[name].dtype == np.float16 for name in arrays)
        for place, row in enumerate(metadata.to_dict("records")):
            rows.append({**row, **{name: arrays[name][place] for name in arrays}})
    return rows


def test_datacomp_has_every_embedded_row(job: Any, embedded: Rows) -> None:
    made = export(job("datacomp"))
    assert (made.rows, made.exported, made.failed, made.incomplete, made.files) == (120, 108, 12, 0, 3)
    found = read_datacomp(Path(made.out))
    assert [(row["shard"], row["row"]) for row in found] == [(row["shard"], row["row"]) for row in embedded]
    for theirs, ours in zip(found, embedded, strict=True):
        assert np.array_equal(theirs["tiny_img"], ours["image_embedding"])
        assert np.array_equal(theirs["tiny_txt"], ours["text_embedding"])
        assert theirs["clip_tiny_similarity_score"] == ours["similarity"]
        assert (theirs["original_width"], theirs["original_height"]) == (ours["width"], ours["height"])
        assert (theirs["text"], theirs["sha256"]) == (ours["caption"], ours["sha256"])


def test_datacomps_models_have_their_names_there(tmp_path: Path) -> None:
    sides = {
        f"{alias}_{side}_embedding": unit_vectors(0, 2) for alias in ("small", "l14") for side in ("image", "text")
    }
    part = part_of(1, 2, small_similarity=[0.1, 0.2], l14_similarity=[0.3, 0.4], original_width=[300, 400], **sides)
    part = {
        name: values for name, values in part.items() if name not in ("image_embedding", "text_embedding", "similarity")
    }
    models = [("small", "ViT-B-32"), ("l14", "ViT-L/14")]
    dataset = make_dataset(tmp_path / "in", [part], models=models, columns=["original_width:int64"])
    assert export(ExportJob(dataset.url, str(tmp_path / "out"), "datacomp")).notes == ()
    found = read_datacomp(tmp_path / "out")
    assert {"b32_img", "b32_txt", "l14_img", "l14_txt"} <= found[0].keys()
    scores = [(row["clip_b32_similarity_score"], row["clip_l14_similarity_score"]) for row in found]
    assert np.allclose(scores, [(0.1, 0.3), (0.2, 0.4)])
    assert [(row["original_width"], row["original_height"]) for row in found] == [(300, 20), (400, 20)]
    uids = np.array([(int(row["uid"][:16], 16), int(row["uid"][16:32], 16)) for row in found], "u8,u8")
    assert uids.tolist() == [(1, 0), (1, 1)]


def test_two_models_of_one_variant_keep_their_aliases(tmp_path: Path) -> None:
    part = part_of(1, 1)
    for name in ("image_embedding", "text_embedding", "similarity"):
        part |= {f"{alias}_{name}": part[name] for alias in ("openai", "laion")}
        del part[name]
    dataset = make_dataset(tmp_path / "in", [part], models=[("openai", "ViT-B/32"), ("laion", "ViT-B-32")])
    export(ExportJob(dataset.url, str(tmp_path / "out"), "datacomp"))
    assert {"openai_img", "laion_txt"} <= read_datacomp(tmp_path / "out")[0].keys()


def test_npz_files_are_as_numpy_writes_them(job: Any) -> None:
    made = export(job("datacomp"))
    path = next(Path(made.out).glob("*.npz"))
    assert zipfile.ZipFile(path).testzip() is None
    assert np.load(path, mmap_mode="r")["tiny_img"].flags.c_contiguous


# --- clip-retrieval ------------------------------------------------------------------------------------------------


def read_clip_retrieval(folder: Path) -> Rows:
    """As its README has it: files of one number belong together; folders are read in the order of names."""
    rows: Rows = []
    for metadata in sorted((folder / "metadata").glob("metadata_*.parquet")):
        number = metadata.stem.removeprefix("metadata_")
        arrays = {side: folder / f"{side}_emb" / f"{side}_emb_{number}.npy" for side in ("img", "text")}
        loaded = {side: np.load(path) for side, path in arrays.items() if path.exists()}
        table = pd.read_parquet(metadata)
        assert all(len(array) == len(table) > 0 and array.dtype == np.float16 for array in loaded.values())
        for place, row in enumerate(table.to_dict("records")):
            rows.append({**row, **{side: array[place] for side, array in loaded.items()}})
    return rows


@pytest.mark.parametrize(("rows_per_file", "numbers"), [(1_000_000, ["0"]), (50, ["0", "1", "2"]), (10, None)])
def test_clip_retrieval_has_every_embedded_row(
    job: Any, embedded: Rows, rows_per_file: int, numbers: list[str] | None
) -> None:
    made = export(job("clip-retrieval", rows_per_file=rows_per_file))
    found = read_clip_retrieval(Path(made.out))
    assert [(row["shard"], row["row"]) for row in found] == [(row["shard"], row["row"]) for row in embedded]
    for theirs, ours in zip(found, embedded, strict=True):
        assert np.array_equal(theirs["img"], ours["image_embedding"])
        assert np.array_equal(theirs["text"], ours["text_embedding"])
        assert (theirs["image_path"], theirs["caption"]) == (ours["key"], ours["caption"])
        assert theirs["similarity"] == ours["similarity"]
    names = sorted(path.stem.removeprefix("img_emb_") for path in Path(made.out).glob("img_emb/*.npy"))
    assert names == (numbers or [f"{number:02}" for number in range(made.files)])


@given(st.lists(st.integers(1, 30), max_size=12), st.integers(1, 12))
def test_numbered_files_hold_all_rows_in_order_and_never_too_many(sizes: list[int], most: int) -> None:
    named = [(f"part-{number}", rows) for number, rows in enumerate(sizes)]
    files = numbered(named, most)
    assert all(0 < each.rows <= most for each in files)
    rows = [(each.part, row) for file in files for each in file.slices for row in range(each.start, each.stop)]
    assert rows == [(part, row) for part, size in named for row in range(size)]
    assert sorted(file.number for file in files) == [file.number for file in files]


def test_small_parts_go_together_and_large_ones_apart() -> None:
    files = numbered([("a", 3), ("b", 4), ("c", 25), ("d", 2)], 10)
    assert [file.slices for file in files] == [
        (Slice("a", 0, 3), Slice("b", 0, 4)),
        (Slice("c", 0, 10),),
        (Slice("c", 10, 20),),
        (Slice("c", 20, 25), Slice("d", 0, 2)),
    ]


def test_of_several_models_one_is_exported(tmp_path: Path) -> None:
    part = part_of(1, 2)
    for name in ("image_embedding", "text_embedding", "similarity"):
        part |= {f"b32_{name}": part[name], f"l14_{name}": part.pop(name)}
    part["l14_image_embedding"] = unit_vectors(7, 2)
    dataset = make_dataset(tmp_path / "in", [part], models=[("b32", "ViT-B/32"), ("l14", "ViT-L/14")])
    export(ExportJob(dataset.url, str(tmp_path / "out"), "clip-retrieval", alias="l14"))
    assert np.array_equal(read_clip_retrieval(tmp_path / "out")[1]["img"], unit_vectors(7, 2)[1].astype(np.float16))


# --- Lance and Iceberg ---------------------------------------------------------------------------------------------


def plain(rows: Rows) -> Rows:
    return [{name: value for name, value in row.items() if name != "error"} for row in rows]


def test_lance_has_every_embedded_row_and_column(job: Any, embedded: Rows) -> None:
    made = export(job("lance"))
    table = lance.dataset(f"{made.out}/pairs.lance")
    assert table.to_table().to_pylist() == plain(embedded)
    again = export(job("lance"))
    assert (made.done_before, again.done_before) == (0, 1)
    assert lance.dataset(f"{made.out}/pairs.lance").version == table.version


def test_iceberg_has_the_parts_where_they_are(job: Any, ran: Ran) -> None:
    before = files(str(ran.out))
    made = export(job("iceberg"))
    assert files(str(ran.out)) == before and not list(Path(made.out).rglob("*.parquet"))
    assert (made.rows, made.exported) == (120, 120)
    assert made.notes == (
        "without image_embedding, text_embedding: Iceberg has no 16-bit floats; read them from the parts",
    )
    table = load_iceberg(made)
    rows = sorted(table.scan().to_arrow().to_pylist(), key=lambda row: (row["shard"], row["row"]))
    names = [name for name in Dataset.open(str(ran.out)).schema.names if "embedding" not in name]
    expected = sorted(parts(ran.out), key=lambda row: (row["shard"], row["row"]))
    assert rows == [{name: row[name] for name in names} for row in expected]
    good = table.scan(row_filter="similarity > 0.0", selected_fields=("key",)).to_arrow()
    assert len(good) == sum((row["similarity"] or 0) > 0 for row in expected)
    counted = table.scan().to_duckdb("pairs").execute("SELECT count(*), sum(similarity) FROM pairs").fetchone()
    assert counted == (120, pytest.approx(sum(row["similarity"] or 0 for row in expected)))
    assert export(job("iceberg")).done_before == 1


def load_iceberg(made: Export) -> Any:
    return SqlCatalog("clipmill", uri=f"sqlite:///{made.out}/catalog.db").load_table("clipmill.pairs")


def test_an_iceberg_table_has_embeddings_of_32_bits(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", [part_of(1, 3)], embedding_type="float32")
    made = export(ExportJob(dataset.url, str(tmp_path / "out"), "iceberg"))
    assert made.notes == ()
    rows = load_iceberg(made).scan().to_arrow()
    assert rows["image_embedding"].to_pylist() == unit_vectors(1, 3).tolist()


def test_polars_reads_the_iceberg_table(job: Any) -> None:

    table = load_iceberg(export(job("iceberg")))
    assert pl.scan_iceberg(table, reader_override="pyiceberg").select(pl.len()).collect().item() == 120
    assert pl.scan_iceberg(table, reader_override="native").select("key", "similarity").collect().shape == (120, 2)


def test_an_iceberg_table_follows_a_dataset_that_grows_and_spares_strangers(tmp_path: Path) -> None:
    job = ExportJob(str(tmp_path / "in"), str(tmp_path / "out"), "iceberg")
    make_dataset(tmp_path / "in", [part_of(1, 3)])
    assert load_iceberg(export(job)).scan().count() == 3
    make_dataset(tmp_path / "in", [part_of(1, 3), part_of(2, 4)])
    assert load_iceberg(export(job)).scan().count() == 7
    catalog = SqlCatalog("clipmill", uri=f"sqlite:///{tmp_path}/out/catalog.db")
    catalog.drop_table("clipmill.pairs")
    catalog.create_table("clipmill.pairs", pa.schema([("a", pa.int64())]), location=f"file://{tmp_path}/theirs")
    with pytest.raises(UserError, match="that clipmill did not make"):
        export(job)


# --- again, grown, left out ----------------------------------------------------------------------------------------

TO_FILES = ("datacomp", "clip-retrieval")
READERS: dict[str, Callable[[Path], Rows]] = {"datacomp": read_datacomp, "clip-retrieval": read_clip_retrieval}


@pytest.mark.parametrize("to", TO_FILES)
def test_again_nothing_is_written_and_elsewhere_the_same(job: Any, to: str, tmp_path: Path) -> None:
    made = export(job(to, rows_per_file=50))
    before = files(made.out)
    again = export(job(to, rows_per_file=50))
    assert files(made.out) == before and again == replace(made, done_before=made.files)
    export(replace(job(to, rows_per_file=50), out=str(tmp_path / "other")))
    for path in Path(made.out).rglob("*.*"):
        if "_clipmill" not in path.parts:
            assert (tmp_path / "other" / path.relative_to(made.out)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("to", TO_FILES)
def test_what_a_killed_run_left_is_completed(job: Any, to: str) -> None:
    made = export(job(to, rows_per_file=50))
    folder = Path(made.out) / ("metadata" if to == "clip-retrieval" else "")
    lost = sorted(folder.glob("*.parquet"))[1]
    expected = READERS[to](Path(made.out))
    lost.unlink()
    assert export(job(to, rows_per_file=50)).done_before == made.files - 1
    np.testing.assert_equal(READERS[to](Path(made.out)), expected)


@pytest.mark.parametrize("to", TO_FILES)
def test_an_export_follows_its_dataset(to: str, tmp_path: Path) -> None:
    job = ExportJob(str(tmp_path / "in"), str(tmp_path / "out"), to, rows_per_file=3)  # type: ignore[arg-type]
    make_dataset(tmp_path / "in", [part_of(1, 3), part_of(2, 2)])
    export(job)
    grown = [part_of(1, 3), part_of(2, 2), *(part_of(seed, 3) for seed in range(3, 13))]
    make_dataset(tmp_path / "in", grown)
    export(job)
    assert len(READERS[to](tmp_path / "out")) == 35
    make_dataset(tmp_path / "in", [part_of(1, 3, error=["decode: broken"] * 3)])  # done again; the others stay
    made = export(job)
    assert (made.failed, made.exported) == (3, 32)
    assert [row["uid"] for row in READERS[to](tmp_path / "out")] == [uid for part in grown[1:] for uid in part["uid"]]


@pytest.mark.parametrize("to", [*TO_FILES, "lance"])
def test_within_a_subset_only_its_rows_are_exported(
    job: Any, ran: Ran, to: str, tmp_path: Path, embedded: Rows
) -> None:
    dataset = Dataset.open(str(ran.out))
    within = subset_of(dataset, tmp_path / "subset", [0, 3, 4, 39])
    made = export(job(to, within=within))
    expected = [(row["shard"], row["row"]) for row in embedded if row["row"] in (0, 3, 4, 39)]
    assert made.exported == len(expected) and made.rows == 12
    if to in READERS:
        assert [(row["shard"], row["row"]) for row in READERS[to](Path(made.out))] == expected
    with pytest.raises(PlanMismatchError, match="within is None"):
        export(job(to))


def test_rows_without_one_of_the_sides_are_counted_and_left_out(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", [part_of(1, 3, caption_tokens=[5, None, 5])])
    made = export(ExportJob(dataset.url, str(tmp_path / "out"), "datacomp"))
    assert (made.rows, made.exported, made.incomplete) == (3, 2, 1)
    assert [row["row"] for row in read_datacomp(tmp_path / "out")] == [0, 2]


@pytest.mark.parametrize("to", TO_FILES)
def test_images_only(to: str, tmp_path: Path) -> None:
    part = part_of(1, 2)
    for name in ("text_embedding", "caption_tokens", "similarity"):
        del part[name]
    dataset = make_dataset(tmp_path / "in", [part], embeds="images")
    export(ExportJob(dataset.url, str(tmp_path / "out"), to))  # type: ignore[arg-type]
    row = READERS[to](tmp_path / "out")[1]
    present, absent = {"datacomp": ("tiny_img", "tiny_txt"), "clip-retrieval": ("img", "text")}[to]
    assert np.array_equal(row[present], unit_vectors(1, 2)[1].astype(np.float16))
    assert absent not in row
    assert not list((tmp_path / "out").glob("text_emb/*"))


@pytest.mark.parametrize("to", [*TO_FILES, "lance"])
def test_only_failures_or_no_rows_are_one_line(to: Any, tmp_path: Path) -> None:
    failed = make_dataset(tmp_path / "failed", [{"error": ["decode: not an image"] * 3}])
    with pytest.raises(InputError, match="nothing to export: of 3 rows 3 failed"):
        export(ExportJob(failed.url, str(tmp_path / "out"), to))
    empty = make_dataset(tmp_path / "empty", [{}])
    with pytest.raises(InputError, match="nothing to export: it has no rows"):
        export(ExportJob(empty.url, str(tmp_path / "out"), to))
    assert not (tmp_path / "out").exists()


def test_other_settings_datasets_and_folders_are_refused(job: Any, ran: Ran, tmp_path: Path) -> None:
    export(job("datacomp"))
    with pytest.raises(PlanMismatchError, match="to is 'lance', not 'datacomp'"):
        export(replace(job("lance"), out=job("datacomp").out))
    other = make_dataset(tmp_path / "other", [part_of(1, 2)])
    with pytest.raises(PlanMismatchError, match="dataset is"):
        export(replace(job("datacomp"), dataset=other.url))
    with pytest.raises(InputError, match="a subset of"):
        export(
            replace(job("lance"), dataset=other.url, within=subset_of(Dataset.open(str(ran.out)), tmp_path / "s", [0]))
        )
    (tmp_path / "theirs" / "img_emb").mkdir(parents=True)
    (tmp_path / "theirs" / "img_emb" / "img_emb_0.npy").touch()
    with pytest.raises(OutputError, match="choose another folder"):
        export(replace(job("clip-retrieval"), out=str(tmp_path / "theirs")))
    assert (tmp_path / "theirs" / "img_emb" / "img_emb_0.npy").exists()


@pytest.mark.parametrize(
    ("to", "changes", "said"),
    [
        ("iceberg", {"within": "subset"}, "registers whole parts"),
        ("iceberg", {"table": "pairs"}, "must be NAMESPACE.NAME"),
        ("iceberg", {"catalog": "nowhere"}, "--catalog nowhere"),
        ("iceberg", {"out": "memory://b/out"}, "must be a local folder"),
        ("lance", {"out": "memory://b/out"}, "local folders and s3"),
        ("lance", {"catalog": "any"}, "is for --to iceberg"),
        ("datacomp", {"alias": ""}, "--alias: is for --to clip-retrieval"),
        ("clip-retrieval", {"rows_per_file": 0}, "must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_one_line(job: Any, to: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        export(replace(job(to), **changes))


# --- object stores -------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(ran: Ran, bucket: Bucket) -> str:
    """The dataset in a bucket."""
    for path in ran.out.rglob("*"):
        if path.is_file():
            bucket.storage.pipe_file(bucket.url(f"in/{path.relative_to(ran.out)}"), path.read_bytes())
    return bucket.url("in")


def test_from_and_to_an_object_store(stored: str, bucket: Bucket, ran: Ran, tmp_path: Path) -> None:
    options = bucket.server.options()
    for to in ("datacomp", "clip-retrieval"):
        export(ExportJob(stored, bucket.url(to), to, storage_options=options))  # type: ignore[arg-type]
        export(ExportJob(str(ran.out), str(tmp_path / to), to))  # type: ignore[arg-type]
        for path in (tmp_path / to).rglob("*.np?"):
            assert bucket.storage.cat_file(bucket.url(f"{to}/{path.relative_to(tmp_path / to)}")) == path.read_bytes()


def test_lance_and_iceberg_in_an_object_store_that_only_the_options_name(
    stored: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    options = bucket.server.options()
    export(ExportJob(stored, bucket.url("lance"), "lance", storage_options=options))
    known = {
        "aws_endpoint": bucket.server.endpoint,
        "aws_access_key_id": bucket.server.owner.key,
        "aws_secret_access_key": bucket.server.owner.secret,
        "aws_region": "us-east-1",
        "allow_http": "true",
    }
    assert lance.dataset(bucket.url("lance/pairs.lance"), storage_options=known).count_rows() == 108
    made = export(ExportJob(stored, str(tmp_path / "iceberg"), "iceberg", storage_options=options))
    assert made.exported == 120

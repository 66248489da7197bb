"""clip-retrieval's layout, read as its README has it, equals the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline import ExportJob, export
from clipmill.pipeline.exporting.clip_retrieval import Slice, numbered
from export_kit import Rows, part_of, read_clip_retrieval
from hypothesis import given
from hypothesis import strategies as st
from made import make_dataset, unit_vectors


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

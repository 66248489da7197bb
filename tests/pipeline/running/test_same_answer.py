"""The same answer however the samples lie and however they are embedded: as tars, Parquet or folders, in batches of 1
or 64, by one worker or four."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clipmill.clipmodel.weights import Loaded
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample
from clipmill.pipeline.running import staff
from clipmill.pipeline.running.placement import Placement
from fakes import COLUMNS, Drawn, clip_tools, parts, write_tar
from parquet_kit import STRUCT, pack

SHARDS = 4

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def samples(drawn: Drawn) -> list[Sample]:
    """With images and captions, some of them broken."""
    found = [sample for shard in drawn.shards for sample in read_samples(shard)]
    return [sample for sample in found if sample.image and isinstance(sample.caption, bytes)][::2]


def as_tars(samples: list[Sample], folder: Path) -> None:
    for i in range(SHARDS):
        files = [((f"{s.key}.jpg", s.image), (f"{s.key}.txt", s.caption)) for s in samples[i::SHARDS]]
        write_tar(folder / f"{i}.tar", [file for pair in files for file in pair])  # type: ignore[misc]


def as_parquet(samples: list[Sample], folder: Path) -> None:
    for i in range(SHARDS):
        mine = samples[i::SHARDS]
        images = pa.array([{"bytes": s.image, "path": None} for s in mine], STRUCT)
        captions = pa.array([s.caption for s in mine], pa.binary())
        table = pa.table({"key": [s.key for s in mine], "image": images, "caption": captions})
        (folder / f"{i}.parquet").write_bytes(pack(table))


def as_folders(samples: list[Sample], folder: Path) -> None:
    for i in range(SHARDS):
        (folder / str(i)).mkdir()
        for sample in samples[i::SHARDS]:
            (folder / str(i) / f"{sample.key}.jpg").write_bytes(sample.image or b"")
            (folder / str(i) / f"{sample.key}.txt").write_bytes(sample.caption)  # type: ignore[arg-type]


def embedded(folder: Path, out: Path, sharp: Loaded, batch: int) -> Rows:
    """Here, shard by shard."""
    card, tokenizer = sharp.card, sharp.tokenizer
    layout = PartLayout(COLUMNS, card.config.embed_dim, tokenizer.context_length, "float32")
    tools = clip_tools(sharp, batch, layout=layout, images_a_batch=batch)
    for shard in list_shards([str(folder)]):
        embed_shard(shard, tools, Output.at(str(out)))
    return by_key(out)


def by_key(out: Path) -> Rows:
    rows = parts(out)
    found = {row["key"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def check_same(rows: Rows, expected: Rows) -> None:
    assert rows.keys() == expected.keys()
    for key, row in rows.items():
        assert row["error"] == expected[key]["error"]
        for name in ("image_embedding", "text_embedding"):
            one, other = row[name], expected[key][name]
            assert (one is None) == (other is None) == (row["error"] is not None)
            if one is not None:
                assert np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other) >= 0.99999


@pytest.fixture(scope="module")
def expected(samples: list[Sample], sharp: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("tars")
    as_tars(samples, folder)
    rows = embedded(folder, tmp_path_factory.mktemp("out"), sharp, batch=16)
    assert len(rows) == len(samples)
    assert 0 < sum(row["error"] is not None for row in rows.values()) < len(rows) / 2
    return rows


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("write", [as_tars, as_parquet, as_folders])
def test_neither_the_format_nor_the_batch_changes_anything(
    write: Callable[[list[Sample], Path], None],
    batch: int,
    samples: list[Sample],
    sharp: Loaded,
    expected: Rows,
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    write(samples, tmp_path / "in")
    check_same(embedded(tmp_path / "in", tmp_path / "out", sharp, batch), expected)


def test_nor_do_four_workers(
    cluster: None,
    samples: list[Sample],
    sharp_weights: Path,
    expected: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(staff, "place", lambda *_: Placement(4, 0.5, 0.0))  # four on two cores
    (tmp_path / "in").mkdir()
    as_tars(samples, tmp_path / "in")
    out = tmp_path / "out"
    job = EmbedJob([str(tmp_path / "in")], str(out), f"tiny={sharp_weights}", embedding_type="float32", workers=4)
    assert embed(job).workers == 4
    check_same(by_key(out), expected)

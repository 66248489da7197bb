"""Datasets made of plain columns, without images, shards or a model: for the tests of the steps after embedding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from clipmill.clipmodel.config import VARIANTS
from clipmill.pipeline.choices import EmbeddingType
from clipmill.pipeline.dataset.columns import Column
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.dataset.plan import Fingerprint, freeze
from clipmill.pipeline.embedding.decode import reason_of
from clipmill.pipeline.records import Shard

BOTH = "images and texts"


def make_dataset(
    out: Path,
    parts: Sequence[Mapping[str, Any]],
    *,
    dim: int = 4,
    columns: Sequence[str] = (),
    embeds: str = BOTH,
    models: Sequence[tuple[str, str]] = (("", "tiny"),),
    weights_sha256: str = "0" * 64,
    embedding_type: EmbeddingType = "float16",
    half_pairs: Mapping[str, int] | None = None,
    row_group: int = 1 << 20,
) -> Dataset:
    """One part for each mapping, from column names to values: lists, or float [n, dim] for embeddings (a row of NaN is
    none). Columns left out are filled in: keys and rows count, the rest is null.

    columns: more of them, NAME:TYPE. models: aliases and variants. half_pairs: what each part's footer tells of them.
    row_group: rows.
    """
    own = tuple(map(Column.parse, ("uid", "url", "caption", *columns)))
    prefixed = tuple((alias, dim) for alias, _ in models) if models[0][0] else ()
    schema = PartLayout(own, dim, 77, embedding_type, prefixed).schema
    names = "; ".join(variant for _, variant in models)
    settings = Fingerprint(
        names, "made", weights_sha256, "none", "fp32", embedding_type, "none", ", ".join(c.name for c in own), embeds
    )
    output = Output.at(str(out)).prepare()
    shards = [Shard(f"/made/{number:05d}.tar", 100) for number in range(len(parts))]
    freeze(output, settings, shards)
    cards = {alias: card(variant, dim, weights_sha256) for alias, variant in models}
    footer = {"clipmill.model_card": json.dumps(cards.get("", cards)), "clipmill.fingerprint": settings.digest}
    (out / "data").mkdir(exist_ok=True)
    for shard, given in zip(shards, parts, strict=True):
        table = _table(schema, shard.url, given)
        told = {**footer, **_told(table, half_pairs or {})}
        table, path = table.replace_schema_metadata(told), out / "data" / shard.part_name
        pq.write_table(table, path, compression="zstd", row_group_size=row_group)
    return Dataset.open(str(out))


def card(variant: str, dim: int, sha256: str) -> dict[str, Any]:
    config = asdict(VARIANTS["tiny"]) | {"embed_dim": dim}
    return {"variant": variant, "weights": "made", "weights_sha256": sha256, "config": config, "precision": "fp32"}


def _told(table: pa.Table, half_pairs: Mapping[str, int]) -> dict[str, str]:
    """The counts and timings of a part's footer."""
    failures = Counter(reason_of(error) for error in table["error"].to_pylist() if error is not None)
    counts = {
        "rows": len(table),
        "embedded": len(table) - failures.total(),
        "failures": failures,
        "half_pairs": half_pairs,
    }
    seconds = {"read": 0.5, "decode": 1.0, "encode": 1.5, "write": 0.25, "total": 2.0}
    return {"clipmill.counts": json.dumps(counts), "clipmill.seconds": json.dumps(seconds)}


def _table(schema: pa.Schema, shard: str, given: Mapping[str, Any]) -> pa.Table:
    rows = max(map(len, given.values()), default=0)
    number = shard.rpartition("/")[2].removesuffix(".tar")
    filled = {
        "key": [f"{number}{row:04d}" for row in range(rows)],
        "row": np.arange(rows, dtype=np.int32),
        "image_offset": np.arange(rows, dtype=np.int64) * 1000 + 512,
        "image_size": np.full(rows, 400, np.int32),
    }
    assert given.keys() <= set(schema.names), f"{given.keys() - set(schema.names)} of {schema.names}"
    arrays = []
    for field in schema:
        values = given.get(field.name, filled.get(field.name))
        if field.name == "shard":
            arrays.append(pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [shard]))
        elif values is None:
            arrays.append(pa.nulls(rows, field.type))
        elif pa.types.is_fixed_size_list(field.type):
            arrays.append(_embeddings(np.asarray(values, np.float32), field.type))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.table(arrays, schema=schema)


def _embeddings(vectors: npt.NDArray[np.float32], kind: pa.DataType) -> pa.Array:
    missing = np.isnan(vectors).any(axis=1)
    flat = np.nan_to_num(vectors).astype(kind.value_type.to_pandas_dtype()).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.list_size, mask=pa.array(missing))


def unit_vectors(seed: int, rows: int, dim: int = 4) -> npt.NDArray[np.float32]:
    """float32 [rows, dim] of length one, the same for the same seed."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    made: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made

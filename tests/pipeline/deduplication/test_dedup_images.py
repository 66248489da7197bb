"""`dedup` on pictures: copies that were scaled and encoded again are found by their embeddings, and nothing else is."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from clipmill.clipmodel import load
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import Fingerprint, freeze
from clipmill.pipeline.deduplication.dedup import dedup
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.job import DedupJob
from fakes import Drawn, clip_tools, write_tar
from made import card
from PIL import Image


def again(image: bytes, scale: float, quality: int) -> bytes:
    with Image.open(io.BytesIO(image)) as opened:
        size = (round(opened.width * scale), round(opened.height * scale))
        file = io.BytesIO()
        opened.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    return file.getvalue()


def images_of(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as opened:
        files = {m.name: opened.extractfile(m).read() for m in opened if m.name.endswith(".jpg")}  # type: ignore[union-attr]
    return {name.removesuffix(".jpg"): data for name, data in files.items()}


def embed_with_tiny(inputs: list[Path], out: Path) -> Dataset:
    loaded = load("tiny")
    sha256, dim = loaded.card.weights_sha256, loaded.card.config.embed_dim
    tools = clip_tools(loaded, provenance={"clipmill.model_card": json.dumps(card("tiny", dim, sha256))})
    columns, both = "uid, url, caption", "images and texts"
    settings = Fingerprint("tiny", "shipped", sha256, "none", "fp32", "float16", "none", columns, both)
    output, shards = Output.at(str(out)).prepare(), list_shards([str(each) for each in inputs])
    freeze(output, settings, shards)
    for shard in shards:
        embed_shard(shard, tools, output)
    return Dataset.open(str(out))


def test_planted_copies_are_found_exactly(drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    whole = {key: image for key, image in images_of(drawn.tars[0]).items() if _opens(image)}
    groups, members = [], []
    for number, (key, image) in enumerate(list(whole.items())[:6]):
        copies = [image, again(image, 0.9, 85), again(image, 1.0, 60)][number % 3 :]
        names = [f"copy{number}{i}" for i in range(len(copies))]
        members += [(f"{name}.jpg", copy) for name, copy in zip(names, copies, strict=True)]
        groups.append({key, *names})
    write_tar(tmp_path / "planted.tar", members)
    made = embed_with_tiny([drawn.tars[0], tmp_path / "planted.tar"], tmp_path / "out")
    job = DedupJob(made.url, str(tmp_path / "unique"), threshold=0.99)
    for out, cells in (("all", None), ("cells", 4)):
        summary = dedup(replace(job, out=str(tmp_path / out), cells=cells))
        found: dict[int, set[str]] = {}
        for row in pq.read_table(f"{summary.out}/.clipmill/groups.parquet").to_pylist():
            found.setdefault(row["group"], set()).add(row["key"])
        assert sorted(found.values(), key=sorted) == sorted(groups, key=sorted)
        assert summary.funnel.dropped["exact duplicate"] == 2


def _opens(image: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
    except Exception:
        return False
    return True

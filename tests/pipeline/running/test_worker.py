"""What a job asks for reaches the workers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline import EmbedJob, embed
from fakes import Ran, parts, write_tar
from PIL import Image


def test_decoding_in_processes_of_their_own_gives_the_same_dataset(ran: Ran, base: EmbedJob, tmp_path: Path) -> None:
    summary = embed(replace(base, out=str(tmp_path / "out"), workers=1, decode_workers=1))
    assert (summary.complete, summary.workers, summary.run.embedded) == (True, 1, 108)
    assert summary.run.seconds["decode"] > 0 and summary.run.seconds["read"] > 0
    for row, expected in zip(parts(tmp_path / "out"), parts(ran.out), strict=True):
        for name in ("image_embedding", "text_embedding", "similarity"):
            got, before = row.pop(name), expected.pop(name)
            assert (got is None) == (before is None)
            if got is not None:
                np.testing.assert_allclose(got, before, atol=1e-3)
        assert row == expected


def test_fast_decoding_changes_large_jpegs_a_little(here: list[str], some: EmbedJob, tmp_path: Path) -> None:
    members = []
    for name, side in (("small", 150), ("large", 900)):
        x, y = np.meshgrid(np.arange(side), np.arange(side))
        bands = [128 + 60 * np.sin(x / side * (9 + i)) * np.cos(y / side * (7 - i)) for i in range(3)]
        file = io.BytesIO()
        Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8)).save(file, "JPEG", quality=95)
        members.append((f"{name}.jpg", file.getvalue()))
    shard = write_tar(tmp_path / "x.tar", members)
    job = replace(some, inputs=[shard.url], texts=False, embedding_type="float32")
    found = []
    for way in ("exact", "fast"):
        embed(replace(job, out=str(tmp_path / way), decode=way))
        found.append({row["key"]: np.asarray(row["image_embedding"]) for row in parts(tmp_path / way)})
    exact, fast_ = found
    np.testing.assert_array_equal(exact["small"], fast_["small"])
    assert not np.array_equal(exact["large"], fast_["large"])
    assert exact["large"] @ fast_["large"] == pytest.approx(1.0, abs=1e-3)

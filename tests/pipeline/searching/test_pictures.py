"""Images for a page: from tars by range, from folders by name, kept small and few; where there is none, why."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import SampleError
from clipmill.pipeline.searching import pictures as module
from clipmill.pipeline.searching.pictures import Pictures
from fakes import Ran, jpeg
from PIL import Image


def row(shard: str, key: str = "a", offset: int | None = None, size: int | None = None, **more: Any) -> dict[str, Any]:
    return {"shard": shard, "row": 0, "key": key, "image_offset": offset, "image_size": size, "sha256": None, **more}


def rows_of(ran: Ran) -> list[dict[str, Any]]:
    columns = ["key", "shard", "row", "image_offset", "image_size", "sha256", "error"]
    return [each for batch in Dataset.open(str(ran.out)).batches(columns) for each in batch.to_pylist()]


def test_a_tars_image_is_drawn_anew_and_small(ran: Ran) -> None:
    found = Pictures().jpeg(next(each for each in rows_of(ran) if each["error"] is None), 64)
    opened = Image.open(io.BytesIO(found))
    assert opened.format == "JPEG" and max(opened.size) == 64


def test_it_is_fetched_once(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fetch = module.fetch_image
    monkeypatch.setattr(module, "fetch_image", lambda *given: asked.append(given[0]) or fetch(*given))
    pictures = Pictures()
    good = [each for each in rows_of(ran) if each["error"] is None][:3]
    for each in (*good, *good):
        pictures.jpeg(each, 64)
    assert len(asked) == 3
    monkeypatch.setattr(module, "_KEPT", 1)  # no room: the last one goes, too
    pictures.jpeg(good[0], 32)
    pictures.jpeg(good[0], 32)
    assert len(asked) == 5


@pytest.mark.parametrize("name", ["x.jpg", "x.JPG", "x.webp"])
def test_a_folders_image_is_found_by_its_key(tmp_path: Path, name: str) -> None:
    image = jpeg(1)
    (tmp_path / name).write_bytes(image)
    sha256 = hashlib.sha256(image).hexdigest()
    found = Pictures().jpeg(row(f"{tmp_path}/", "x", None, len(image), sha256=sha256), 64)
    assert Image.open(io.BytesIO(found)).size == (24, 20)
    with pytest.raises(SampleError, match="cannot be read here any more"):
        Pictures().jpeg(row(f"{tmp_path}/", "x", None, len(image), sha256="other"), 64)


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", ".hidden", "a/../../secret"])
def test_a_key_cannot_leave_its_folder(tmp_path: Path, key: str) -> None:
    image = jpeg(2)
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(image)
    asked = row(f"{tmp_path}/in/", key, None, len(image), sha256=hashlib.sha256(image).hexdigest())
    with pytest.raises(SampleError, match="cannot be read here any more"):
        Pictures().jpeg(asked, 64)


def test_where_there_is_none_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no image" * 100)
    cases = {
        "this pair has none": row("a.tar"),
        "its shard gives no byte range": row("a.parquet", size=10),
        "larger than 64 MiB": row("a.tar", offset=0, size=65 << 20),
        "cannot be read here any more": row(str(tmp_path / "gone.tar"), offset=0, size=10),
        "cannot be decoded": row(str(tmp_path / "a.tar"), offset=0, size=100),
    }
    for said, asked in cases.items():
        with pytest.raises(SampleError, match=said):
            Pictures().jpeg(asked, 64)

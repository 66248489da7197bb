"""The encoder over batches of columns: the values of `embed`, bad rows with their reason, and within Ray Data."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline import Encoder
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.inputs.shards import read_samples
from fakes import Drawn, Ran, parts
from PIL import Image


@pytest.fixture(scope="module")
def encoder(sharp_weights: Path) -> Encoder:
    return Encoder(f"tiny={sharp_weights}")


def test_the_values_are_those_of_embed(encoder: Encoder, drawn: Drawn, ran: Ran) -> None:
    samples = [sample for shard in drawn.shards for sample in read_samples(shard) if sample.image is not None]
    captions = [sample.caption.decode(errors="replace") if sample.caption else None for sample in samples]  # type: ignore[union-attr]
    batch = {
        "image": np.array([sample.image for sample in samples], dtype=object),
        "caption": np.array(captions, dtype=object),
        "key": np.array([sample.key for sample in samples]),
    }
    found = encoder(batch)
    embedded = {row["key"]: row for row in parts(ran.out) if row["error"] is None}
    agreed = 0
    for place, key in enumerate(found["key"]):
        if key in embedded and not found["error"][place]:
            agreed += 1
            assert found["similarity"][place] == pytest.approx(embedded[key]["similarity"], abs=1e-5)
            cosine = found["image_embedding"][place] @ np.float32(embedded[key]["image_embedding"])
            assert cosine == pytest.approx(1.0, abs=1e-3)
    assert agreed >= 100
    assert any(found["error"])


def test_a_bad_image_is_a_row_with_its_reason(encoder: Encoder) -> None:
    images = np.array([b"no image", None], dtype=object)
    found = encoder({"image": images, "caption": np.array(["a star", "a star"], dtype=object)})
    assert list(found["error"]) == ["decode: not an image", ""]
    assert np.isnan(found["similarity"]).all()
    assert not found["image_embedding"].any()
    assert found["text_embedding"][1] @ found["text_embedding"][1] == pytest.approx(1.0, abs=1e-5)


def column(*cells: Any) -> np.ndarray[Any, Any]:
    made = np.empty(len(cells), dtype=object)
    made[:] = cells
    return made


@pytest.fixture(scope="module")
def image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


NULLS = [None, float("nan"), np.float32("nan"), type("NAType", (), {})()]  # the last is how pandas' NA looks


@pytest.mark.parametrize("null", NULLS, ids=["None", "nan", "float32", "NA"])
def test_a_null_is_what_is_not_there_and_ends_nothing(null: Any, encoder: Encoder, image: bytes) -> None:
    found = encoder({"image": column(image, null, null), "caption": column(null, "a star", null)})
    assert list(found["error"]) == ["", "", "read: neither image nor caption"]
    assert [bool(vector.any()) for vector in found["image_embedding"]] == [True, False, False]
    assert [bool(vector.any()) for vector in found["text_embedding"]] == [False, True, False]
    assert np.isnan(found["similarity"]).all()


def test_a_column_of_nothing_but_nulls_is_one_of_numbers(encoder: Encoder, image: bytes) -> None:
    found = encoder({"image": column(image, image), "caption": np.array([np.nan, np.nan])})
    assert list(found["error"]) == ["", ""]
    assert found["image_embedding"].any(axis=1).all() and not found["text_embedding"].any()


def test_bytes_are_bytes_however_they_are_held(encoder: Encoder, image: bytes) -> None:
    images = [image, bytearray(image), memoryview(image), {"bytes": image, "path": "a.png"}, {"bytes": image}]
    captions = ["a star", b"a star", bytearray(b"a star"), memoryview(b"a star"), np.str_("a star")]
    found = encoder({"image": column(*images), "caption": column(*captions)})
    assert list(found["error"]) == [""] * len(images)
    for name in ("image_embedding", "text_embedding"):
        assert np.allclose(found[name], found[name][0], atol=1e-5) and found[name].any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "a.png"}, "read: image is not bytes (str)"),
        ({"image": 3}, "read: image is not bytes (int)"),
        ({"image": np.zeros((4, 4, 3), np.uint8)}, "read: image is not bytes (ndarray)"),
        ({"image": {"path": "a.png"}}, "read: image is not bytes (dict)"),
        ({"image": {"bytes": None, "path": "a.png"}}, "read: image is a path without bytes (a.png)"),
        ({"image": {"bytes": "a.png"}}, "read: image is not bytes (str)"),
        ({"caption": 3}, "read: caption is not text (int)"),
        ({"caption": ["a star"]}, "read: caption is not text (list)"),
        ({"caption": SimpleNamespace()}, "read: caption is not text (SimpleNamespace)"),
    ],
)
def test_a_cell_of_another_kind_is_its_rows_error_alone(
    changes: dict[str, Any], said: str, encoder: Encoder, image: bytes
) -> None:
    wrong = {"image": image, "caption": "a star", **changes}
    found = encoder({"image": column(wrong["image"], image), "caption": column(wrong["caption"], "a star")})
    assert list(found["error"]) == [said, ""]
    assert [bool(vector.any()) for vector in found["image_embedding"]] == [False, True]
    assert np.isnan(found["similarity"][0]) and np.isfinite(found["similarity"][1])


def test_a_row_without_an_image_in_huggingfaces_way(encoder: Encoder) -> None:
    found = encoder({"image": column({"bytes": None, "path": None}), "caption": column("a star")})
    assert list(found["error"]) == [""] and found["text_embedding"].any()


def test_one_side_alone(sharp_weights: Path) -> None:
    texts = Encoder(f"tiny={sharp_weights}", images=None, texts="words")
    found = texts({"words": np.array(["a star"], dtype=object)})
    assert set(found) == {"words", "text_embedding", "error"}
    with pytest.raises(UserError, match="has no column 'words'; its columns: other"):
        texts({"other": np.array([1])})
    with pytest.raises(UserError, match="nothing to embed"):
        Encoder("tiny", None, None)


def test_ray_data_takes_it_as_it_is(cluster: None, drawn: Drawn, sharp_weights: Path) -> None:
    import ray

    rows: list[dict[str, Any]] = [
        {"image": sample.image, "caption": "a star"}
        for sample in read_samples(drawn.shards[0])
        if sample.image is not None
    ][:8]
    rows[0]["caption"] = None
    dataset = ray.data.from_items(rows)
    spec = f"tiny={sharp_weights}"
    found = dataset.map_batches(Encoder, fn_constructor_args=(spec,), batch_size=4, concurrency=1).take_all()
    assert len(found) == len(rows)
    assert {row["image_embedding"].shape for row in found} == {(256,)}

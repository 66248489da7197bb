"""The encoder over batches of columns: the values of `embed`, bad rows with their reason, and within Ray Data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline import Encoder
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.shards import read_samples
from fakes import Drawn, Ran, parts


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

    rows = [
        {"image": sample.image, "caption": "a star"}
        for sample in read_samples(drawn.shards[0])
        if sample.image is not None
    ][:8]
    dataset = ray.data.from_items(rows)
    spec = f"tiny={sharp_weights}"
    found = dataset.map_batches(Encoder, fn_constructor_args=(spec,), batch_size=4, concurrency=1).take_all()
    assert len(found) == len(rows)
    assert {row["image_embedding"].shape for row in found} == {(256,)}

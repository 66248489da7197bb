"""Models of other libraries in the main job, beside ours: rows, resume, labels, search."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import adapted_kit
import numpy as np
import pytest
from adapted_kit import cosines, own_loop
from adapted_steps import Adapted
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.dataset import Dataset, vectors_of
from clipmill.pipeline.errors import PlanMismatchError
from fakes import jpeg, write_pairs
from PIL import Image

PAIRS = 6  # a shard


@dataclass(frozen=True)
class Embedded:
    job: EmbedJob
    folders: dict[str, Path]  # of the models of transformers
    shards: tuple[Path, Path]


@pytest.fixture(scope="module")
def embedded(cluster: None, base: EmbedJob, tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    """One shard on Ray, by ours and two of transformers; another one that is not embedded yet."""
    root = tmp_path_factory.mktemp("adapters")
    folders = {name: adapted_kit.save(name, root / name) for name in ("align", "chinese_clip")}
    (root / "data").mkdir()
    shards = (root / "data/0.tar", root / "data/1.tar")
    models = [f"own={base.model}", *(f"{name}=hf:{folder}" for name, folder in folders.items())]
    job = replace(
        base, inputs=[str(root / "data")], out=str(root / "out"), model=models, decode="exact",
        embedding_type="float32", workers=1,
    )  # fmt: skip
    write_pairs(shards[0], PAIRS)
    assert embed(job).dataset.embedded == PAIRS
    write_pairs(shards[1], PAIRS)
    return Embedded(job, folders, shards)


def samples() -> tuple[list[Image.Image], list[str]]:
    """Of each shard."""
    texts = [" ".join([f"number {i}", *["word"] * (i * 3 % 7)]) for i in range(PAIRS)]
    return [Image.open(io.BytesIO(jpeg(i))) for i in range(PAIRS)], texts


def columns(dataset: Dataset, part: str, names: Sequence[str]) -> list[Any]:
    table = dataset.read(part, list(names))
    return [vectors_of(table[name])[0] for name in names]


def test_rows_are_those_of_the_librarys_own_loop_and_a_second_run_adds_to_the_first(
    embedded: Embedded, here: list[str]
) -> None:
    job = embedded.job
    (first,) = Path(job.out, "data").iterdir()
    before = first.stat().st_mtime_ns
    assert embed(job).dataset.embedded == 2 * PAIRS and here == ["1.tar"]
    assert first.stat().st_mtime_ns == before
    dataset = Dataset.open(job.out)
    for part in dataset.parts:
        for name, folder in embedded.folders.items():
            sides = [f"{name}_image_embedding", f"{name}_text_embedding"]
            theirs = own_loop(folder, *samples())
            for mine, expected in zip(columns(dataset, part, sides), theirs, strict=True):
                np.testing.assert_allclose(mine, expected, atol=1e-4)
            similarity = dataset.read(part, [f"{name}_similarity"])[0].to_numpy()
            np.testing.assert_allclose(similarity, cosines(*theirs), atol=1e-4)


def test_our_own_models_rows_are_the_same_beside_others(
    embedded: Embedded, here: list[str], base: EmbedJob, tmp_path: Path
) -> None:
    alone = replace(embedded.job, inputs=[str(embedded.shards[0])], model=base.model, out=str(tmp_path / "alone"))
    embed(alone)
    one, all_ = Dataset.open(alone.out), Dataset.open(embedded.job.out)
    part = next(part for part in all_.parts if part in one.parts)
    mine, beside = columns(one, part, ["image_embedding"]), columns(all_, part, ["own_image_embedding"])
    np.testing.assert_allclose(mine, beside, atol=1e-4)


def test_a_dataset_is_not_continued_with_other_weights_or_another_release(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    settings = Dataset.open(embedded.job.out).settings
    assert f"align: hf:AlignModel by transformers {transformers.__version__}" in settings.model
    monkeypatch.setattr(transformers, "__version__", "6.0.0")
    with pytest.raises(PlanMismatchError, match=r"model is .*by transformers 6\.0\.0"):
        embed(embedded.job)


def test_labels_and_search_take_the_datasets_own_model(embedded: Embedded, tmp_path: Path) -> None:
    folder = embedded.folders["align"]
    own = partial(own_loop, folder, samples()[0])
    model = Adapted(embedded.job.out, "align", f"hf:{folder}", own)
    model.check_labels(tmp_path, r"made with hf:AlignModel \(align\): name its weights with --model hf:FOLDER")
    model.check_search(tmp_path, image=4)

"""Models of open_clip in the main job, beside ours and one of transformers: rows, resume, labels, search."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import adapted_kit
import alone
import numpy as np
import open_clip_kit
import pytest
from adapted_kit import cosines
from adapted_steps import Adapted
from clipmill.clipmodel.models import describe
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.dataset import Dataset, vectors_of
from clipmill.pipeline.embedding.model_files import find_model
from clipmill.pipeline.errors import PlanMismatchError
from fakes import jpeg, write_pairs
from open_clip_kit import own_loop
from PIL import Image

PAIRS = 4  # a shard
NAMES = ("resnet", "coca", "siglip")


@dataclass(frozen=True)
class Embedded:
    job: EmbedJob
    folders: dict[str, Path]  # of the models of open_clip
    did: list[str]  # the shards that were embedded, in order


@pytest.fixture(scope="module")
def embedded(base: EmbedJob, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Two shards in two runs, in this process, which has open_clip."""
    open_clip_kit.library()
    root = tmp_path_factory.mktemp("open_clip")
    folders = {name: open_clip_kit.save(name, root / name) for name in NAMES}
    clips = [f"{name}=open_clip:{folder}" for name, folder in folders.items()]
    others = [f"own={base.model}", f"zh=hf:{adapted_kit.save('chinese_clip', root / 'zh')}"]
    job = replace(
        base, inputs=[str(root / "data")], out=str(root / "out"), model=[*others, *clips], decode="exact",
        embedding_type="float32", workers=1,
    )  # fmt: skip
    (root / "data").mkdir()
    did: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        alone.patch(patch.setattr, lambda shard: did.append(Path(shard.url).name))
        for number in range(2):
            write_pairs(root / f"data/{number}.tar", PAIRS)
            assert embed(job).dataset.embedded == PAIRS * (number + 1)
        yield Embedded(job, folders, did)


def samples() -> tuple[list[Image.Image], list[str]]:
    """Of each shard."""
    texts = [" ".join([f"number {i}", *["word"] * (i * 3 % 7)]) for i in range(PAIRS)]
    return [Image.open(io.BytesIO(jpeg(i))) for i in range(PAIRS)], texts


def columns(dataset: Dataset, part: str, names: Sequence[str]) -> list[Any]:
    table = dataset.read(part, list(names))
    return [vectors_of(table[name])[0] for name in names]


def test_rows_are_those_of_the_librarys_own_loop_and_a_second_run_adds_to_the_first(embedded: Embedded) -> None:
    assert embedded.did == ["0.tar", "1.tar"]
    dataset = Dataset.open(embedded.job.out)
    for name, folder in embedded.folders.items():
        theirs = own_loop(str(folder), *samples())
        sides = [f"{name}_image_embedding", f"{name}_text_embedding"]
        for part in dataset.parts:
            for mine, expected in zip(columns(dataset, part, sides), theirs, strict=True):
                np.testing.assert_allclose(mine, expected, atol=1e-4)
            similarity = dataset.read(part, [f"{name}_similarity"])[0].to_numpy()
            np.testing.assert_allclose(similarity, cosines(*theirs), atol=1e-4)


def test_models_of_other_libraries_have_the_same_rows_beside_them(embedded: Embedded, tmp_path: Path) -> None:
    others = [model for model in embedded.job.model if not model.partition("=")[2].startswith("open_clip")]
    apart = replace(embedded.job, model=others, out=str(tmp_path / "apart"))
    embed(apart)
    one, all_ = Dataset.open(apart.out), Dataset.open(embedded.job.out)
    names = ["own_image_embedding", "own_text_embedding", "zh_image_embedding", "zh_text_embedding"]
    for mine, beside in zip(*(columns(each, all_.parts[0], names) for each in (one, all_)), strict=True):
        np.testing.assert_allclose(mine, beside, atol=1e-4)


def test_a_dataset_is_not_continued_with_another_release(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    library = open_clip_kit.library()
    settings = Dataset.open(embedded.job.out).settings
    assert f"resnet: open_clip:CLIP by open_clip {library.__version__}, settings " in settings.model
    monkeypatch.setattr(library, "__version__", "4.0.0")
    with pytest.raises(PlanMismatchError, match=r"model is .*by open_clip 4\.0\.0"):
        embed(embedded.job)


def test_labels_and_search_take_the_datasets_own_model(embedded: Embedded, tmp_path: Path) -> None:
    folder = embedded.folders["siglip"]
    own = partial(own_loop, str(folder), samples()[0])
    model = Adapted(embedded.job.out, "siglip", f"open_clip:{folder}", own)
    model.check_labels(tmp_path, r"made with open_clip:CustomTextCLIP \(siglip\): name its weights with")
    model.check_search(tmp_path, image=2)


WORKER = """
import pickle, sys
from pathlib import Path
import numpy as np
files, card, images, texts = pickle.loads(Path(sys.argv[1]).read_bytes())
assert "open_clip" not in sys.modules
from clipmill.clipmodel.models import read
from clipmill.pipeline.embedding.encoder import encoder_of
decoder, reader = card.images(), card.texts()
rows = [reader.truncate(ids) for ids in reader.encode(texts)]
encoder = encoder_of(read(files.here()).model)
np.savez(sys.argv[2], *encoder.encode([decoder.with_size(image)[0] for image in images], rows))
"""


def test_a_process_that_is_sent_files_and_card_makes_the_same_rows(embedded: Embedded, tmp_path: Path) -> None:
    """As Ray's are, with torchvision, and with images that open_clip's own transform makes ready."""
    files = find_model(f"open_clip:{embedded.folders['coca']}")
    sent = files, describe(files.resolved), [jpeg(number) for number in range(PAIRS)], samples()[1]
    (tmp_path / "sent").write_bytes(pickle.dumps(sent))
    subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path / "sent"), str(tmp_path / "made.npz")],
        env=os.environ | {"PYTHONPATH": str(open_clip_kit.FOLDER)},
        timeout=300,
        check=True,
    )
    dataset = Dataset.open(embedded.job.out)
    here = columns(dataset, dataset.parts[0], ["coca_image_embedding", "coca_text_embedding"])
    for there, expected in zip(np.load(tmp_path / "made.npz").values(), here, strict=True):
        np.testing.assert_allclose(there, expected, atol=1e-4)

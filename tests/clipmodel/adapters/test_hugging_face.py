"""Models of transformers: vectors equal those of the library's own loop, and what cannot be run is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapted_kit
import numpy as np
import pytest
import torch
from adapted_kit import own_loop
from clipmill.clipmodel.adapters.images import ProcessedImages
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.models import describe, load, resolve
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.zeroshot import classifier
from clipmill.pipeline.embedding.encoder import encoder_of
from picture_kit import encoded
from PIL import Image

TEXTS = ["a cat", "", "a very long story of a dog and of another dog, " * 5, "猫 und ein Hund", "a cat"]
OWN = {"chinese_clip": Preprocess, "align": ProcessedImages, "altclip": Preprocess, "siglip": Preprocess}

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    root = tmp_path_factory.mktemp("hf")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else adapted_kit.save(name, root / name)

    return folder


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(1)
    sizes = ((70, 50), (60, 90), (48, 48), (200, 100))
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


@pytest.mark.parametrize("name", adapted_kit.MAKERS)
def test_vectors_are_those_of_the_librarys_own_loop(name: str, saved: Saved) -> None:
    loaded = load(f"hf:{saved(name)}")
    card, tokenizer = pickle.loads(pickle.dumps(loaded.card)), loaded.card.texts()
    assert card == loaded.card and isinstance(card.images(), OWN[name])
    rows = [tokenizer.truncate(ids) for ids in card.texts().encode(TEXTS)]
    images = [card.images().with_size(encoded(image, "PNG"))[0] for image in pictures()]
    ours = encoder_of(loaded.model, batch_size=3).encode(images, rows)
    theirs = own_loop(saved(name), pictures(), TEXTS)
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5)
    assert len({tuple(row) for row in theirs[0].round(3)}) == len(images), "images differ"


def test_captions_are_counted_before_they_are_cut(saved: Saved) -> None:
    texts = load(f"hf:{saved('align')}").card.texts()
    lengths = [len(ids) for ids in texts.encode(TEXTS)]
    assert lengths[0] == lengths[4] < texts.context_length == 24 < lengths[2]
    assert [len(texts.truncate(ids)) for ids in texts.encode(TEXTS[1:3])] == [2, 24]


def test_classes_become_vectors_as_with_our_own_models(saved: Saved) -> None:
    loaded = load(f"hf:{saved('altclip')}")
    names = ["cat", "a dog that is large", "tree"]
    vectors = classifier(loaded.model, loaded.tokenizer, names, ["a photo of a {}"], batch_size=2)
    expected = own_loop(saved("altclip"), pictures()[:1], [f"a photo of a {name}" for name in names])[1]
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-5)
    assert float(loaded.model.logit_scale) == pytest.approx(float(loaded.model.inner.logit_scale))


def test_half_precision_stays_near(saved: Saved) -> None:
    loaded = load(f"hf:{saved('chinese_clip')}")
    images = [loaded.preprocess.with_size(encoded(image, "PNG"))[0] for image in pictures()]
    rows = [loaded.tokenizer.truncate(ids) for ids in loaded.tokenizer.encode(TEXTS)]
    exact = encoder_of(loaded.model).encode(images, rows)
    for precision in ("bf16", "pure_bf16"):
        halves = encoder_of(loaded.model, precision=precision).encode(images, rows)
        for near, expected in zip(halves, exact, strict=True):
            assert adapted_kit.cosines(near, expected).min() > 0.99 and (near != expected).any()
    assert loaded.model.inner.dtype == torch.float32, "the model itself is left as it was"
    with pytest.raises(ModelError, match=r"^--precision fp8 is for our own VisionTransformers"):
        loaded.card.check_precision("fp8")


def test_the_card_holds_library_version_and_weights(saved: Saved) -> None:
    import transformers

    resolved = resolve(f"hf:{saved('siglip')}")
    card = describe(resolved)
    told = json.loads(json.dumps(card.as_json()))
    assert (told["variant"], told["weights"]) == ("hf:SiglipModel", "siglip")
    assert (told["library"], told["version"]) == ("transformers", transformers.__version__)
    assert told["weights_sha256"] == resolved.sha256 and told["config"]["embed_dim"] == card.embed_dim == 32
    assert told["sigmoid"]["bias"] == pytest.approx(float(load(resolved).model.inner.logit_bias))
    assert card.words()[0] == f"hf:SiglipModel by transformers {transformers.__version__}"
    assert card.flops.image > 0 and card.flops.token > 0


def changed(folder: Path, to: Path, **values: Any) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | values))
    return to


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("code was run",)


def test_no_code_of_a_folder_is_run(saved: Saved, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = changed(saved("align"), tmp_path / "own", model_type="mine", auto_map={"AutoModel": "modeling.Mine"})
    (own / "modeling.py").write_text("print('code was run')")
    with pytest.raises(ModelError, match=r"own/config\.json: the model needs code of its own, which is not run"):
        load(f"hf:{own}")
    pickled = changed(saved("align"), tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({"logit_scale": Harmful()}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled: transformers cannot load it: .*[Ww]eights"):
        load(f"hf:{pickled}")
    assert "code was run" not in "".join(capfd.readouterr())


def test_what_is_no_whole_model_of_images_and_texts_is_refused(saved: Saved, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    lacking = changed(saved("align"), tmp_path / "lacking")
    tensors = load_file(lacking / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacking: the weights lack 1 tensors of the model, such as text_projection"):
        load(f"hf:{lacking}")
    unknown = changed(saved("align"), tmp_path / "unknown", model_type="mine")
    with pytest.raises(ModelError, match=r"unknown/config\.json: the model is of type mine, which transformers does"):
        load(f"hf:{unknown}")
    text_only = changed(saved("align"), tmp_path / "text", model_type="bert")
    with pytest.raises(ModelError, match=r"text: a BertModel has no get_image_features"):
        load(f"hf:{text_only}")
    for file, what in (("preprocessor_config.json", "image processor"), ("tokenizer.json", "tokenizer")):
        folder = changed(saved("align"), tmp_path / file)
        (folder / file).unlink()
        with pytest.raises(ModelError, match=rf"{file}: there is no {what}, "):
            load(f"hf:{folder}")

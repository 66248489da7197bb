"""Models of open_clip: vectors equal those of the library's own loop, and what cannot be run is refused."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip_kit
import pytest
import torch
from adapted_kit import cosines
from clipmill.clipmodel.adapters.images import ProcessedImages
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.models import describe, load, resolve
from clipmill.clipmodel.preprocess import Preprocess
from clipmill.clipmodel.zeroshot import classifier
from clipmill.pipeline.embedding.encoder import encoder_of
from clipmill.pipeline.embedding.model_files import find_model
from open_clip_kit import CONTEXT, own_loop
from picture_kit import encoded
from PIL import Image

TEXTS = ["a cat", "", "a very long story of a dog and of another dog, " * 5, "猫 und ein Hund!", "A cat!! "]

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    open_clip_kit.library()
    root = tmp_path_factory.mktemp("open_clip")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else open_clip_kit.save(name, root / name)

    return folder


def pictures() -> list[bytes]:
    """In several modes: open_clip resizes before it converts to RGB."""
    random = np.random.default_rng(1)
    sizes = ((70, 50), (60, 90), (64, 64), (200, 100))
    made = [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    grey_with_alpha = Image.merge("LA", [made[0].getchannel(0), made[0].getchannel(1)])
    return [encoded(image, "PNG") for image in (*made, made[1].quantize(16), grey_with_alpha)]


@pytest.mark.parametrize("name", open_clip_kit.MAKERS)
def test_vectors_are_those_of_the_librarys_own_loop(name: str, saved: Saved) -> None:
    loaded = load(f"open_clip:{saved(name)}")
    card = pickle.loads(pickle.dumps(loaded.card))
    assert card == loaded.card
    assert isinstance(card.images(), ProcessedImages if name == "coca" else Preprocess)
    rows = [card.texts().truncate(ids) for ids in card.texts().encode(TEXTS)]
    tokenizer = open_clip_kit.library().get_tokenizer(f"local-dir:{saved(name)}")
    assert np.array_equal(rows, tokenizer(TEXTS).numpy())
    images = [card.images().with_size(picture)[0] for picture in pictures()]
    ours = encoder_of(loaded.model, batch_size=4).encode(images, rows)
    theirs = own_loop(str(saved(name)), pictures(), TEXTS)
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, atol=2e-5)
    for vectors, different in zip(theirs, (len(images), 4), strict=True):
        assert len({tuple(row) for row in vectors.round(3)}) >= different, "not all are alike"


@pytest.mark.parametrize(("name", "added"), [("vit", 2), ("siglip", 2), ("clipa", 2), ("openvision", 3)])
def test_captions_are_counted_before_they_are_cut(name: str, added: int, saved: Saved) -> None:
    texts = load(f"open_clip:{saved(name)}").card.texts()
    short, long = (len(ids) for ids in texts.encode(["a", "a " * 40]))
    assert (short, long) == (1 + added, 40 + added) and texts.context_length == CONTEXT


def test_classes_become_vectors_as_with_our_own_models(saved: Saved) -> None:
    loaded = load(f"open_clip:{saved('clipa')}")
    names = ["cat", "a dog that is large", "tree"]
    vectors = classifier(loaded.model, loaded.tokenizer, names, ["a photo of a {}"], batch_size=2)
    expected = own_loop(str(saved("clipa")), pictures()[:1], [f"a photo of a {name}" for name in names])[1]
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-5)
    assert float(loaded.model.logit_scale) == pytest.approx(float(loaded.model.inner.logit_scale))


@pytest.mark.parametrize("name", ["vit", "siglip", "roberta"])
def test_half_precision_stays_near(name: str, saved: Saved) -> None:
    loaded = load(f"open_clip:{saved(name)}")
    images = [loaded.preprocess.with_size(picture)[0] for picture in pictures()]
    rows = [loaded.tokenizer.truncate(ids) for ids in loaded.tokenizer.encode(TEXTS)]
    exact = encoder_of(loaded.model).encode(images, rows)
    for precision in ("bf16", "pure_bf16"):
        halves = encoder_of(loaded.model, precision=precision).encode(images, rows)
        for near, expected in zip(halves, exact, strict=True):
            assert cosines(near, expected).min() > 0.99 and (near != expected).any()
    with pytest.raises(ModelError, match=r"^--precision fp8 is for our own VisionTransformers"):
        loaded.card.check_precision("fp8")


def test_the_card_holds_library_version_weights_and_what_only_settings_tell(saved: Saved, tmp_path: Path) -> None:
    import timm

    version = open_clip_kit.library().__version__
    resolved = resolve(f"open_clip:{saved('siglip')}")
    card = describe(resolved)
    told = json.loads(json.dumps(card.as_json()))
    assert (told["variant"], told["weights"]) == ("open_clip:CustomTextCLIP", "siglip")
    assert (told["library"], told["version"]) == ("open_clip", f"{version} with timm {timm.__version__}")
    assert told["weights_sha256"] == resolved.sha256 and told["config"]["embed_dim"] == card.embed_dim == 48
    assert told["sigmoid"]["bias"] == pytest.approx(float(load(resolved).model.inner.logit_bias))
    assert card.flops.image > 0 and card.flops.token > 0
    word = describe(resolve(f"open_clip:{saved('vit')}")).words()[0]
    assert word.startswith(f"open_clip:CLIP by open_clip {version}, settings ")
    other = shutil.copytree(saved("vit"), tmp_path / "vit")
    change(other, lambda model: model["vision_cfg"].update(head_width=16))
    assert describe(resolve(f"open_clip:{other}")).words()[0] not in (word, "")


def change(folder: Path, to: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "open_clip_config.json"
    settings = json.loads(path.read_text())
    to(settings["model_cfg"])
    path.write_text(json.dumps(settings))


@pytest.fixture
def named(saved: Saved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A model of open_clip by name, which knows a tag of its weights, on a hub that is offline, with some in its
    cache."""
    from huggingface_hub import constants

    open_clip = open_clip_kit.library()
    model = json.loads((saved("quickgelu") / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-small", model)
    release = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "resize_mode": "squash", "quick_gelu": True}
    tags = {"mine": {"hf_hub": "org/small/", **release}, "away": {"hf_hub": "org/away/", **release}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-small", tags)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for repo in ("small", "siglip"):
        place = tmp_path / f"hub/models--org--{repo}"
        folder = shutil.copytree(saved("quickgelu" if repo == "small" else repo), place / "snapshots/1")
        if repo == "siglip":
            change(folder, lambda model: model["text_cfg"].update(hf_tokenizer_name="org/siglip"))
        (place / "refs").mkdir()
        (place / "refs/main").write_text("1")
    return "ViT-small"


def vectors_by(spec: str) -> tuple[Any, Any]:
    loaded = load(spec)
    rows = [loaded.tokenizer.truncate(ids) for ids in loaded.tokenizer.encode(TEXTS)]
    return encoder_of(loaded.model).encode([loaded.preprocess.with_size(one)[0] for one in pictures()], rows)


def test_a_name_takes_a_tag_a_file_or_a_seed(named: str, saved: Saved, tmp_path: Path) -> None:
    weights = saved("quickgelu") / "open_clip_model.safetensors"
    trained, alone = tmp_path / "epoch_1.pt", tmp_path / "alone.safetensors"
    tensors = load(f"open_clip:{saved('quickgelu')}").model.inner.state_dict()
    torch.save({"epoch": 1, "state_dict": {f"module.{key}": value for key, value in tensors.items()}}, trained)
    shutil.copy(weights, alone)
    for given, called in (("mine", "mine (hf:org/small)"), (trained, trained.name), (alone, alone.name)):
        card = describe(resolve(f"open_clip:{named}={given}"))
        assert (card.variant, card.weights) == (f"open_clip:{named}", called)
        assert ("squash" in card.words()[1]) == (given == "mine")
        theirs = own_loop(named, pictures(), TEXTS, str(given))
        for mine, expected in zip(vectors_by(f"open_clip:{named}={given}"), theirs, strict=True):
            np.testing.assert_allclose(mine, expected, atol=1e-5)
    seeds = [load(f"open_clip:{named}=random:{seed}").card.weights_sha256 for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_settings_beside_a_file_say_how_its_images_are_made_ready(named: str, saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("quickgelu"), tmp_path / "beside")
    settings = json.loads((folder / "open_clip_config.json").read_text())
    settings["preprocess_cfg"] = {"mean": [0.1, 0.2, 0.3], "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    for place in (folder, folder / "open_clip_model.safetensors"):
        assert "squash, bicubic, mean [0.1, 0.2, 0.3]" in describe(resolve(f"open_clip:{named}={place}")).words()[1]


def test_a_repository_is_a_folder_in_the_hubs_cache(named: str, saved: Saved) -> None:
    for spec in ("open_clip:org/siglip", "open_clip:hf-hub:org/siglip"):
        card = load(spec).card
        assert (card.variant, card.weights) == ("open_clip:CustomTextCLIP", "org/siglip")
        assert card.words()[1:] == load(f"open_clip:local-dir:{saved('siglip')}").card.words()[1:]


@dataclass(frozen=True)
class Copies:
    """As of `model_files.Copies`, of one file."""

    original: Path

    @property
    def names(self) -> list[str]:
        return [self.original.name]

    def write(self, name: str, path: Path) -> None:
        shutil.copy(self.original.with_name(name), path)


def test_another_machine_gets_settings_and_tokenizer_with_the_weights(saved: Saved, tmp_path: Path) -> None:
    found = find_model(f"open_clip:{saved('clipa')}")
    (weights,) = found.needed
    lost = replace(found.resolved, files=(tmp_path / weights.name,))
    there = replace(found, resolved=lost, copies=Copies(weights)).here()
    assert there.files[0] not in (weights, lost.files[0])
    assert load(there).card == load(found.resolved).card
    change(other := shutil.copytree(saved("clipa"), tmp_path / "other"), lambda model: model.update(quick_gelu=True))
    assert find_model(f"open_clip:{other}").key != found.key, "they would be taken for copies of each other"


def refusal(spec: str) -> str:
    with pytest.raises(ModelError) as caught:
        load(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_open_clip_does_not_know_is_told_in_one_line(
    named: str, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_clip_kit.library()
    version = library.__version__
    unknown = "open_clip:ViT-B-33 is neither a folder nor a model of open_clip"
    assert refusal("open_clip:ViT-B-33=x").startswith(f"{unknown} {version}: did you mean ViT-B-32 or ")
    assert refusal(f"open_clip:{named}").endswith(": name its weights, a tag or a file: there are mine, away")
    wrong = refusal(f"open_clip:{named}=min")
    assert wrong == f"open_clip:{named}: min is neither a tag of its weights nor a file: did you mean mine?"
    assert refusal(f"open_clip:{named}=").startswith(f"open_clip:{named}=: name a model and its weights")
    away = refusal(f"open_clip:{named}=away")
    assert away.startswith("cannot download org/away from Hugging Face (")
    assert away.endswith(f"get its open_clip_model.safetensors and give --model open_clip:{named}=PATH")
    assert "cannot download org/none from Hugging Face (" in refusal("open_clip:org/none")
    change(shutil.copytree(saved("quickgelu"), tmp_path / "gelu"), lambda model: model.pop("quick_gelu"))
    gelu = json.loads((tmp_path / "gelu/open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(library.factory._MODEL_CONFIGS, named, gelu)
    assert refusal(f"open_clip:{named}=mine").endswith(f"QuickGELU: name open_clip:{named}-quickgelu=mine")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert refusal(f"open_clip:{named}=mine").endswith("pip install 'clipmill[open_clip]'")


def test_weights_that_do_not_fit_and_folders_that_lack_something_are_refused(saved: Saved, tmp_path: Path) -> None:
    def copy(name: str, to: str) -> Path:
        return shutil.copytree(saved(name), tmp_path / to)

    change(copy("vit", "wide"), lambda model: model.update(embed_dim=8))
    assert "open_clip_model.safetensors: does not fit the settings of its folder: size mismatch" in refusal(
        f"open_clip:{tmp_path}/wide"
    )
    change(copy("vit", "odd"), lambda model: model["vision_cfg"].update(colour="red"))
    assert "open_clip cannot make it: " in refusal(f"open_clip:{tmp_path}/odd")
    weights = copy("vit", "damaged") / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert f"{weights}: truncated or damaged safetensors" in refusal(f"open_clip:{tmp_path}/damaged")
    for lacking, told in (
        ("open_clip_config.json", "open_clip_config.json is not readable as JSON"),
        ("open_clip_model.safetensors", "one file of weights is needed (none is there)"),
        ("tokenizer.json", "there is no tokenizer, "),
    ):
        (copy("clipa", lacking) / lacking).unlink()
        assert told in refusal(f"open_clip:{tmp_path / lacking}")


class Harmful:
    def __reduce__(self) -> Any:
        return exec, ("print('code was run')",)  # Ray replaces `print` itself


def test_no_code_of_a_folder_is_run(saved: Saved, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pickled = shutil.copytree(saved("vit"), tmp_path / "pickled")
    (pickled / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": {"logit_scale": Harmful()}}, pickled / "open_clip_pytorch_model.bin")
    assert "refusing to unpickle code (builtins.exec)" in refusal(f"open_clip:{pickled}")
    tower = shutil.copytree(saved("roberta"), tmp_path / "tower")
    (tower / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}}))
    change(tower, lambda model: model["text_cfg"].update(hf_model_name=str(tower)))
    (tower / "mine.py").write_text("print('code was run')")
    assert "tower/config.json: the model needs code of its own" in refusal(f"open_clip:{tower}")
    reader = shutil.copytree(saved("clipa"), tmp_path / "reader")
    own = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (reader / "tokenizer_config.json").write_text(json.dumps(own))
    (reader / "mine.py").write_text("print('code was run')\nclass Mine: pass")
    change(reader, lambda model: model["text_cfg"]["tokenizer_kwargs"].update(trust_remote_code=True))
    try:
        load(f"open_clip:{reader}")
    except ModelError as error:
        assert "open_clip cannot read its tokenizer" in str(error)
    assert "code was run" not in "".join(capfd.readouterr())


def test_loading_is_silent_and_sets_up_no_logging(saved: Saved, caplog: pytest.LogCaptureFixture) -> None:
    handlers = list(logging.getLogger().handlers)
    load(f"open_clip:{saved('mobileclip')}")
    assert logging.getLogger().handlers == handlers and caplog.records == []

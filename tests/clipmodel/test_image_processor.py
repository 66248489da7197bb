"""Settings of Hugging Face's image processors: pixel values are those of transformers, or the setting is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.image_processor import preprocessing
from clipmill.clipmodel.preprocess import Preprocess, normalise
from clipmill.clipmodel.weights import load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from weights_kit import error_of, hugging_face

SIZE = 48  # the encoder's
FIXED = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
# openai/clip-vit-base-patch32's own file, but for the sizes
OPENAI = {
    "crop_size": SIZE,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": SIZE,
}


def drawn(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    if mode == "1":
        return drawn("L", width, height, seed).convert("1")
    bands = len(Image.new(mode, (1, 1)).getbands())
    image = Image.frombytes(mode, (width, height), random.bytes(width * height * bands))
    if mode == "P":
        image.putpalette(random.bytes(768))
        image.info["transparency"] = seed % 256
    return image


def ours(values: dict[str, Any], image: Image.Image) -> np.ndarray:
    config = preprocessing(values, SIZE)
    pixels = Preprocess(SIZE, config)(image)
    return normalise(torch.from_numpy(pixels[None]), config).numpy()[0]


def theirs(values: dict[str, Any], image: Image.Image) -> np.ndarray:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_siglip = values.get("image_processor_type") == "SiglipImageProcessor"
        kind = SiglipImageProcessorPil if of_siglip else CLIPImageProcessorPil
        processor = kind.from_dict(dict(values))
        return np.asarray(processor(image, return_tensors="np")["pixel_values"][0], dtype=np.float64)


def assert_equal(values: dict[str, Any], image: Image.Image) -> None:
    expected, result = theirs(values, image), ours(values, image)
    assert result.shape == expected.shape == (3, SIZE, SIZE)
    assert np.abs(result - expected).max() < 1e-4


ACCEPTED: dict[str, dict[str, Any]] = {
    "as openai ships it": {},
    "shortest edge": {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}},
    "larger than the crop": {"size": {"shortest_edge": 61}},
    "smaller than the crop": {"size": 31},
    "bilinear": {"resample": 2},
    "squashed": {"size": {"height": SIZE, "width": SIZE}},
    "squashed, not cropped": {"size": {"height": SIZE, "width": SIZE}, "do_center_crop": False},
    "squashed as a list": {"size": [SIZE, SIZE], "crop_size": [SIZE, SIZE]},
    "squashed, then cropped": {"size": {"height": 57, "width": 57}},
    "squashed, then padded": {"size": {"height": 33, "width": 33}},
    "not normalised": {"do_normalize": False},
    "mean and std of pixels to 255": {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": 60.0},
    "nearly nothing of a pixel": {"rescale_factor": 1e-9},
    "another factor": {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    "one mean for all": {"image_mean": 0.5, "image_std": 0.25},
    "nulls of settings that change nothing": {"do_pad": None, "data_format": None, "device": None, "pad_size": None},
    "a file of today": {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_pad": False},
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "CMYK", "P", "1"])
@pytest.mark.parametrize("width, height", [(90, 61), (61, 90), (48, 48), (20, 33), (200, 49), (9, 140)])
def test_accepted_settings_give_transformers_pixel_values(name: str, mode: str, width: int, height: int) -> None:
    assert_equal(OPENAI | ACCEPTED[name], drawn(mode, width, height))


@pytest.mark.parametrize("resample", [{}, {"resample": 2}, {"resample": 3, "image_mean": [0.4, 0.5, 0.6]}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "LA", "P", "1"])
@pytest.mark.parametrize("width, height", [(90, 61), (48, 48), (9, 140)])
def test_siglips_settings_give_transformers_pixel_values(
    resample: dict[str, Any], mode: str, width: int, height: int
) -> None:
    """2 is SigLIP 2's, bilinear; without cropping, mean and std it has defaults of its own."""
    values = {"image_processor_type": "SiglipImageProcessor", "size": {"height": SIZE, "width": SIZE}, **resample}
    assert_equal(values, drawn(mode, width, height))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"do_resize": False}, "do_resize false: only true is supported"),
        ({"do_convert_rgb": False}, "do_convert_rgb false: only true is supported"),
        ({"do_pad": True}, "do_pad true: only false is supported"),
        ({"resample": 1}, "resample 1: only 3, bicubic, and 2, bilinear, are supported"),
        ({"resample": "bicubic"}, "resample bicubic: only 3, bicubic, and 2, bilinear, are supported"),
        ({"do_center_crop": False}, "do_center_crop false: set it to true, or size to a height and width of 48"),
        ({"do_center_crop": "no"}, "do_center_crop no: give true or false"),
        ({"crop_size": 224}, "crop_size 224: the encoder takes 48 x 48 pixels"),
        ({"crop_size": None}, "crop_size null: the encoder takes 48 x 48 pixels"),
        ({"resample": None}, "resample null: only 3, bicubic, and 2, bilinear, are supported"),
        ({"image_mean": None}, "image_mean null: give a number"),
        ({"do_rescale": None}, "do_rescale null: give true or false"),
        ({"crop_size": {"height": 48, "width": 40}}, "the encoder takes 48 x 48 pixels"),
        ({"size": {"height": 48, "width": 64}}, 'size {"height": 48, "width": 64}: give a number'),
        ({"size": {"height": 64, "width": 64}, "do_center_crop": False}, "the encoder takes 48 x 48 pixels"),
        ({"size": {"shortest_edge": 48, "longest_edge": 64}}, "give a number, a shortest_edge, or a height and"),
        ({"size": {"max_height": 48, "max_width": 48}}, "give a number, a shortest_edge, or a height and"),
        ({"size": 0}, "size 0: give a number"),
        ({"size": 10**9}, "size 1000000000: give a number of pixels from 1 to 4096"),
        ({"size": True}, "size true: give a number"),
        ({"size": "224"}, "size 224: give a number"),
        ({"image_mean": [0.5, 0.5]}, "image_mean [0.5, 0.5]: give three numbers"),
        ({"image_std": ["a", "b", "c"]}, "image_std a: give a number"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std [0.5, 0.0, 0.5]: no pixel can be divided by 0"),
        ({"image_std": float("nan")}, "image_std NaN: give a number"),
        ({"do_rescale": False}, "do_rescale false: with it, pixels have values of up to 974"),
        ({"image_mean": 1e21, "image_std": 1e21}, "image_mean 1e+21: give a number"),
        ({"image_mean": 10**400}, f"image_mean 1{'0' * 59}: give a number"),
        ({"rescale_factor": 0}, "rescale_factor 0.0: give a number of 1e-09 or more"),
        ({"rescale_factor": 5e-324}, "rescale_factor 5e-324: give a number of 1e-09 or more"),
        ({"rescale_factor": 1}, "rescale_factor 1: with it, pixels have values of up to 974"),
        ({"feature_extractor_type": "ViTFeatureExtractor"}, "only CLIPImageProcessor and SiglipImageProcessor are"),
        ({"default_to_square": True}, "default_to_square true"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order true: this setting is not known"),
    ],
)
def test_other_settings_are_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as caught:
        preprocessing(OPENAI | change, SIZE)
    assert says in str(caught.value)


PIXELS = st.sampled_from([31, 47, 48, 49, 55, 64, 96])
SIDES = st.fixed_dictionaries({"height": PIXELS, "width": PIXELS})
ANY = (
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=3) | st.lists(PIXELS, max_size=3)
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "size": PIXELS | SIDES | st.fixed_dictionaries({"shortest_edge": PIXELS}) | ANY,
        "crop_size": st.just(SIZE) | st.just({"height": SIZE, "width": SIZE}) | PIXELS | SIDES | ANY,
        "do_resize": st.booleans() | ANY,
        "do_center_crop": st.booleans(),
        "do_rescale": st.booleans(),
        "do_normalize": st.booleans(),
        "do_convert_rgb": st.booleans(),
        "do_pad": st.none() | st.booleans(),
        "resample": st.integers(0, 5) | ANY,
        "rescale_factor": st.sampled_from([1 / 255, 1 / 256, 1 / 127.5, 0.01, 1.0]) | ANY,
        "image_mean": st.lists(st.floats(-1, 1), min_size=3, max_size=3) | st.floats(-200, 200) | ANY,
        "image_std": st.lists(st.floats(0.01, 2), min_size=3, max_size=3) | st.floats(0.001, 100) | ANY,
        "default_to_square": st.booleans(),
    },
)


@settings(FIXED, max_examples=600)
@given(VALUES, st.sampled_from(["RGB", "L", "RGBA", "P"]), st.integers(2, 120), st.integers(2, 120), st.data())
def test_whatever_is_accepted_gives_transformers_pixel_values(
    values: dict[str, Any], mode: str, width: int, height: int, data: st.DataObject
) -> None:
    kept = data.draw(st.sets(st.sampled_from(sorted(OPENAI))))  # fewer of the drawn settings, so that more are accepted
    values = values | {name: OPENAI[name] for name in kept}
    try:
        preprocessing(values, SIZE)
    except ModelError as error:
        assert ": " in str(error) and "\n" not in str(error)
    else:
        assert_equal(values, drawn(mode, width, height))


def test_a_folders_preprocessor_file_is_read_and_a_refusal_names_it(tmp_path: Path) -> None:
    hugging_face().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(OPENAI))
    loaded, image = load(str(tmp_path)), drawn("RGB", 90, 61)
    pixels = torch.from_numpy(loaded.preprocess(image)[None])
    assert np.abs(normalise(pixels, loaded.card.config.preprocess)[0].numpy() - theirs(OPENAI, image)).max() < 1e-4
    path.write_text(json.dumps(OPENAI | {"resample": 1}))
    assert error_of(str(tmp_path)) == f"{path}: resample 1: only 3, bicubic, and 2, bilinear, are supported"
    path.write_text("[" * 100_000)
    assert f"{path} is not readable as JSON" in error_of(str(tmp_path))
    path.write_text("[1]")
    assert f"{path} is not a JSON object" in error_of(str(tmp_path))


def test_a_processor_file_goes_before_a_preprocessor_file_where_it_has_an_image_part(tmp_path: Path) -> None:
    hugging_face().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OPENAI))
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert load(str(tmp_path)).card.config.preprocess.resize == "shortest"
    squashed = OPENAI | ACCEPTED["squashed, not cropped"]
    path.write_text(json.dumps({"processor_class": "CLIPProcessor", "image_processor": squashed}))
    assert load(str(tmp_path)).card.config.preprocess.resize == "squash"
    path.write_text(json.dumps({"image_processor": [1]}))
    assert error_of(str(tmp_path)) == f"{path}: image_processor is not an object"

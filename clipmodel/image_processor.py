"""The settings of a Hugging Face image processor -> `PreprocessConfig`, or a refusal that names the setting.

Defaults and meanings are those of transformers' CLIPImageProcessor and SiglipImageProcessor (their Pillow backend,
version 5): every setting that is accepted gives their pixel values within 1e-4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .config import OPENAI_MEAN, OPENAI_STD, Interpolation, PreprocessConfig
from .errors import ModelError

_TYPES = (
    *("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"),
    *("CLIPFeatureExtractor", "CLIPProcessor"),  # the last is what some files with all settings call themselves
)
_SIGLIP_TYPES = (
    *("SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil"),
    *("SiglipFeatureExtractor", "SiglipProcessor"),
)
_SIGLIP: dict[str, Any] = {  # its defaults, where they differ
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
_FILTERS: dict[Any, Interpolation] = {3: "bicubic", 2: "bilinear"}  # Pillow's numbers for them
_MOST_RESIZED = 4096  # pixels a side
_LARGEST_VALUE = 100  # of a pixel after normalisation; float32 keeps larger ones to less than 1e-4
_SMALLEST_FACTOR = 1e-9  # with less, all pixels are black in float32, and a mean over the factor may exceed its range
_LARGEST_NUMBER = 1e20  # in float32, also when it is divided by the smallest factor
_FIXED: dict[str, tuple[Any, str]] = {  # settings of which one value is supported, and the advice for the others
    "do_resize": (True, "only true is supported"),
    "do_convert_rgb": (True, "only true is supported, as the encoder needs RGB"),
    "do_pad": (False, "only false is supported"),
    "default_to_square": (False, "only false is supported"),
    "use_square_size": (False, "only false is supported; write size as height and width"),
}
PIXELS = {  # settings that change pixels; null is no value for them
    *(_FIXED.keys() - {"do_pad", "default_to_square", "use_square_size"}),
    *(
        "resample",
        "size",
        "crop_size",
        "do_center_crop",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
    ),
}
_KNOWN = {
    *PIXELS,
    *_FIXED,
    # these change no pixel
    *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "return_tensors", "data_format"),
    *("input_data_format", "device", "disable_grouping", "image_seq_length", "pad_size", "_valid_processor_keys"),
    *("transformers_version", "_processor_class", "name_or_path", "model_input_names"),
}


def preprocessing(settings: Mapping[str, Any], image_size: int) -> PreprocessConfig:
    """image_size: the encoder's, pixels. ModelError, `SETTING …: ADVICE`, for what is not supported."""
    settings = {name: value for name, value in settings.items() if value is not None or name in PIXELS}
    for name in ("image_processor_type", "feature_extractor_type"):
        if settings.get(name) in _SIGLIP_TYPES:
            settings = {**_SIGLIP, **settings}
        elif name in settings and settings[name] not in _TYPES:
            raise _refusal(name, settings[name], "only CLIPImageProcessor and SiglipImageProcessor are supported")
    for name, (supported, advice) in _FIXED.items():
        if settings.get(name, supported) != supported:
            raise _refusal(name, settings[name], advice)
    if unknown := sorted(settings.keys() - _KNOWN):
        raise _refusal(unknown[0], settings[unknown[0]], "this setting is not known; delete it if it changes no pixel")
    resample = settings.get("resample", 3)
    if isinstance(resample, (list, dict, bool)) or resample not in _FILTERS:
        raise _refusal("resample", resample, "only 3, bicubic, and 2, bilinear, are supported")
    squash, resized = _resized(settings.get("size", {"shortest_edge": 224}))
    if _flag(settings, "do_center_crop"):
        crop = settings.get("crop_size", 224)
        if _height_and_width(crop) != (image_size, image_size):
            raise _refusal("crop_size", crop, f"the encoder takes {image_size} x {image_size} pixels")
    elif not squash:
        raise _refusal("do_center_crop", False, f"set it to true, or size to a height and width of {image_size}")
    elif resized != image_size:
        raise _refusal("size", settings["size"], f"the encoder takes {image_size} x {image_size} pixels")
    mean, std = _mean_and_std(settings)
    return PreprocessConfig(
        mean=mean,
        std=std,
        resize="squash" if squash else "shortest",
        resize_to=None if resized == image_size else resized,
        interpolation=_FILTERS[resample],
        steps="transformers",
    )


def _resized(size: Any) -> tuple[bool, int]:
    """(whether both sides are resized, to how many pixels)."""
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        squash, pixels = False, size["shortest_edge"]
    elif _is_pixels(size):
        squash, pixels = False, size
    else:
        height, width = _height_and_width(size)
        if height is None or height != width:
            raise _refusal("size", size, "give a number, a shortest_edge, or a height and the same width")
        squash, pixels = True, height
    if not _is_pixels(pixels) or pixels > _MOST_RESIZED:
        raise _refusal("size", size, f"give a number of pixels from 1 to {_MOST_RESIZED}")
    return squash, pixels


def _height_and_width(size: Any) -> tuple[Any, Any]:
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        size = (size["height"], size["width"])
    elif _is_pixels(size):
        size = (size, size)
    if isinstance(size, (tuple, list)) and len(size) == 2 and all(map(_is_pixels, size)):
        return size[0], size[1]
    return None, None


def _is_pixels(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _mean_and_std(settings: Mapping[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Rescaling, (x * factor - mean) / std, as if the factor were 1 / 255: mean and std are divided by 255 factors."""
    factor = _number(settings, "rescale_factor", 1 / 255) if _flag(settings, "do_rescale") else 1.0
    if not factor >= _SMALLEST_FACTOR:
        raise _refusal("rescale_factor", factor, f"give a number of {_SMALLEST_FACTOR} or more")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if _flag(settings, "do_normalize"):
        mean, std = _channels(settings, "image_mean", OPENAI_MEAN), _channels(settings, "image_std", OPENAI_STD)
    if not all(std):
        raise _refusal("image_std", settings["image_std"], "no pixel can be divided by 0")
    largest = max(max(abs(m), abs(255 * factor - m)) / abs(s) for m, s in zip(mean, std, strict=True))
    if largest > _LARGEST_VALUE:
        name = next((name for name in ("do_rescale", "do_normalize") if not _flag(settings, name)), "rescale_factor")
        advice = f"with it, pixels have values of up to {largest:.0f}; the most that is supported is {_LARGEST_VALUE}"
        raise _refusal(name, settings.get(name), advice)
    if abs(255 * factor - 1) < 1e-9:  # as written, to the last digit
        return mean, std
    scale = 255 * factor
    return (mean[0] / scale, mean[1] / scale, mean[2] / scale), (std[0] / scale, std[1] / scale, std[2] / scale)


def _channels(settings: Mapping[str, Any], name: str, default: tuple[float, ...]) -> tuple[float, float, float]:
    """One number a channel, or one for all."""
    values = settings.get(name, default)
    if isinstance(values, (tuple, list)) and len(values) == 3:
        red, green, blue = (_number({name: value}, name, 0.0) for value in values)
        return red, green, blue
    if isinstance(values, (tuple, list, Mapping)):
        raise _refusal(name, values, "give three numbers, for red, green and blue")
    value = _number(settings, name, 0.0)
    return value, value, value


def _number(settings: Mapping[str, Any], name: str, default: float) -> float:
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST_NUMBER:
        raise _refusal(name, value, "give a number")
    return float(value)


def _flag(settings: Mapping[str, Any], name: str) -> bool:
    """A switch of transformers' that is on by default."""
    value = settings.get(name, True)
    if not isinstance(value, bool):
        raise _refusal(name, value, "give true or false")
    return value


def _refusal(name: str, value: Any, advice: str) -> ModelError:
    shown = value if isinstance(value, str) else json.dumps(value)
    return ModelError(f"{name} {shown[:60]}: {advice}")

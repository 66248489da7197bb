"""The JSON files that hubs keep beside weights, and the settings in them that no tensor shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import Activation, PreprocessConfig, Vocabulary
from .errors import ModelError, one_line
from .image_processor import preprocessing
from .infer import Heads
from .vocabulary import FILES

HF_PROCESSORS = ("processor_config.json", "preprocessor_config.json")  # the first counts where it has an image part
_OPEN_CLIP = "open_clip_config.json"
VOCABULARY_FILES = (*FILES, "vocab.json", "vocab.txt", "sentencepiece.bpe.model")
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    *("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
FILES_BESIDE = ("config.json", *HF_PROCESSORS, _OPEN_CLIP, *TOKENIZER_FILES)
_TOWERS = {
    "clip_vision_model": "an image tower alone",
    "clip_text_model": "a text tower alone",
}


_ACTIVATIONS: dict[str, Activation] = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclass(frozen=True)
class _Kind:
    """transformers' defaults for a type of model."""

    hidden_act: str = "quick_gelu"
    epsilon: float = 1e-5
    text_heads: int = 8


_KINDS = {"clip": _Kind(), "siglip": _Kind("gelu_pytorch_tanh", 1e-6, 12), "metaclip_2": _Kind()}


@dataclass(frozen=True)
class Beside:
    """The settings that files beside the tensors, or a TorchScript program, state; None where they do not."""

    activation: Activation | None = None
    preprocess: PreprocessConfig | None = None
    heads: Heads | None = None
    vocabulary: Vocabulary | None = None  # where it is not to be told from the tensors
    image_size: int | None = None  # pixels; tensors show it but for those that the patches leave over
    eos: int | None = None  # the id of [EOS], which is the last of the vocabulary but for added tokens


def files_beside(folder: Path) -> tuple[Path, ...]:
    """Those of the settings and vocabularies that are there: whoever copies weights has to copy them, too."""
    return tuple(path for name in FILES_BESIDE if (path := folder / name).is_file())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ModelError, which begins with the path, where the file has none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else one_line(error)[:200]
        raise ModelError(f"{path} is not readable as JSON ({reason})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a JSON object")
    return values


def hugging_face(folder: Path) -> Beside:
    """config.json and, where present, the image processor's settings; defaults are those of transformers."""
    path = folder / "config.json"
    if not path.is_file():
        return Beside()
    values = read_json(path)
    kind = str(values.get("model_type", "clip"))
    if kind not in _KINDS:
        raise ModelError(f"{path}: a model of type {kind}, not {' or '.join(_KINDS)}{_tower(kind)}")
    defaults = _KINDS[kind]
    text, vision = _part(values, "text_config", path), _part(values, "vision_config", path)
    activation = _activation(
        [str(tower.get("hidden_act", defaults.hidden_act)) for tower in (text, vision)], kind, path
    )
    if any(tower.get("layer_norm_eps", defaults.epsilon) != defaults.epsilon for tower in (text, vision)):
        raise ModelError(f"{path}: layer_norm_eps is not {defaults.epsilon:g}, which is not supported")
    heads = Heads(
        _count(vision, "num_attention_heads", 12, path),
        _count(text, "num_attention_heads", defaults.text_heads, path),
    )
    eos = text.get("eos_token_id")
    return Beside(
        activation,
        _hugging_face_preprocess(folder, _count(vision, "image_size", 224, path)),
        heads,
        "xlm_v" if kind == "metaclip_2" else None,
        _count(vision, "image_size", 224, path),
        eos if isinstance(eos, int) and eos > 2 else None,  # 2 is what old files have, whatever the vocabulary
    )


def _activation(named: list[str], kind: str, path: Path) -> Activation:
    """The one of both towers."""
    supported = {name: ours for name, ours in _ACTIVATIONS.items() if (ours == "gelu_tanh") == (kind == "siglip")}
    if len(set(named)) > 1 or named[0] not in supported:
        raise ModelError(
            f"{path}: hidden_act {' and '.join(sorted(set(named)))}; only {' or '.join(supported)} is supported"
        )
    return supported[named[0]]


def _tower(kind: str) -> str:
    if kind not in _TOWERS:
        return ""
    return f": {_TOWERS[kind]}; save the whole CLIPModel"


def _part(values: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    part = values.get(name) or {}
    if not isinstance(part, Mapping):
        raise ModelError(f"{path}: {name} is not an object")
    return part


def _count(values: Mapping[str, Any], name: str, default: int, path: Path) -> int:
    count = values.get(name, default)
    if not isinstance(count, int) or count < 1:
        raise ModelError(f"{path}: {name} must be at least 1")
    return count


def _hugging_face_preprocess(folder: Path, image_size: int) -> PreprocessConfig | None:
    for name in HF_PROCESSORS:
        path = folder / name
        if not path.is_file():
            continue
        values = read_json(path)
        settings = values.get("image_processor") if name == HF_PROCESSORS[0] else values
        if settings is None:
            continue
        if not isinstance(settings, Mapping):
            raise ModelError(f"{path}: image_processor is not an object")
        try:
            return preprocessing(settings, image_size)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
    return None


def open_clip(path: Path) -> Beside:
    """open_clip_config.json; defaults are those of open_clip."""
    values = read_json(path)
    model, settings = _part(values, "model_cfg", path), _part(values, "preprocess_cfg", path)
    for name, supported in (
        ("interpolation", ("bicubic", "bilinear")),
        ("resize_mode", ("shortest", "squash")),
        ("mode", ("RGB",)),
    ):
        if settings.get(name, supported[0]) not in supported:
            raise ModelError(f"{path}: {name} {settings[name]}; only {' or '.join(supported)} is supported")
    preprocess = PreprocessConfig(
        _three(settings, "mean", PreprocessConfig.mean, path),
        _three(settings, "std", PreprocessConfig.std, path),
        "squash" if settings.get("resize_mode") == "squash" else "shortest",
        interpolation="bilinear" if settings.get("interpolation") == "bilinear" else "bicubic",
    )
    vision = _part(model, "vision_cfg", path)
    size = vision.get("image_size")
    if (other := settings.get("size", size)) not in (size, [size, size], None):
        raise ModelError(f"{path}: size {other}; the encoder takes {size}")
    if vision.get("timm_pool") == "map":
        return Beside("gelu_tanh", preprocess, image_size=size if isinstance(size, int) else None)
    return Beside("quick_gelu" if model.get("quick_gelu") else "gelu", preprocess)


def _three(
    settings: Mapping[str, Any], name: str, default: tuple[float, float, float], path: Path
) -> tuple[float, float, float]:
    values = settings.get(name) or default
    if not (
        isinstance(values, (list, tuple)) and len(values) == 3 and all(isinstance(v, (int, float)) for v in values)
    ):
        raise ModelError(f"{path}: {name} {values}; give three numbers, for red, green and blue")
    return values[0], values[1], values[2]

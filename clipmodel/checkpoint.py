"""Files -> tensors under the reference's names, and what the files say beside them. Runs no code of a file.

Formats are told by content, not by name: safetensors, TorchScript archives, and PyTorch's own (zip and older),
whose pickles are read with `weights_only`. Around them: our own header, a Hugging Face CLIPModel folder's
`config.json` and an open_clip folder's `open_clip_config.json`.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .config import Activation, CLIPConfig, PreprocessConfig
from .convert import canonical, is_hugging_face
from .errors import ModelError
from .header import HEADER, read_header
from .infer import Heads
from .torchscript import RefusedError, is_torchscript, read_torchscript

_HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_BICUBIC = 3  # Pillow's number for it, which preprocessor_config.json uses
# what the readers of zips, pickles and storages were seen to raise on damaged files
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, EOFError, LookupError, ValueError),
    *(TypeError, AttributeError, RuntimeError, AssertionError, OverflowError, MemoryError),
)


@dataclass(frozen=True)
class Contents:
    """What was read. None where the files do not say."""

    tensors: dict[str, Tensor]
    activation: Activation | None = None
    preprocess: PreprocessConfig | None = None
    heads: Heads | None = None
    config: CLIPConfig | None = None  # our own header's, complete
    variant: str | None = None  # our own header's


def weight_files(path: Path) -> tuple[Path, ...]:
    """The file itself, or the weights inside a Hugging Face or open_clip folder, in a fixed order."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise ModelError(f"{path}: no such file or folder")
    if (path / "config.json").is_file():
        for name in _HF_WEIGHTS:
            if (path / name).is_file():
                return (path / name,)
            if (path / f"{name}.index.json").is_file():
                shards = sorted(set(_json(path / f"{name}.index.json").get("weight_map", {}).values()))
                return tuple(part for shard in shards for part in weight_files(path / str(shard)))
    for name in OPEN_CLIP_WEIGHTS:
        if (path / name).is_file():
            return (path / name,)
    if not (path / "config.json").is_file():
        raise ModelError(f"{path}: a folder without config.json is no Hugging Face CLIPModel; give the weights file")
    raise ModelError(f"{path}: there is no {' or '.join(_HF_WEIGHTS)} beside config.json")


def read_checkpoint(files: Sequence[Path]) -> Contents:
    """All of `files` together; ModelError, one line that begins with the file's name, when one is not readable."""
    tensors: dict[str, Tensor] = {}
    contents = Contents(tensors)
    for path in files:
        try:
            contents = _read_file(path)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror or error}") from error
        tensors |= contents.tensors
    folder = files[0].parent
    if is_hugging_face(tensors):
        contents = _hugging_face(folder)
    elif (folder / "open_clip_config.json").is_file() and contents.config is None:
        contents = _open_clip(folder / "open_clip_config.json")
    try:
        return replace(contents, tensors=canonical(tensors))
    except ModelError as error:
        raise ModelError(f"{files[0]}: {error}") from error


def _read_file(path: Path) -> Contents:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(200)
    if not start:
        raise ModelError("an empty file")
    if start.startswith(b"version https://git-lfs"):
        raise ModelError("a Git LFS pointer, not the weights themselves: run `git lfs pull` beside it")
    length = struct.unpack("<Q", start[:8])[0] if len(start) > 8 else 0
    if start[8:9] == b"{" and length < 1 << 27:
        return _read_safetensors(path)
    if start.startswith(b"PK"):
        return _read_zip(path)
    if start[0] == 0x80 and size > 2:  # a pickle of protocol 2 or later
        return Contents(_read_pickle(path))
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    raise ModelError("not a checkpoint: neither safetensors, nor TorchScript, nor a PyTorch file")


def _read_safetensors(path: Path) -> Contents:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise ModelError(f"truncated or damaged safetensors ({reason}): copy or download it again") from error
    if header is None:
        return Contents(tensors)
    config, variant = read_header(header)
    return Contents(tensors, config=config, variant=variant)


def _read_zip(path: Path) -> Contents:
    try:
        with zipfile.ZipFile(path) as archive:
            scripted = is_torchscript(archive)
            # PyTorch's reader does not look at the checksums that its writer stores
            if not scripted and (broken := archive.testzip()):
                raise ModelError(f"damaged (checksum of {broken}): copy or download it again")
        if not scripted:
            return Contents(_read_pickle(path))
        tensors, activation = read_torchscript(path)
        return Contents(tensors, activation)
    except RefusedError as error:
        raise ModelError(f"refusing to unpickle code ({error}): this is no archive of tensors") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ModelError(f"truncated or damaged zip archive ({reason}): copy or download it again") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        # an open file, as a name would be looked at for the format
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the file's Python, or its protocol
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if name := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ModelError(f"refusing to unpickle code ({name[1]}): save its state dict as safetensors") from error
        raise ModelError("not a checkpoint, or one damaged or with code inside: nothing in it was run") from error
    except _DAMAGE as error:
        raise ModelError("truncated or damaged: copy or download it again") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise ModelError(f"holds a {type(loaded).__name__}, not a state dict")
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a JSON object")
    return values


def _hugging_face(folder: Path) -> Contents:
    """config.json and, where present, the image processor's settings; defaults are those of transformers."""
    path = folder / "config.json"
    if not path.is_file():
        return Contents({})
    values = _json(path)
    if values.get("model_type", "clip") != "clip":
        raise ModelError(f"{path}: a model of type {values['model_type']}, not clip")
    text, vision = (values.get(name) or {} for name in ("text_config", "vision_config"))
    found = {tower.get("hidden_act", "quick_gelu") for tower in (text, vision)}
    if found not in ({"quick_gelu"}, {"gelu"}):
        raise ModelError(f"{path}: hidden_act {' and '.join(sorted(found))}; only quick_gelu or gelu is supported")
    if any(tower.get("layer_norm_eps", 1e-5) != 1e-5 for tower in (text, vision)):
        raise ModelError(f"{path}: layer_norm_eps is not 1e-5, which is not supported")
    heads = Heads(vision.get("num_attention_heads", 12), text.get("num_attention_heads", 8))
    if min(heads.image, heads.text) < 1:
        raise ModelError(f"{path}: num_attention_heads must be at least 1")
    preprocess = None
    for name in ("preprocessor_config.json", "processor_config.json"):
        if preprocess is None and (folder / name).is_file():
            settings = _json(folder / name)
            settings = settings.get("image_processor", settings)
            squash = set(settings.get("size") or ()) == {"height", "width"} and not settings.get("do_center_crop", True)
            if settings.get("resample", _BICUBIC) != _BICUBIC:
                raise ModelError(f"{folder / name}: resample {settings['resample']}; only 3, bicubic, is supported")
            preprocess = _preprocess(settings.get("image_mean"), settings.get("image_std"), squash)
    return Contents({}, found.pop(), preprocess, heads)


def _open_clip(path: Path) -> Contents:
    values = _json(path)
    model, settings = values.get("model_cfg") or {}, values.get("preprocess_cfg") or {}
    if settings.get("interpolation", "bicubic") != "bicubic":
        raise ModelError(f"{path}: interpolation {settings['interpolation']}; only bicubic is supported")
    if settings.get("resize_mode", "shortest") not in ("shortest", "squash"):
        raise ModelError(f"{path}: resize_mode {settings['resize_mode']}; only shortest or squash is supported")
    preprocess = _preprocess(settings.get("mean"), settings.get("std"), settings.get("resize_mode") == "squash")
    return Contents({}, "quick_gelu" if model.get("quick_gelu") else "gelu", preprocess)


def _preprocess(mean: Sequence[float] | None, std: Sequence[float] | None, squash: bool) -> PreprocessConfig:
    config = PreprocessConfig(resize="squash" if squash else "shortest")
    if mean and std:
        config = replace(config, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))
    return config

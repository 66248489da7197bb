"""`open_clip:NAME=WEIGHTS`, `open_clip:FOLDER`, `open_clip:REPO`: open_clip's models, transforms and tokenizers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from ..checkpoint import read_tensors
from ..errors import ModelError, one_line
from ..resolve import Resolved
from ..weights import sha256_of_tensors
from .assembling import Parts, assembled, image_input
from .card import Adapted, Origin
from .open_clip_folder import unpacked
from .open_clip_images import OpenClipProcessor
from .open_clip_names import resolve
from .open_clip_texts import CONFIG, OpenClipTexts

__all__ = ["processor", "read", "resolve"]


def read(resolved: Resolved, device: Any) -> Adapted:
    """The model in float32. ModelError for what cannot be read, or does not fit."""
    assert resolved.packed is not None
    with _quiet():
        inner = _model(resolved)
        try:
            texts = OpenClipTexts.of(resolved.packed)
        except ModelError as error:
            raise ModelError(f"{_called(resolved)}: {error}") from error
        transform = OpenClipProcessor.of(inner.visual.preprocess_cfg)
        images, blank = image_input(transform, "open_clip", transform.files)
        parts = Parts(inner, _image_features, _text_features, images, blank, texts)
        adapted = assembled(parts, _origin(resolved, inner))
    adapted.model.to(device)
    return adapted


def processor(folder: Path) -> OpenClipProcessor:
    """As `Adapter.processor`."""
    return OpenClipProcessor.read(folder)


def _origin(resolved: Resolved, inner: nn.Module) -> Origin:
    sha256 = resolved.sha256 or sha256_of_tensors(inner.state_dict())
    variant, settings = resolved.variant, ""
    if variant is None:
        assert resolved.packed is not None
        model = json.loads(resolved.packed.contents[CONFIG])["model_cfg"]
        settings = hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()[:16]
        variant = f"open_clip:{type(inner).__name__}"
    return Origin(variant, resolved.weights, sha256, "open_clip", _version(inner), settings)


def _version(inner: nn.Module) -> str:
    """open_clip's, and those of the libraries that towers are from."""
    import timm

    modules = {type(module).__name__ for module in inner.modules()}
    version = str(open_clip.__version__)
    if "TimmModel" in modules:
        version += f" with timm {timm.__version__}"
    if "HFTextEncoder" in modules:
        import transformers

        version += f" with transformers {transformers.__version__}"
    return version


def _called(resolved: Resolved) -> str:
    return f"{resolved.variant or 'open_clip'} ({resolved.weights})"


def _model(resolved: Resolved) -> Any:
    assert resolved.packed is not None
    with unpacked(resolved.packed) as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(resolved.seed)
        try:
            model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        except Exception as error:  # the library's own kinds
            raise ModelError(f"{_called(resolved)}: open_clip cannot make it: {one_line(error)[:300]}") from error
    for path in resolved.files:
        _load(model, path, resolved.variant or "the settings of its folder")
    return model.float()


def _load(model: nn.Module, path: Path, name: str) -> None:
    """Into the model, by open_clip itself, which reads no pickle that was not seen to hold tensors only."""
    read_tensors(path, shapes_only=True)
    try:
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except Exception as error:  # the library's own kinds
        reason = one_line(error).removeprefix(f"Error(s) in loading state_dict for {type(model).__name__}: ")
        raise ModelError(f"{path}: does not fit {name}: {reason[:300]}") from error


def _image_features(model: Any, pixels: Tensor) -> Tensor:
    features: Tensor = model.encode_image(pixels, normalize=False)
    return features


def _text_features(model: Any, tokens: Tensor) -> Tensor:
    features: Tensor = model.encode_text(tokens, normalize=False)
    return features


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what open_clip says to the root logger, which it would set up to print."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_nothing)
    try:
        yield
    finally:
        root.removeFilter(_nothing)
        root.removeHandler(handler)


def _nothing(_: logging.LogRecord) -> bool:
    return False

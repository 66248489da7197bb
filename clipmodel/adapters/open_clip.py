"""`open_clip:NAME=WEIGHTS`, `open_clip:FOLDER`, `open_clip:REPO`: open_clip's models, transforms and tokenizers."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import merge_preprocess_dict
from torch import Tensor, nn

from ..checkpoint import OPEN_CLIP_WEIGHTS, read_tensors
from ..download import Progress, expected_hub_sha256, fetch_hub
from ..errors import ModelError, one_line
from ..hub_configs import FILES_BESIDE
from ..packed import PackedFiles
from ..remembered import remembered_sha256
from ..resolve import Resolved, verified
from ..spec import ModelSpec, is_repository
from ..weights import sha256_of_tensors
from . import open_clip_folder
from .assembling import Parts, assembled, image_input
from .card import Adapted, Origin
from .open_clip_images import OpenClipProcessor
from .open_clip_texts import CONFIG, OpenClipTexts
from .repository import downloaded

_WEIGHTS = (*OPEN_CLIP_WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_LISTED = 8  # names, where a wrong one is like none of them
_FILES = tuple((name, *FILES_BESIDE) for name in OPEN_CLIP_WEIGHTS)  # of a repository


def resolve(spec: ModelSpec, progress: Progress | None) -> Resolved:
    """ModelError for names and tags that open_clip does not know, and for what is not there."""
    assert spec.variant is not None
    name = spec.variant.removeprefix("open_clip:")
    if (known := name.replace("/", "-")) in open_clip.list_models():
        return _of_name(known, spec, progress)
    if (folder := Path(name).expanduser()).is_dir():
        settings = open_clip_folder.packed(*open_clip_folder.settings_in(folder), folder, progress)
        return _of_folder(folder, folder.resolve().name, settings, spec)
    if is_repository(name) and not spec.weights:
        folder = downloaded(name, _FILES, _check_whole, progress)
        settings = open_clip_folder.packed(*open_clip_folder.settings_in(folder), None, progress)
        return _of_folder(folder, name, settings, spec)
    raise ModelError(
        f"open_clip:{name} is neither a folder nor a model of open_clip {open_clip.__version__}: "
        f"{_hint(known, open_clip.list_models())}"
    )


def _hint(name: str, names: Sequence[str]) -> str:
    """Those like a name, or some of them."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    return f"did you mean {' or '.join(near)}?" if near else f"there are {listed}"


def _of_folder(folder: Path, called: str, settings: PackedFiles, spec: ModelSpec) -> Resolved:
    if spec.is_random:
        return _random(None, spec, settings)
    weights = _weights_at(Path(spec.weights).expanduser()) if spec.weights else _weights_at(folder)
    called = weights.name if spec.weights else called
    return Resolved(None, called, (weights,), remembered_sha256([weights]), library="open_clip", packed=settings)


def _check_whole(folder: Path) -> None:
    open_clip_folder.settings_in(folder)
    _weights_at(folder)


def _of_name(name: str, spec: ModelSpec, progress: Progress | None) -> Resolved:
    variant, model, weights = f"open_clip:{name}", open_clip.get_model_config(name), spec.weights
    if spec.is_random:
        return _random(variant, spec, open_clip_folder.packed(model, {}, None, progress))
    if weights and (tag := open_clip.get_pretrained_cfg(name, weights)):
        _check_activation(variant, weights, tag, model)
        repo, file = posixpath.split(tag["hf_hub"])
        path = fetch_hub(repo, [file] if file else OPEN_CLIP_WEIGHTS, progress, name=variant)
        called, sha256 = f"{weights} (hf:{repo})", verified(path, expected_hub_sha256(path))
        preprocess = merge_preprocess_dict({}, tag)
    elif weights and (place := Path(weights).expanduser()).exists():
        path = _weights_at(place)
        called, sha256 = path.name, remembered_sha256([path])
        beside = path.parent / CONFIG
        preprocess = open_clip_folder.settings_in(path.parent)[1] if beside.is_file() else {}
    else:
        tags = open_clip.list_pretrained_tags_by_model(name)
        wrong = (
            f"{weights} is neither a tag of its weights nor a file" if weights else "name its weights, a tag or a file"
        )
        raise ModelError(f"{variant}: {wrong}" + (f": {_hint(weights or '', tags)}" if tags else ""))
    settings = open_clip_folder.packed(model, preprocess, None, progress)
    return Resolved(variant, called, (path,), sha256, library="open_clip", packed=settings)


def _random(variant: str | None, spec: ModelSpec, settings: PackedFiles) -> Resolved:
    seed = spec.seed()
    return Resolved(variant, f"random:{seed}", (), None, seed=seed, library="open_clip", packed=settings)


def _check_activation(variant: str, tag: str, release: dict[str, Any], model: dict[str, Any]) -> None:
    """open_clip itself only warns, and its embeddings are then of no use."""
    if release.get("quick_gelu") and not model.get("quick_gelu"):
        raise ModelError(f"{variant}={tag}: these weights were trained with QuickGELU: name {variant}-quickgelu={tag}")


def _weights_at(place: Path) -> Path:
    """The file itself, or the one in a folder."""
    if not place.is_dir():
        if not place.is_file():
            raise ModelError(f"{place}: no such file or folder")
        return place
    there = sorted(path for path in place.iterdir() if path.suffix in _SUFFIXES)
    found = [path for name in _WEIGHTS if (path := place / name).is_file()] or there
    if not found or (found == there and len(there) > 1):
        which = ", ".join(path.name for path in there[:5]) or "none"
        raise ModelError(f"{place}: one file of weights is needed ({which} is there); call it {_WEIGHTS[0]}")
    return found[0]


def read(resolved: Resolved, device: Any) -> Adapted:
    """The model in float32. ModelError for what cannot be read, or does not fit."""
    assert resolved.packed is not None
    with _quiet():
        inner = _model(resolved)
        try:
            texts = OpenClipTexts.of(resolved.packed)
        except ModelError as error:
            raise ModelError(f"{_called(resolved)}: {error}") from error
        processor = OpenClipProcessor.of(inner.visual.preprocess_cfg)
        images, blank = image_input(processor, "open_clip", processor.files)
        parts = Parts(inner, _image_features, _text_features, images, blank, texts)
        adapted = assembled(parts, _origin(resolved, inner))
    adapted.model.to(device)
    return adapted


def processor(folder: Path) -> OpenClipProcessor:
    """As `Adapter.processor`."""
    return OpenClipProcessor.read(folder)


def _origin(resolved: Resolved, inner: nn.Module) -> Origin:
    sha256 = resolved.sha256 or (
        remembered_sha256(resolved.files) if resolved.files else sha256_of_tensors(inner.state_dict())
    )
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
    version = f"{open_clip.__version__}"
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
    with open_clip_folder.unpacked(resolved.packed) as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(resolved.seed)
        try:
            model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        except Exception as error:  # the library's own kinds
            raise ModelError(f"{_called(resolved)}: open_clip cannot make it: {one_line(error)[:300]}") from error
    for path in resolved.files:
        _load(model, path, resolved.variant or "the settings beside it")
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

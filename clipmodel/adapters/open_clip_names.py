"""From a name of open_clip's, a folder or a repository, to weights on this machine and what belongs to them."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transform import merge_preprocess_dict

from ..checkpoint import OPEN_CLIP_WEIGHTS
from ..download import Progress, expected_hub_sha256, fetch_hub
from ..errors import ModelError
from ..hub_configs import FILES_BESIDE
from ..packed import PackedFiles
from ..remembered import remembered_sha256
from ..resolve import Resolved, verified
from ..spec import ModelSpec, is_repository
from .open_clip_folder import packed, settings_in
from .open_clip_texts import CONFIG
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
        settings = packed(*settings_in(folder), folder, progress)
        return _of_folder(folder, folder.resolve().name, settings, spec)
    if is_repository(name) and not spec.weights:
        folder = downloaded(name, _FILES, _check_whole, progress)
        settings = packed(*settings_in(folder), None, progress)
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
    settings_in(folder)
    _weights_at(folder)


def _of_name(name: str, spec: ModelSpec, progress: Progress | None) -> Resolved:
    variant, model, weights = f"open_clip:{name}", open_clip.get_model_config(name), spec.weights
    if spec.is_random:
        return _random(variant, spec, packed(model, {}, None, progress))
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
        preprocess = settings_in(path.parent)[1] if beside.is_file() else {}
    else:
        tags = open_clip.list_pretrained_tags_by_model(name)
        wrong = (
            f"{weights} is neither a tag of its weights nor a file" if weights else "name its weights, a tag or a file"
        )
        raise ModelError(f"{variant}: {wrong}" + (f": {_hint(weights or '', tags)}" if tags else ""))
    settings = packed(model, preprocess, None, progress)
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

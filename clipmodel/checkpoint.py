"""Files -> tensors under the reference's names, and the settings that the files state. Runs no code of a file.

Formats are recognised by content (`formats.py`): safetensors, TorchScript archives, and PyTorch's own (zip and older).
`pickles.py` and `torchscript.py` read the two last; `hub_configs.py` reads the JSON files beside weights.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .config import CLIPConfig
from .convert import canonical, is_hugging_face
from .errors import ModelError, one_line
from .formats import format_of
from .header import HEADER, read_header
from .hub_configs import Beside, hugging_face, open_clip, read_json
from .pickles import DAMAGE, check_members, check_tensors, read_pickle
from .state_dict import tensors_of, without_prefixes
from .torchscript import RefusedError, is_torchscript, read_torchscript

_HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class Contents:
    """A checkpoint as it was read."""

    tensors: dict[str, Tensor]
    beside: Beside = field(default_factory=Beside)
    config: CLIPConfig | None = None  # from our own header, complete; None without one
    variant: str | None = None  # from our own header


def weight_files(path: Path) -> tuple[Path, ...]:
    """The file itself, or the weights inside a Hugging Face or open_clip folder, in a fixed order."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise ModelError(f"{path}: no such file or folder")
    if (path / "adapter_config.json").is_file():
        raise ModelError(f"{path}: holds LoRA adapters; merge them into their model (`merge_and_unload`) and save that")
    if (path / "config.json").is_file():
        for name in _HF_WEIGHTS:
            if (path / name).is_file():
                return (path / name,)
            if (path / f"{name}.index.json").is_file():
                return tuple(
                    part for file in _listed(path / f"{name}.index.json") for part in weight_files(path / file)
                )
    for name in OPEN_CLIP_WEIGHTS:
        if (path / name).is_file():
            return (path / name,)
    if not (path / "config.json").is_file():
        raise ModelError(f"{path}: a folder without config.json is not a Hugging Face CLIPModel; name the weights file")
    raise ModelError(f"{path}: there is no {' or '.join(_HF_WEIGHTS)} beside config.json")


def _listed(index: Path) -> list[str]:
    """The files that an index of weights in several files names."""
    weight_map = read_json(index).get("weight_map")
    names = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()
    if not names or any(Path(name).name != name for name in names):
        raise ModelError(f"{index}: weight_map must name files in the same folder")
    return sorted(names)


def read_checkpoint(files: Sequence[Path], *, shapes_only: bool = False) -> Contents:
    """All of `files` together; ModelError, one line that begins with the file's name, when one is not readable.

    shapes_only: tensors of more than one number without contents (on torch's device `meta`) where the format tells
    their shapes at its beginning, as safetensors does; others are read.
    """
    tensors: dict[str, Tensor] = {}
    contents = Contents(tensors)
    for path in files:
        contents = _read(path, shapes_only)
        tensors |= contents.tensors
    try:
        named = canonical(tensors)
    except ModelError as error:
        raise ModelError(f"{files[0]}: {error}") from error
    contents = replace(contents, tensors=named)
    folder = files[0].parent
    if is_hugging_face(without_prefixes(tensors)):
        return replace(contents, beside=hugging_face(folder))
    if (folder / "open_clip_config.json").is_file() and contents.config is None:
        return replace(contents, beside=open_clip(folder / "open_clip_config.json"))
    return contents


def read_tensors(path: Path, *, shapes_only: bool = False) -> dict[str, Tensor]:
    """The tensors of one file under its own names, whatever they are of. ModelError as of `read_checkpoint`."""
    return _read(path, shapes_only).tensors


def _read(path: Path, shapes_only: bool) -> Contents:
    try:
        contents = _read_file(path, shapes_only)
        check_tensors(contents.tensors, path.stat().st_size)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    return contents


def _read_file(path: Path, shapes_only: bool) -> Contents:
    kind = format_of(path)
    if kind == "safetensors":
        return _read_safetensors(path, shapes_only)
    return _read_zip(path, path.stat().st_size) if kind == "zip" else Contents(tensors_of(read_pickle(path)))


def _read_safetensors(path: Path, shapes_only: bool) -> Contents:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            if shapes_only:  # up to here the file is mapped into memory, and hardly any of it read
                # a single number is kept: it may be a model's scale or bias
                tensors = {key: tensor if tensor.numel() == 1 else tensor.to("meta") for key, tensor in tensors.items()}
    except SafetensorError as error:
        reason = one_line(error).removeprefix("Error while deserializing header: ")[:200]
        raise ModelError(f"truncated or damaged safetensors ({reason}): copy or download it again") from error
    if header is None:
        return Contents(tensors)
    config, variant = read_header(header)
    return Contents(tensors, config=config, variant=variant)


def _read_zip(path: Path, size: int) -> Contents:
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive, size)
            scripted = is_torchscript(archive)
            # PyTorch's reader does not look at the checksums that its writer stores
            if not scripted and (broken := archive.testzip()):
                raise ModelError(f"damaged (checksum of {broken}): copy or download it again")
        if not scripted:
            return Contents(tensors_of(read_pickle(path)))
        tensors, activation = read_torchscript(path)
        return Contents(tensors, Beside(activation))
    except RefusedError as error:
        raise ModelError(f"refusing to unpickle code ({error}): this is no archive of tensors") from error
    except DAMAGE as error:
        reason = one_line(error)[:100]
        raise ModelError(f"truncated or damaged zip archive ({reason}): copy or download it again") from error

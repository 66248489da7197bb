"""A model of open_clip but for its weights, as a folder that open_clip's `local-dir:` names: its settings, its
tokenizer, and the configuration of a text tower of transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..download import Progress
from ..errors import ModelError
from ..hub_configs import TOKENIZER_FILES, VOCABULARY_FILES, read_json
from ..packed import PackedFiles, content_of
from .open_clip_texts import CONFIG
from .repository import check_one_of, downloaded

_TEXT = "text"  # the folder in it that holds a text tower's configuration
_HF_CONFIG = "config.json"
_has_tokenizer = partial(check_one_of, names=VOCABULARY_FILES, what="tokenizer")


def packed(
    model: Mapping[str, Any], preprocess: Mapping[str, Any], folder: Path | None, progress: Progress | None
) -> PackedFiles:
    """model, preprocess: open_clip's `model_cfg` and `preprocess_cfg`. folder: where a tokenizer of transformers lies;
    None for the repository that `model` names. ModelError for what is not there, or runs code of its own."""
    text, contents = model.get("text_cfg", {}), dict[str, bytes]()
    if named := text.get("hf_tokenizer_name"):
        tokenizer = (_HF_CONFIG, *TOKENIZER_FILES)
        place = folder or _folder_of(named, tokenizer, _has_tokenizer, progress)
        _has_tokenizer(place)
        contents = {name: content_of(place / name) for name in tokenizer if (place / name).is_file()}
    if named := text.get("hf_model_name"):
        contents[f"{_TEXT}/{_HF_CONFIG}"] = _text_tower(named, progress)
    contents[CONFIG] = json.dumps({"model_cfg": model, "preprocess_cfg": preprocess}, sort_keys=True).encode()
    return PackedFiles.holding(contents)


def _text_tower(named: str, progress: Progress | None) -> bytes:
    from .hugging_face import check_kind  # with transformers, which most models do without

    path = _folder_of(named, (_HF_CONFIG,), partial(check_one_of, names=(_HF_CONFIG,), what="model"), progress)
    check_kind(path / _HF_CONFIG)
    values = read_json(path / _HF_CONFIG)
    values.pop("auto_map", None)  # where code of its own lies
    return json.dumps(values).encode()


def _folder_of(named: str, files: tuple[str, ...], check: Any, progress: Progress | None) -> Path:
    """A folder by its path, or a repository by its name."""
    return Path(named) if Path(named).is_dir() else downloaded(named, (files,), check, progress)


@contextmanager
def unpacked(files: PackedFiles) -> Iterator[Path]:
    """The folder, for as long as the context lasts."""
    with files.unpacked() as folder:
        if (folder / _TEXT).is_dir():
            settings = read_json(folder / CONFIG)
            settings["model_cfg"]["text_cfg"]["hf_model_name"] = str(folder / _TEXT)
            (folder / CONFIG).write_text(json.dumps(settings))
        yield folder


def settings_in(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and `preprocess_cfg` of a folder. ModelError where there are none."""
    values = read_json(folder / CONFIG)
    model, preprocess = values.get("model_cfg"), values.get("preprocess_cfg", {})
    if not (isinstance(model, dict) and isinstance(model.get("text_cfg"), dict) and isinstance(preprocess, dict)):
        raise ModelError(f"{folder / CONFIG}: model_cfg, its text_cfg and preprocess_cfg must be objects")
    return model, preprocess

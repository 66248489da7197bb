"""An image processor of transformers', as a function of a picture, and what it says of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import transformers
from PIL import Image

from ..config import PreprocessConfig
from ..errors import ModelError, one_line
from ..hub_configs import HF_PROCESSORS
from ..image_processor import PIXELS, preprocessing
from ..packed import PackedFiles
from ..resizing import rgb_on_white
from .repository import check_one_of

_OFF = {"do_center_crop": False, "do_normalize": False, "do_rescale": False}  # where a processor has no such setting


@dataclass(frozen=True)
class Processor:
    """An image processor, as a function of a picture."""

    processor: Any

    @classmethod
    def of(cls, folder: Path) -> Processor:
        check_one_of(folder, HF_PROCESSORS, "image processor")
        by_pillow: dict[str, Any] = {"backend": "pil"} if int(transformers.__version__.split(".")[0]) >= 5 else {}
        try:
            return cls(
                transformers.AutoImageProcessor.from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True, **by_pillow or {"use_fast": False}
                )
            )
        except Exception as error:  # the library's own kinds
            raise ModelError(
                f"{folder}: transformers cannot read its image processor: {one_line(error)[:200]}"
            ) from error

    def __call__(self, picture: Image.Image) -> npt.NDArray[Any]:
        outputs = self.processor(images=rgb_on_white(picture), return_tensors="np")
        if len(outputs) > 1:
            raise ValueError(f"it makes {', '.join(outputs)}, and only pixel_values is supported")
        pixels: npt.NDArray[Any] = np.asarray(outputs["pixel_values"])[0]
        return pixels

    @property
    def name(self) -> str:
        settings = json.dumps(self._settings, sort_keys=True)
        return f"{type(self.processor).__name__} of settings {hashlib.sha256(settings.encode()).hexdigest()[:16]}"

    @property
    def _settings(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.processor.to_json_string())
        return values

    def config(self, size: int) -> PreprocessConfig | None:
        """Our own for images of that size, as far as its settings tell; None for what ours cannot do."""
        values = {name: _plain(value) for name, value in self._settings.items() if name in PIXELS}
        values = {**_OFF, **values}
        try:
            return preprocessing({name: value for name, value in values.items() if value is not None}, size)
        except ModelError:
            return None


def _plain(value: Any) -> Any:
    """A size without the sides that it does not state."""
    return {key: side for key, side in value.items() if side is not None} if isinstance(value, Mapping) else value


def processor_files(folder: Path) -> PackedFiles:
    """Of which `Processor.of` makes it again."""
    return PackedFiles.of([path for name in ("config.json", *HF_PROCESSORS) if (path := folder / name).is_file()])

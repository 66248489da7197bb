"""An image processor of open_clip, the one for evaluation, as `images.Processor`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from ..config import PreprocessConfig
from ..hub_configs import read_json
from ..packed import PackedFiles

_FILE = "preprocess_cfg.json"


@dataclass(frozen=True)
class OpenClipProcessor:
    """settings: the fields of open_clip's `PreprocessCfg`. transform: what open_clip makes of them."""

    settings: Mapping[str, Any]
    transform: Any

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> OpenClipProcessor:
        return cls(settings, image_transform_v2(PreprocessCfg(**settings), is_train=False))

    @classmethod
    def read(cls, folder: Path) -> OpenClipProcessor:
        return cls.of(read_json(folder / _FILE))

    @property
    def files(self) -> PackedFiles:
        return PackedFiles.holding({_FILE: self._json})

    @property
    def _json(self) -> bytes:
        return json.dumps(self.settings, sort_keys=True).encode()

    def __call__(self, picture: Image.Image) -> npt.NDArray[Any]:
        pixels: npt.NDArray[Any] = self.transform(picture).numpy()
        return pixels

    @property
    def name(self) -> str:
        return f"open_clip's transform of settings {hashlib.sha256(self._json).hexdigest()[:16]}"

    def config(self, size: int) -> PreprocessConfig | None:
        """As of `images.Processor`."""
        mode = self.settings["resize_mode"]
        if mode not in ("shortest", "squash"):
            return None
        return PreprocessConfig(
            mean=_channels(self.settings["mean"]),
            std=_channels(self.settings["std"]),
            resize=mode,
            interpolation="bilinear" if self.settings["interpolation"] == "bilinear" else "bicubic",
        )


def _channels(values: Any) -> tuple[float, float, float]:
    """One number a channel, or one for all."""
    red, green, blue = values if isinstance(values, Sequence) else (values,) * 3
    return float(red), float(green), float(blue)

"""Another library's towers, with the methods of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..config import Precision, PreprocessConfig
from ..errors import ModelError
from ..preprocess import normalise

PADDING = -1  # no id of any vocabulary: what stands after a caption's end
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16, "pure_bf16": torch.bfloat16}

Features = Callable[[nn.Module, Tensor], Tensor]


class AdaptedModel(nn.Module):
    """
    inner: the library's model. image_features: of it and normalised pixels [n, 3, height, width]. text_features: of it
    and token ids, int64 [n, length], with `PADDING` after each caption's end. normalisation: of uint8 images, where
    they are decoded by our own preprocessing. blank: an image as it is decoded.
    """

    padding = PADDING
    logit_scale: Tensor  # the logarithm of the inverse temperature

    def __init__(
        self,
        inner: nn.Module,
        image_features: Features,
        text_features: Features,
        normalisation: PreprocessConfig | None,
        blank: npt.NDArray[Any],
        context_length: int,
    ) -> None:
        super().__init__()
        self.inner = inner.eval().requires_grad_(False)
        self._image_features, self._text_features = image_features, text_features
        self._normalisation, self.blank, self.context_length = normalisation, blank, context_length
        self._precision: Precision = "fp32"
        self.register_buffer("logit_scale", _logit_scale(inner))
        self.embed_dim = self._measured()

    def _measured(self) -> int:
        """ModelError where an image does not become one vector."""
        with torch.inference_mode():
            shape = self.encode_decoded(torch.from_numpy(self.blank[None])).shape
        if len(shape) != 2:
            raise ModelError(f"its image features are of shape {list(shape)}; only one vector an image is supported")
        return shape[1]

    def for_inference(self, precision: Precision) -> AdaptedModel:
        """Itself in float32. In bf16 and fp16 products are, as torch.autocast has it; in pure_bf16 all is."""
        if precision == "fp32":
            return self
        model = self
        if precision == "pure_bf16":
            model = deepcopy(self)
            model.inner.to(torch.bfloat16)
        else:
            model = self._like()
        model._precision = precision
        return model

    def _like(self) -> AdaptedModel:
        shared: dict[int, Any] = {id(tensor): tensor for tensor in [*self.parameters(), *self.buffers()]}
        return deepcopy(self, shared)

    def encode_decoded(self, images: Tensor) -> Tensor:
        """Images as they were decoded: uint8 [n, height, width, 3], or what the library's own processor makes."""
        pixels = normalise(images, self._normalisation) if self._normalisation else images
        return self.encode_image(pixels)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels, float [n, 3, height, width] -> image features [n, embed_dim], not L2-normalised."""
        if self._precision == "pure_bf16":
            pixels = pixels.to(torch.bfloat16)
        with self._arithmetic(pixels.device.type):
            return self._image_features(self.inner, pixels)

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids, int64 [n, length], with `PADDING` after each caption's end -> features [n, embed_dim]."""
        with self._arithmetic(text.device.type):
            return self._text_features(self.inner, text)

    def _arithmetic(self, device: str) -> AbstractContextManager[Any]:
        if self._precision in ("bf16", "fp16"):
            return torch.autocast(device, _HALVES[self._precision])
        return nullcontext()

    @property
    def logit_bias(self) -> float | None:
        bias = getattr(self.inner, "logit_bias", None)
        return None if bias is None else float(bias)


def _logit_scale(inner: nn.Module) -> Tensor:
    """The logarithm of what cosines are multiplied by. CLIP's at its limit, ln 100, where the model has none."""
    for name in ("logit_scale", "temperature"):
        value = getattr(inner, name, None)
        if isinstance(value, Tensor):
            number = value.detach().float().reshape(())
            return number.clone() if name == "logit_scale" else -number.log()  # ALIGN divides by its temperature
    return torch.tensor(float(np.log(100.0)))

"""What a library has loaded -> `Adapted`: measured once, and described."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..card import Sigmoid
from ..errors import ModelError, one_line
from ..flops import Flops
from ..packed import PackedFiles
from ..preprocess import Preprocess
from .card import Adapted, AdaptedCard, Images, Origin, Texts
from .images import ProcessedImages, Processor, blank_of, checked
from .model import PADDING, AdaptedModel, Features

_CAPTION = "a photo of a cat and a dog"  # whose operations are counted


@dataclass(frozen=True)
class Parts:
    """A library's model and the two ways into it."""

    inner: nn.Module
    image_features: Features
    text_features: Features
    images: Images
    blank: Any  # an image as it is decoded
    texts: Texts


def image_input(processor: Processor, library: str, files: PackedFiles) -> tuple[Images, Any]:
    """How images are made ready, and one of zeros. What a processor says of itself counts only if our preprocessing
    makes the same pixels of it. library: as in `spec.LIBRARIES`. files: of which its module makes the processor."""
    blank = blank_of(processor)
    _, height, width = blank.shape
    ours = checked(processor, processor.config(height), height) if height == width else None
    if ours is not None:
        return ours, np.zeros((height, width, 3), np.uint8)
    return ProcessedImages(library, files, processor.name), blank


def assembled(parts: Parts, origin: Origin) -> Adapted:
    """ModelError where the model does not turn an image and a caption into a vector each, of one length."""
    images, texts = parts.images, parts.texts
    normalisation = images.config if isinstance(images, Preprocess) else None
    functions = parts.image_features, parts.text_features
    try:
        model = AdaptedModel(parts.inner, *functions, normalisation, parts.blank, texts.context_length)
        flops = _flops(model, texts)
    except ModelError as error:
        raise ModelError(f"{origin.variant} ({origin.weights}): {error}") from error
    except Exception as error:  # whatever the library raises
        reason = one_line(error)[:200]
        raise ModelError(f"{origin.variant} ({origin.weights}) cannot be run by {origin.library}: {reason}") from error
    bias = model.logit_bias
    card = AdaptedCard(
        origin=origin,
        embed_dim=model.embed_dim,
        context_length=texts.context_length,
        flops=flops,
        image_input=images,
        text_input=texts,
        sigmoid=None if bias is None else Sigmoid(math.exp(float(model.logit_scale)), bias),
    )
    return Adapted(model, texts, images, card)


@torch.inference_mode()
def _flops(model: AdaptedModel, texts: Texts) -> Flops:
    """As torch counts them, of one image and one caption."""
    ids = [texts.truncate(ids) for ids in texts.encode([_CAPTION, "a cat"])]
    tokens = _padded(ids)
    counter = FlopCounterMode(display=False)
    with counter:
        model.encode_decoded(torch.from_numpy(model.blank[None]))
    image = counter.get_total_flops()
    with counter:
        features = model.encode_text(tokens)
    if features.shape != (2, model.embed_dim):
        raise ModelError(f"captions become vectors of shape {list(features.shape[1:])}, images of {model.embed_dim}")
    return Flops(float(image), counter.get_total_flops() / tokens.numel(), 0.0, 0.0, texts.context_length)


def _padded(rows: Sequence[Any]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor(
        np.stack([np.pad(ids, (0, longest - len(ids)), constant_values=PADDING) for ids in rows])
    ).long()

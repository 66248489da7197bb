"""What the tests of weights share: two small models, and the public libraries' forms of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.weights import Loaded, load
from random_models import captions, images, randomize
from torch import Tensor

VIT = CLIPConfig(
    64, VisionConfig(64, 128, 2, 16), TextConfig(64, 1, 2, vocab_size=1024, context_length=77), "quick_gelu"
)
RESNET = CLIPConfig(64, VisionConfig(64, 16, (1, 2, 1, 1)), VIT.text, "quick_gelu")
BOTH = pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])


@torch.inference_mode()
def assert_same(loaded: Loaded, theirs: Any, tolerance: float = 1e-5) -> None:
    """Both embeddings of `loaded` are those of the public library's model."""
    pixels, tokens = images(loaded.model.config), captions(loaded.model.config)
    if hasattr(theirs, "vision_model"):
        image = theirs.visual_projection(theirs.vision_model(pixel_values=pixels).pooler_output)
        text = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    else:
        image, text = theirs.encode_image(pixels), theirs.encode_text(tokens)
    assert image.std() > 0.05 and text.std() > 0.05
    assert (loaded.model.encode_image(pixels) - image).abs().max() < tolerance
    assert (loaded.model.encode_text(tokens) - text).abs().max() < tolerance


def error_of(spec: str) -> str:
    """The one line of the ModelError that `spec` gives."""
    with pytest.raises(ModelError) as caught:
        load(spec)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def trace(theirs: Any, config: CLIPConfig, path: Path) -> Path:
    """A TorchScript archive as OpenAI's are: a traced model, with the sizes as tensors beside the weights."""
    for name, value in (("input_resolution", config.vision.image_size), ("vocab_size", config.text.vocab_size)):
        theirs.__dict__.pop(name, None)
        theirs.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(theirs, (images(config), captions(config))).save(str(path))
    return path


def custom_text(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key if key.startswith(("visual.", "logit_scale")) else f"text.{key}": t for key, t in tensors.items()}


def hugging_face(activation: str = "gelu", image_heads: int = 4, **text: Any) -> Any:
    """transformers' model with random weights; its head width, 32, is not one that could be guessed."""
    transformers = pytest.importorskip("transformers")
    ids = {"bos_token_id": 1022, "eos_token_id": 1023}
    common = {"num_hidden_layers": 2, "hidden_act": activation}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "vocab_size": 1024, **ids, **text}
    vision = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": image_heads}
    config = transformers.CLIPConfig(
        projection_dim=48,
        text_config=common | text,
        vision_config=common | vision | {"image_size": 48, "patch_size": 8},
    )
    built = transformers.CLIPModel(config).eval()
    randomize(built)
    return built

"""transformers' CLIP of any of our sizes, with random weights: another oracle, and what many people use."""

from __future__ import annotations

from typing import Any

import transformers
from clipmill.clipmodel.config import CLIPConfig
from random_models import randomize


def model(config: CLIPConfig) -> Any:
    """Of these sizes, in eval mode; a ViT, as theirs has no ResNet."""
    built = transformers.CLIPModel(settings(config)).eval()
    randomize(built)
    return built


def settings(config: CLIPConfig) -> Any:
    """The same sizes in their words."""
    vision, text = config.vision, config.text
    assert isinstance(vision.layers, int)
    return transformers.CLIPConfig(
        projection_dim=config.embed_dim,
        text_config={
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "hidden_act": config.activation,
            "bos_token_id": text.vocab_size - 2,
            "eos_token_id": text.vocab_size - 1,
        },
        vision_config={
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_act": config.activation,
        },
    )

"""SigLIP as the public libraries have it: transformers' model, and the layout of open_clip's files. Random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from clipmill.clipmodel.config import VARIANTS, CLIPConfig
from random_models import randomize
from torch import Tensor
from transformers.initialization import no_init_weights


def narrow(name: str, image_size: int | None = None) -> CLIPConfig:
    """Two layers, two heads and few tokens, but the variant's patches, widths of heads, ratios and pooling."""
    config = VARIANTS[name]
    vision, text = config.vision, config.text
    width = 2 * vision.head_width
    return replace(
        config,
        embed_dim=width,
        vision=replace(vision, width=width, layers=2, image_size=image_size or vision.image_size),
        text=replace(text, width=width, heads=2, layers=2, vocab_size=text.vocab_size // 40),
    )


def model(config: CLIPConfig) -> Any:
    """transformers' of these sizes, in eval mode."""
    vision, text = config.vision, config.text
    common = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
    sizes = {
        "hidden_size": text.width,
        "intermediate_size": text.mlp_width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
    }
    vision_sizes = {
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp_width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
    }
    settings = transformers.SiglipConfig(text_config=common | sizes, vision_config=common | vision_sizes)
    with no_init_weights():  # which takes seconds, for what is made random below
        built = transformers.SiglipModel(settings).eval()
    randomize(built)
    return built.requires_grad_(False)


def tokens(config: CLIPConfig, count: int = 3) -> Tensor:
    """Ids padded to the context length with SigLIP's padding."""
    text, generator = config.text, torch.Generator().manual_seed(2)
    rows = torch.ones(count, text.context_length, dtype=torch.int64)
    for row, length in zip(rows, (5, 16, 40), strict=False):
        row[:length] = torch.randint(2, text.vocab_size, (length,), generator=generator)
    return rows


def save(theirs: Any, folder: Path, vocabulary: Path) -> None:
    """As `save_pretrained` leaves it, with the processor's settings and the tokenizer's file."""
    theirs.save_pretrained(folder)
    size = theirs.config.vision_config.image_size
    settings = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": size, "width": size},
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / vocabulary.name).write_bytes(vocabulary.read_bytes())


_TIMM = {
    "embeddings.patch_embedding": "patch_embed.proj",
    "post_layernorm": "norm",
    "head.attention.out_proj": "attn_pool.proj",
    "head.layernorm": "attn_pool.norm",
    "head.mlp": "attn_pool.mlp",
    "self_attn.out_proj": "attn.proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "encoder.layers": "blocks",
}
_TEXT = {
    "embeddings.token_embedding": "token_embedding",
    "encoder.layers": "transformer.resblocks",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "final_layer_norm": "ln_final",
    "head": "text_projection",
}


def open_clip_layout(theirs: Any) -> dict[str, Tensor]:
    """The same weights under the names and in the shapes that open_clip publishes: timm's image tower, and its own
    text tower under `text.`."""
    tensors = theirs.state_dict()
    named = {"logit_scale": tensors.pop("logit_scale")[0], "logit_bias": tensors.pop("logit_bias")[0]}
    for key, value in tensors.items():
        tower, _, name = key.partition(".")
        of_image = tower == "vision_model"
        if "k_proj" in name or "v_proj" in name:
            continue
        if name == "embeddings.position_embedding.weight":
            named["visual.trunk.pos_embed" if of_image else "text.positional_embedding"] = (
                value[None] if of_image else value
            )
        elif name == "head.probe":
            named["visual.trunk.attn_pool.latent"] = value
        elif "q_proj" in name:
            three = torch.cat([tensors[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"])
            kind = name.rpartition(".")[2]
            layer = name.split(".")[2]
            of_text = f"text.transformer.resblocks.{layer}.attn.in_proj_{kind}"
            named[f"visual.trunk.blocks.{layer}.attn.qkv.{kind}" if of_image else of_text] = three
        elif "in_proj" in name:
            query, *others = value.chunk(3)
            kind = name.rpartition("_")[2]
            named[f"visual.trunk.attn_pool.q.{kind}"] = query
            named[f"visual.trunk.attn_pool.kv.{kind}"] = torch.cat(others)
        else:
            for before, after in (_TIMM if of_image else _TEXT).items():
                name = name.replace(before, after)
            named[("visual.trunk." if of_image else "text.") + name] = value
    return {key: value.contiguous() for key, value in named.items()}

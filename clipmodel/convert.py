"""Key conversions: every published layout of a CLIP state dict -> the reference's names.

`canonical` is the entry point. It leaves unknown tensors alone, so that the check against the model names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import ModelError
from .foreign import check_is_clip
from .state_dict import without_prefixes
from .timm_names import from_timm

# sizes and masks that some files have beside the weights
_NOT_WEIGHTS = re.compile(r"(.*\.)?(input_resolution|context_length|vocab_size|attn_mask|position_ids)$")
_LONG_CLIP_KEPT = 20  # positions that Long-CLIP takes from the original table, the others from its second one

_HF_NAMES = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # [sic]
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
    # SigLIP's
    "vision_model.embeddings.patch_embedding.bias": "visual.conv1.bias",
    "vision_model.head.probe": "visual.head.probe",
    "text_model.head.weight": "text_projection",
    "text_model.head.bias": "text_projection_bias",
}
_HF_HEAD = re.compile(r"vision_model\.head\.(attention|layernorm|mlp\.fc1|mlp\.fc2)[._](.+)$")
_HF_HEAD_PARTS = {"attention": "attn.", "layernorm": "ln.", "mlp.fc1": "mlp.c_fc.", "mlp.fc2": "mlp.c_proj."}
_HF_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_HF_PARTS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict under the reference's names and layouts, without prefixes, sizes and masks; dtypes are kept.

    ModelError for another kind of weights.
    """
    named = without_prefixes(tensors)
    check_is_clip(named)
    if is_hugging_face(named):
        named = _from_hugging_face(named)
    elif "visual.trunk.attn_pool.latent" in named:
        named = _from_custom_text(from_timm(named))
    elif "text.token_embedding.weight" in named:
        named = _from_custom_text(named)
    named = {key: value for key, value in named.items() if not _NOT_WEIGHTS.match(key)}
    for name in ("logit_scale", "logit_bias"):  # some releases store them as one element of one dimension
        if name in named:
            named[name] = named[name].reshape(())
    if "visual.head.probe" in named:  # stored as one token of a batch of one
        named["visual.head.probe"] = named["visual.head.probe"].reshape(-1)
    if "positional_embedding_res" in named and "positional_embedding" in named:  # Long-CLIP, arXiv 2403.15378
        stretched, original = named.pop("positional_embedding_res"), named["positional_embedding"]
        named["positional_embedding"] = torch.cat([original[:_LONG_CLIP_KEPT], stretched[_LONG_CLIP_KEPT:]])
    return named


def is_hugging_face(tensors: Mapping[str, Tensor]) -> bool:
    return "text_model.embeddings.token_embedding.weight" in tensors


def _from_custom_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layout with the text tower under `text.`, as the image tower is under `visual.`."""
    named = {key.removeprefix("text."): value for key, value in tensors.items()}
    if "text_projection.weight" in named:  # a linear layer there, a matrix on the right here
        named["text_projection"] = named.pop("text_projection.weight").T
    if "text_projection.bias" in named:
        named["text_projection_bias"] = named.pop("text_projection.bias")
    return named


def _from_hugging_face(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layout of transformers' CLIPModel: split query, key and value; projections transposed."""
    named: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key in _HF_NAMES:
            name = _HF_NAMES[key]
            named[name] = value.T if name in ("text_projection", "visual.proj") else value
        elif match := _HF_HEAD.match(key):
            named[f"visual.head.{_HF_HEAD_PARTS[match[1]]}{match[2]}"] = value
        elif match := _HF_LAYER.match(key):
            tower, layer, part, kind = match.groups()
            prefix = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{layer}."
            if part in _HF_PARTS:
                named[f"{prefix}{_HF_PARTS[part]}.{kind}"] = value
            elif part == "self_attn.q_proj":
                named[f"{prefix}attn.in_proj_{kind}"] = _fused(tensors, key)
            elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
                named[key] = value
        else:
            named[key] = value
    return named


def _fused(tensors: Mapping[str, Tensor], query_key: str) -> Tensor:
    keys = [query_key.replace("q_proj", name) for name in ("q_proj", "k_proj", "v_proj")]
    for key in keys:
        if key not in tensors:
            raise ModelError(f"tensor {key} is missing")
    return torch.cat([tensors[key] for key in keys])

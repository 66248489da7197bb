"""Weights that are not a CLIP's, named for what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import ModelError

_ONLY = "clipmill reads the architectures of CLIP (ResNet or VisionTransformer, and its text transformer) and SigLIP"
_KINDS: tuple[tuple[str, str, str], ...] = (  # part of a tensor's name, what has it, the remedy
    (r"(^|\.)lora_|\.lora\.|\.hada_|\.base_layer\.", "LoRA adapters", "merge them into their model and save that one"),
    (
        r"\.(qweight|qzeros|SCB|absmax|quant_map|_packed_params)\b",
        "quantised weights",
        "save them as float16 or float32",
    ),
    (
        r"^visual\.trunk\.(?!patch_embed\.|pos_embed$|blocks\.|norm\.|attn_pool\.)",
        "a CLIP whose image encoder is one of timm's",
        _ONLY,
    ),
    (r"^visual\.(blocks|cls_token|patch_embed)\b", "EVA-CLIP", _ONLY),
    (r"^text\.transformer\.(embeddings|encoder|layer|shared)\.", "a CLIP whose text encoder is not CLIP's own", _ONLY),
    (r"\.word_embeddings\.|^bert\.", "a model whose text encoder is BERT", _ONLY),
    (r"^text_decoder\.", "CoCa, not CLIP", _ONLY),
    (r"^(visual_encoder|vision_tower|language_model|qformer|multi_modal_projector)\.", "a language model", _ONLY),
    (r"^(model\.diffusion_model|first_stage_model|down_blocks|unet)\.", "an image generator", _ONLY),
)
_IMAGE_TOWER = re.compile(r"^(vision_model\.encoder|visual\.transformer\.resblocks|visual\.layer1)\.0?")
_TEXT_TOWER = re.compile(r"^(text\.)?(transformer\.resblocks|text_model\.encoder\.layers)\.")
_WHOLE = "save the state dict of the whole model, with both towers"


def check_is_clip(names: Iterable[str]) -> None:
    """names: of tensors, without prefixes. ModelError, which says what they are and what to do, where that is known."""
    names = list(names)
    for pattern, kind, remedy in _KINDS:
        matches = re.compile(pattern).search
        if example := next((name for name in names if matches(name)), None):
            raise ModelError(f"holds {kind} (tensor {example}): {remedy}")
    image, text = any(map(_IMAGE_TOWER.match, names)), any(map(_TEXT_TOWER.match, names))
    if image and not text:
        raise ModelError(f"holds an image tower alone: {_WHOLE}")
    if text and not image and not any(name.startswith("visual.") for name in names):
        raise ModelError(f"holds a text tower alone: {_WHOLE}")

"""Small models of open_clip with random weights, as folders that its `local-dir:` names, and that library's own loop.

open_clip lies beside the environment (see the Makefile), as it brings torchvision, with which transformers would take
other image processors. `library` brings it into a process where transformers has seen that there is none.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import needs
import torch
import torchvision_operators  # noqa: F401 (for what importing it does)
import transformers
from PIL import Image
from random_models import randomize
from torch.nn.functional import normalize

FOLDER = Path(sys.prefix) / "open_clip"
CONTEXT = 20
_CLIP_WORDS = 49408


@cache
def library() -> Any:
    """open_clip. The test that asks for it is skipped where it is not there."""
    if not FOLDER.is_dir():
        needs.skip_for("needs open_clip: make dev")
    assert not transformers.utils.is_torchvision_available()  # which it remembers
    sys.path.append(str(FOLDER))
    try:
        import open_clip
    finally:
        sys.path.remove(str(FOLDER))
    _register()
    return open_clip


def _text(**more: Any) -> dict[str, Any]:
    sizes = {"context_length": CONTEXT, "vocab_size": _CLIP_WORDS, "width": 32, "heads": 2, "layers": 1}
    return sizes | more


def _vit(**more: Any) -> dict[str, Any]:
    return {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16} | more


def _timm(name: str, pool: str, proj: str | None, size: int = 64) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": size}


def _register() -> None:
    """Narrow towers of timm's, under names of their own."""
    from timm.models import eva, fastvit, register_model, vision_transformer

    small = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 2}

    def clipmill_siglip(pretrained: bool = False, **options: Any) -> Any:
        return vision_transformer.VisionTransformer(img_size=48, class_token=False, **small, **_plain(options))

    def clipmill_eva(pretrained: bool = False, **options: Any) -> Any:
        rotary = {"use_rot_pos_emb": True, "ref_feat_shape": (3, 3), "qkv_fused": False, "scale_attn_inner": True}
        return eva.Eva(img_size=48, swiglu_mlp=True, scale_mlp=True, **small, **rotary, **_plain(options))

    def clipmill_fastvit(pretrained: bool = False, **options: Any) -> Any:
        widths, mixers = (8, 16, 16, 32), ("repmixer", "repmixer", "repmixer", "attention")
        places = partial(fastvit.RepConditionalPosEnc, spatial_shape=(7, 7))
        return fastvit.FastVit(
            layers=(1, 1, 1, 1), embed_dims=widths, token_mixers=mixers, pos_embs=(None, None, None, places),
            lkc_use_act=True, **_plain(options),
        )  # fmt: skip

    for made in (clipmill_siglip, clipmill_eva, clipmill_fastvit):
        made.__module__ = __name__
        setattr(sys.modules[__name__], made.__name__, made)
        register_model(made)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a tower's class, without timm's own of how to make it."""
    return {name: value for name, value in options.items() if name in ("global_pool", "num_classes")}


def _bert(folder: Path) -> dict[str, Any]:
    """A tokenizer in a folder, and its part of the settings."""
    from adapted_kit import bert

    return {"hf_tokenizer_name": "bert-base-uncased", "vocab_size": bert(folder)}


def vit(folder: Path) -> dict[str, Any]:
    return {"vision_cfg": _vit(patch_dropout=0.5), "text_cfg": _text()}


def quickgelu(folder: Path) -> dict[str, Any]:
    return {"vision_cfg": _vit(no_ln_pre=True, pool_type="avg"), "text_cfg": _text(), "quick_gelu": True}


def resnet(folder: Path) -> dict[str, Any]:
    return {"vision_cfg": _vit(layers=[1, 1, 1, 1], width=8, image_size=64), "text_cfg": _text()}


def siglip(folder: Path) -> dict[str, Any]:
    """Captions are padded with the token that ends them."""
    text = _bert(folder) | {"tokenizer_kwargs": {"clean": "canonicalize", "pad_token": "[SEP]"}}
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
    return {
        "embed_dim": 48, "vision_cfg": _timm("clipmill_siglip", "map", "none", 48), "text_cfg": _text(**text),
        "custom_text": True, "init_logit_bias": -10,
    }  # fmt: skip


def convnext(folder: Path) -> dict[str, Any]:
    return {"vision_cfg": _timm("test_convnext2", "", "linear"), "text_cfg": _text()}


def eva(folder: Path) -> dict[str, Any]:
    return {"vision_cfg": _timm("clipmill_eva", "token", None, 48), "text_cfg": _text(), "custom_text": True}


def mobileclip(folder: Path) -> dict[str, Any]:
    text = _text(no_causal_mask=True)
    return {"vision_cfg": _timm("clipmill_fastvit", "avg", None), "text_cfg": text, "custom_text": True}


def coca(folder: Path) -> dict[str, Any]:
    vision = _vit(attentional_pool=True, attn_pooler_heads=2, attn_pooler_queries=8, output_tokens=True)
    text = _text(embed_cls=True, output_tokens=True)
    return {"vision_cfg": vision, "text_cfg": text, "multimodal_cfg": _text(attn_pooler_heads=2), "custom_text": True}


def roberta(folder: Path) -> dict[str, Any]:
    """A text tower of transformers."""
    words = _bert(folder)
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.RobertaConfig(vocab_size=words["vocab_size"], max_position_embeddings=40, **settings)
    config.pad_token_id = 0
    config.save_pretrained(folder)
    text = {**words, "context_length": CONTEXT, "hf_model_name": str(folder), "hf_pooler_type": "mean_pooler"}
    return {"vision_cfg": _vit(), "text_cfg": text}


def clipa(folder: Path) -> dict[str, Any]:
    """Its tokenizer takes the last token away."""
    text = _bert(folder) | {"tokenizer_kwargs": {"strip_sep_token": True}, "pool_type": "last"}
    return {"vision_cfg": _vit(), "text_cfg": _text(no_causal_mask=True, **text)}


def openvision(folder: Path) -> dict[str, Any]:
    """Its tokenizer ends captions with a token behind the padding."""
    text = _bert(folder) | {"tokenizer_mode": "clips", "pool_type": "last"}
    text["tokenizer_kwargs"] = {"bos_token": "[MASK]", "eos_token": "[SEP]"}
    return {"vision_cfg": _vit(), "text_cfg": _text(no_causal_mask=True, **text)}


MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    made.__name__: made
    for made in (vit, quickgelu, resnet, siglip, convnext, eva, mobileclip, coca, roberta, clipa, openvision)
}
_HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_PREPROCESS: dict[str, dict[str, Any]] = {
    "siglip": {**_HALF, "resize_mode": "squash"},
    "mobileclip": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear"},
    "coca": {"resize_mode": "longest", "fill_color": 3},  # which our own preprocessing does not do
    "clipa": {"resize_mode": "squash", "interpolation": "bilinear"},
}


def save(name: str, folder: Path) -> Path:
    """One of `MAKERS`, saved in a folder."""
    open_clip = library()
    folder.mkdir(parents=True)
    model = {"embed_dim": 24, **MAKERS[name](folder)}
    settings = {"model_cfg": model, "preprocess_cfg": _PREPROCESS.get(name, {})}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    from safetensors.torch import save_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    randomize(made)
    save_model(made, str(folder / "open_clip_model.safetensors"))
    return folder


def own_loop(
    name: str, pictures: Sequence[Image.Image | bytes], texts: Sequence[str], pretrained: str | None = None
) -> tuple[Any, Any]:
    """What open_clip's users write: float32 [n, dim] of images and of texts, L2-normalised. name: open_clip's, or a
    folder."""
    open_clip = library()
    name = f"local-dir:{name}" if Path(name).is_dir() else name
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained)
    model.eval()
    opened = [Image.open(io.BytesIO(one)) if isinstance(one, bytes) else one for one in pictures]
    with torch.inference_mode():
        seen = model.encode_image(torch.stack([preprocess(picture) for picture in opened]))
        read = model.encode_text(open_clip.get_tokenizer(name)(list(texts)))
    return normalize(seen, dim=-1).numpy(), normalize(read, dim=-1).numpy()

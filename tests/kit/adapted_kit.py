"""Small models of transformers with random weights, as their library saves them, and that library's own loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image
from random_models import randomize
from torch.nn.functional import normalize
from vocabulary_kit import captions, gemma_file, xlm_v_file

_SIZE, _WIDTH, _CONTEXT = 48, 32, 24
_VISION = {
    "hidden_size": _WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": _SIZE,
    "patch_size": 16,
}
_TEXT = {
    "hidden_size": _WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": _CONTEXT,
}


@cache
def _pieces() -> list[str]:
    """Words and letters, for a tokenizer of BERT's."""
    words = {word for text in captions()[:200] for word in text.lower().split() if word.isalpha() and word.isascii()}
    letters = [chr(code) for code in range(97, 123)]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words | set(letters)), *(f"##{x}" for x in letters)]


def bert(folder: Path) -> int:
    """A tokenizer of BERT's in a folder; the size of its vocabulary."""
    vocabulary = {piece: number for number, piece in enumerate(_pieces())}
    transformers.BertTokenizer(vocab=vocabulary, model_max_length=_CONTEXT).save_pretrained(folder)
    return len(vocabulary)


def _processor(folder: Path, kind: str, **settings: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **settings}))


def _square(**more: Any) -> dict[str, Any]:
    return {"size": {"height": _SIZE, "width": _SIZE}, **more}


def chinese_clip(folder: Path, image_size: int = _SIZE, **tower: Any) -> Any:
    """tower: sizes of both towers, where they are others."""
    size = bert(folder)
    sides = {"height": image_size, "width": image_size}
    _processor(folder, "ChineseCLIPImageProcessor", size=sides, do_center_crop=False, resample=3)
    config = transformers.ChineseCLIPConfig(
        text_config={**_TEXT, "vocab_size": size, **tower},
        vision_config={**_VISION, "image_size": image_size, **tower},
        projection_dim=16,
    )
    return transformers.ChineseCLIPModel(config)


def align(folder: Path) -> Any:
    """An EfficientNet, whose processor subtracts 1 and is run as it is."""
    size = bert(folder)
    crop = {"crop_size": {"height": _SIZE, "width": _SIZE}, "do_center_crop": True}
    settings = {"size": {"height": 60, "width": 60}, "resample": 2, "rescale_offset": True, "rescale_factor": 1 / 127.5}
    _processor(folder, "EfficientNetImageProcessor", **crop, **settings, do_normalize=False, include_top=False)
    vision = {
        "image_size": _SIZE,
        "width_coefficient": 0.25,
        "depth_coefficient": 0.1,
        "hidden_dim": 16,
        "kernel_sizes": [3, 3],
        "in_channels": [32, 16],
        "out_channels": [16, 24],
        "depthwise_padding": [],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 2],
    }
    config = transformers.AlignConfig(text_config={**_TEXT, "vocab_size": size}, vision_config=vision, projection_dim=8)
    return transformers.AlignModel(config)


def altclip(folder: Path) -> Any:
    vocabulary = json.loads(xlm_v_file(folder).read_text())["model"]["vocab"]
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": _CONTEXT})
    )
    _processor(folder, "CLIPImageProcessor", size={"shortest_edge": _SIZE}, crop_size=_SIZE, resample=3)
    text = {**_TEXT, "vocab_size": len(vocabulary) + 1, "project_dim": 16, "max_position_embeddings": 40}
    config = transformers.AltCLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    return transformers.AltCLIPModel(config)


def siglip(folder: Path) -> Any:
    vocabulary = json.loads(gemma_file(folder).read_text())["model"]["vocab"]
    settings = {"tokenizer_class": "GemmaTokenizer", "model_input_names": ["input_ids"], "model_max_length": _CONTEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "<pad>", "eos_token": "<eos>"}))
    _processor(folder, "SiglipImageProcessor", **_square(resample=2))
    config = transformers.SiglipConfig(text_config={**_TEXT, "vocab_size": len(vocabulary)}, vision_config=_VISION)
    return transformers.SiglipModel(config)


MAKERS: dict[str, Callable[[Path], Any]] = {made.__name__: made for made in (chinese_clip, align, altclip, siglip)}


def save(name: str, folder: Path) -> Path:
    """One of `MAKERS`, saved in a folder."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = MAKERS[name](folder).eval()
    randomize(model)
    model.save_pretrained(folder)
    return folder


def without(folder: Path, name: str, to: Path) -> Path:
    """A copy that lacks a file."""
    shutil.copytree(folder, to)
    (to / name).unlink()
    return to


def own_loop(folder: Path, images: Sequence[Image.Image], texts: Sequence[str]) -> tuple[Any, Any]:
    """What transformers' users write: float32 [n, dim] of images and of texts, L2-normalised."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if model.config.model_type == "siglip" else True
    tokens = tokenizer(list(texts), padding=padding, truncation=True, max_length=_CONTEXT, return_tensors="pt")
    pixels = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
    with torch.inference_mode():
        seen, read = model.get_image_features(**pixels).pooler_output, model.get_text_features(**tokens).pooler_output
    return normalize(seen, dim=-1).numpy(), normalize(read, dim=-1).numpy()


def cosines(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.einsum("nd,nd->n", ours.astype(np.float64), theirs.astype(np.float64))

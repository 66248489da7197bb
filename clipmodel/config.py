"""Architectures: small frozen dataclasses, and the one table of named variants.

Sizes of the first nine rows: Radford et al. 2021 (arXiv 2103.00020), tables 19 and 20. The others follow
the public model configurations of the LAION, DataComp, MetaCLIP and DFN releases.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from .errors import ModelError

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
Resize = Literal["shortest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
ImagePooling = Literal["class", "attention"]  # what an image tower is read by, see vision.py
TextPooling = Literal["eos", "last"]  # where a text tower is read, see text.py
Vocabulary = Literal["clip", "siglip", "gemma", "xlm_v"]  # whose tokenizer it is, see vocabulary.py
Steps = Literal["torchvision", "transformers"]
TrainingPrecision = Literal["fp32", "bf16", "fp16"]  # of the arithmetic
Precision = Literal["fp32", "bf16", "pure_bf16", "fp16", "fp8"]  # of encoders, see inference.py
Decoding = Literal["exact", "close", "fast"]  # how near to the reference's pixels, see preprocess.py

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class VisionConfig:
    """An image encoder: a ModifiedResNet where `layers` is a 4-tuple, a VisionTransformer where it is a number.

    pooling: CLIP's transformer has one token more than patches, and is read there. SigLIP's has none: a learned query
    attends over the patches.
    """

    image_size: int
    width: int
    layers: int | tuple[int, int, int, int]
    patch_size: int = 0  # ViT only
    head_width: int = 64  # channels of one attention head
    mlp_ratio: float = 4.0  # ViT only
    pooling: ImagePooling = "class"  # ViT only

    @property
    def is_resnet(self) -> bool:
        return isinstance(self.layers, tuple)

    @property
    def output_width(self) -> int:
        """Channels before the projection; a ResNet's four stages widen 32 times."""
        return self.width * 32 if self.is_resnet else self.width

    @property
    def heads(self) -> int:
        return self.output_width // self.head_width

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def positions(self) -> int:
        """ViT only: tokens of an image."""
        return (self.image_size // self.patch_size) ** 2 + (self.pooling == "class")


@dataclass(frozen=True)
class TextConfig:
    """The text transformer.

    pooling: `eos` is CLIP's. Attention is causal, and the features are those at [EOS], so that nothing after it counts.
    `last` is SigLIP's. Every token sees every other, captions are padded to the context length, padding counts, and the
    features are those at the last position.
    """

    width: int
    heads: int
    layers: int
    vocab_size: int = 49408
    context_length: int = 77
    mlp_ratio: float = 4.0
    pooling: TextPooling = "eos"
    vocabulary: Vocabulary = "clip"

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


@dataclass(frozen=True)
class PreprocessConfig:
    """The steps from an image to the encoder's input, which is RGB."""

    mean: tuple[float, float, float] = OPENAI_MEAN  # of pixels from 0 to 1
    std: tuple[float, float, float] = OPENAI_STD
    resize: Resize = "shortest"  # the shorter side becomes `resize_to`, or both sides do
    resize_to: int | None = None  # pixels, before the crop to the encoder's size; None: the encoder's size
    interpolation: Interpolation = "bicubic"
    steps: Steps = "torchvision"  # the library whose order of steps and rounding are followed, see `resizing.py`

    def describe(self, image_size: int) -> str:
        """All settings in one line, for a dataset's fingerprint; a setting at its default adds nothing."""
        size = f"{self.resize_to} px cut to {image_size}" if self.resize_to else f"{image_size} px"
        steps = "" if self.steps == "torchvision" else f", steps of {self.steps}"
        return f"{size}, {self.resize}, {self.interpolation}, mean {list(self.mean)}, std {list(self.std)}{steps}"


@dataclass(frozen=True)
class CLIPConfig:
    embed_dim: int
    vision: VisionConfig
    text: TextConfig
    activation: Activation = "gelu"
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    epsilon: float = 1e-5  # of layer norms
    sigmoid: bool = False  # trained with the sigmoid loss, whose logits have a bias: scale * cosine + bias


def _resnet(embed: int, size: int, layers: tuple[int, int, int, int], width: int, text: TextConfig) -> CLIPConfig:
    return CLIPConfig(embed, VisionConfig(size, width, layers), text, "quick_gelu")


_TEXT_512 = TextConfig(512, 8, 12)
_TEXT_768 = TextConfig(768, 12, 12)
_B32 = CLIPConfig(512, VisionConfig(224, 768, 12, 32), _TEXT_512)
_B16 = CLIPConfig(512, VisionConfig(224, 768, 12, 16), _TEXT_512)
_L14 = CLIPConfig(768, VisionConfig(224, 1024, 24, 14), _TEXT_768)
_H14 = CLIPConfig(1024, VisionConfig(224, 1280, 32, 14, head_width=80), TextConfig(1024, 16, 24))


def _at(config: CLIPConfig, image_size: int) -> CLIPConfig:
    return replace(config, vision=replace(config.vision, image_size=image_size))


def _quick(config: CLIPConfig) -> CLIPConfig:
    return replace(config, activation="quick_gelu")


def _worldwide(config: CLIPConfig) -> CLIPConfig:
    return replace(config, text=replace(config.text, vocab_size=901629, vocabulary="xlm_v"))


HALVES = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize="squash")


def _siglip(size: int, patch: int, vision: VisionConfig, text: TextConfig) -> CLIPConfig:
    """Zhai et al. 2023 (arXiv 2303.15343) and Tschannen et al. 2025 (arXiv 2502.14786)."""
    vision = replace(vision, image_size=size, patch_size=patch)
    return CLIPConfig(vision.width, vision, text, "gelu_tanh", HALVES, epsilon=1e-6, sigmoid=True)


def _siglip_sizes(width: int, layers: int, heads: int, ratio: float = 4.0) -> tuple[VisionConfig, TextConfig]:
    vision = VisionConfig(224, width, layers, 16, width // heads, ratio, "attention")
    return vision, TextConfig(width, heads, layers, 32000, 64, ratio, "last", "siglip")


_SIGLIP_B = _siglip_sizes(768, 12, 12)
_SIGLIP_L = _siglip_sizes(1024, 24, 16)
_SIGLIP_SO = _siglip_sizes(1152, 27, 16, 3.7362)


def _siglip2(size: int, patch: int, vision: VisionConfig, text: TextConfig) -> CLIPConfig:
    return _siglip(size, patch, vision, replace(text, vocab_size=256000, vocabulary="gemma"))


VARIANTS: dict[str, CLIPConfig] = {
    # OpenAI, under the paper's names
    "RN50": _resnet(1024, 224, (3, 4, 6, 3), 64, _TEXT_512),
    "RN101": _resnet(512, 224, (3, 4, 23, 3), 64, _TEXT_512),
    "RN50x4": _resnet(640, 288, (4, 6, 10, 6), 80, TextConfig(640, 10, 12)),
    "RN50x16": _resnet(768, 384, (6, 8, 18, 8), 96, _TEXT_768),
    "RN50x64": _resnet(1024, 448, (3, 15, 36, 10), 128, TextConfig(1024, 16, 12)),
    "ViT-B/32": _quick(_B32),
    "ViT-B/16": _quick(_B16),
    "ViT-L/14": _quick(_L14),
    "ViT-L/14@336px": _at(_quick(_L14), 336),
    # the open releases, under the names their checkpoints are published with
    "ViT-B-32": _B32,
    "ViT-B-32-quickgelu": _quick(_B32),
    "ViT-B-32-256": _at(_B32, 256),
    "ViT-B-16": _B16,
    "ViT-B-16-quickgelu": _quick(_B16),
    "ViT-L-14": _L14,
    "ViT-L-14-quickgelu": _quick(_L14),
    "ViT-L-14-336": _at(_L14, 336),
    "ViT-L-14-336-quickgelu": _at(_quick(_L14), 336),
    "ViT-H-14": _H14,
    "ViT-H-14-quickgelu": _quick(_H14),
    "ViT-H-14-378-quickgelu": _at(_quick(_H14), 378),
    "ViT-g-14": CLIPConfig(
        1024, VisionConfig(224, 1408, 40, 14, head_width=88, mlp_ratio=4.3637), TextConfig(1024, 16, 24)
    ),
    "ViT-bigG-14": CLIPConfig(
        1280, VisionConfig(224, 1664, 48, 14, head_width=104, mlp_ratio=4.9231), TextConfig(1280, 20, 32)
    ),
    "ViT-bigG-14-quickgelu": CLIPConfig(
        1280,
        VisionConfig(224, 1664, 48, 14, head_width=104, mlp_ratio=4.9231),
        TextConfig(1280, 20, 32),
        "quick_gelu",
    ),
    # Google's, under the names that open_clip has for them; without a size they take 224 pixels
    "ViT-B-16-SigLIP": _siglip(224, 16, *_SIGLIP_B),
    "ViT-B-16-SigLIP-256": _siglip(256, 16, *_SIGLIP_B),
    "ViT-B-16-SigLIP-384": _siglip(384, 16, *_SIGLIP_B),
    "ViT-B-16-SigLIP-512": _siglip(512, 16, *_SIGLIP_B),
    "ViT-L-16-SigLIP-256": _siglip(256, 16, *_SIGLIP_L),
    "ViT-L-16-SigLIP-384": _siglip(384, 16, *_SIGLIP_L),
    "ViT-SO400M-14-SigLIP": _siglip(224, 14, *_SIGLIP_SO),
    "ViT-SO400M-14-SigLIP-384": _siglip(384, 14, *_SIGLIP_SO),
    "ViT-B-16-SigLIP2": _siglip2(224, 16, *_SIGLIP_B),
    "ViT-B-16-SigLIP2-256": _siglip2(256, 16, *_SIGLIP_B),
    "ViT-B-16-SigLIP2-384": _siglip2(384, 16, *_SIGLIP_B),
    "ViT-B-16-SigLIP2-512": _siglip2(512, 16, *_SIGLIP_B),
    "ViT-L-16-SigLIP2-256": _siglip2(256, 16, *_SIGLIP_L),
    "ViT-L-16-SigLIP2-384": _siglip2(384, 16, *_SIGLIP_L),
    "ViT-L-16-SigLIP2-512": _siglip2(512, 16, *_SIGLIP_L),
    "ViT-SO400M-14-SigLIP2": _siglip2(224, 14, *_SIGLIP_SO),
    "ViT-SO400M-14-SigLIP2-378": _siglip2(378, 14, *_SIGLIP_SO),
    "ViT-SO400M-16-SigLIP2-256": _siglip2(256, 16, *_SIGLIP_SO),
    "ViT-SO400M-16-SigLIP2-384": _siglip2(384, 16, *_SIGLIP_SO),
    "ViT-SO400M-16-SigLIP2-512": _siglip2(512, 16, *_SIGLIP_SO),
    # MetaCLIP 2, in 300 languages (arXiv 2507.22062); the text tower is H's with the tokens of XLM-V
    "ViT-H-14-worldwide": _worldwide(_H14),
    "ViT-H-14-worldwide-quickgelu": _worldwide(_quick(_H14)),
    "ViT-H-14-worldwide-378": _worldwide(_at(_H14, 378)),
    # ours: small enough to ship (see assets/README.md); it knows drawn scenes and nothing else
    "tiny": CLIPConfig(
        256,
        VisionConfig(96, 16, (1, 1, 1, 1)),
        TextConfig(192, 4, 3, vocab_size=4096),
        preprocess=PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    ),
}


def variant(name: str) -> CLIPConfig:
    """The architecture called `name`; ModelError, with the nearest names, when there is none."""
    if name in VARIANTS:
        return VARIANTS[name]
    import difflib

    near = difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`clipmill models` lists them"
    raise ModelError(f"unknown model {name!r}: {hint}")

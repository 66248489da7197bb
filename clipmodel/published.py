"""What is published about models: to choose by. Nothing here changes what a model computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .config import VARIANTS, CLIPConfig, Vocabulary
from .flops import Flops
from .sources import Release, releases

TOKENS = 16  # of a web caption, on average
_OPEN_CLIP = "open_clip, docs/openclip_results.csv"
_SIGLIP2 = "arXiv 2502.14786"

# zero-shot top-1 accuracy on ImageNet, percent
_ACCURACY: dict[tuple[str, str], tuple[float, str]] = {
    **{
        (name, "openai"): (percent, _OPEN_CLIP)
        for name, percent in (
            ("RN50", 59.8),
            ("RN101", 62.3),
            ("RN50x4", 66.3),
            ("RN50x16", 70.7),
            ("RN50x64", 73.9),
            ("ViT-B/32", 63.3),
            ("ViT-B/16", 68.3),
            ("ViT-L/14", 75.5),
            ("ViT-L/14@336px", 76.6),
        )
    },
    ("ViT-B-32", "laion400m_e31"): (62.9, _OPEN_CLIP),
    ("ViT-B-32", "laion400m_e32"): (62.9, _OPEN_CLIP),
    ("ViT-B-32", "datacomp_m_s128m_b4k"): (29.7, _OPEN_CLIP),
    ("ViT-B-32", "datacomp_s_s13m_b4k"): (3.9, _OPEN_CLIP),
    ("ViT-B-16", "datacomp_l_s1b_b8k"): (63.1, _OPEN_CLIP),
    ("ViT-B-32", "laion2b_e16"): (65.7, _OPEN_CLIP),
    ("ViT-B-32", "laion2b_s34b_b79k"): (66.6, _OPEN_CLIP),
    ("ViT-B-32", "datacomp_xl_s13b_b90k"): (69.2, _OPEN_CLIP),
    ("ViT-B-32-256", "datacomp_s34b_b86k"): (72.8, _OPEN_CLIP),
    ("ViT-B-16", "laion400m_e31"): (67.0, _OPEN_CLIP),
    ("ViT-B-16", "laion400m_e32"): (67.1, _OPEN_CLIP),
    ("ViT-B-16", "laion2b_s34b_b88k"): (70.2, _OPEN_CLIP),
    ("ViT-B-16", "datacomp_xl_s13b_b90k"): (73.5, _OPEN_CLIP),
    ("ViT-L-14", "laion400m_e31"): (72.7, _OPEN_CLIP),
    ("ViT-L-14", "laion400m_e32"): (72.8, _OPEN_CLIP),
    ("ViT-L-14", "laion2b_s32b_b82k"): (75.3, _OPEN_CLIP),
    ("ViT-L-14", "datacomp_xl_s13b_b90k"): (79.2, _OPEN_CLIP),
    ("ViT-H-14", "laion2b_s32b_b79k"): (78.0, _OPEN_CLIP),
    ("ViT-g-14", "laion2b_s12b_b42k"): (76.6, _OPEN_CLIP),
    ("ViT-g-14", "laion2b_s34b_b88k"): (78.5, _OPEN_CLIP),
    ("ViT-bigG-14", "laion2b_s39b_b160k"): (80.1, _OPEN_CLIP),
    ("ViT-B-16-SigLIP2", "webli"): (78.2, _SIGLIP2),
    ("ViT-B-16-SigLIP2-256", "webli"): (79.1, _SIGLIP2),
    ("ViT-SO400M-16-SigLIP2-256", "webli"): (83.4, _SIGLIP2),
    ("ViT-SO400M-16-SigLIP2-384", "webli"): (84.1, _SIGLIP2),
    ("ViT-SO400M-16-SigLIP2-512", "webli"): (84.3, _SIGLIP2),
}
_LANGUAGES: dict[Vocabulary, str] = {"clip": "English", "siglip": "English", "gemma": "over 100", "xlm_v": "over 300"}


_LICENCES = {  # by the beginning of the repository's name
    "laion/": "MIT",
    "timm/vit_": "MIT",
    "apple/": "Apple's, for research",
    "timm/ViT-": "Apache 2.0",
}


def _source(release: Release) -> str:
    """What one release is told by, whichever variants it is listed under."""
    return release.repo or release.file or release.asset


_BY_SOURCE = {_source(releases(name)[tag]): published for (name, tag), published in _ACCURACY.items()}


@dataclass(frozen=True)
class Weights:
    """A release: percent of ImageNet's images whose class it names without training for it, where that is published,
    and the licence; None where that is not known here."""

    accuracy: float | None
    accuracy_source: str | None
    licence: str | None

    @classmethod
    def of(cls, release: Release) -> Weights:
        accuracy, source = _BY_SOURCE.get(_source(release), (None, None))
        repo = release.repo
        licence = next((licence for start, licence in _LICENCES.items() if repo.startswith(start)), None)
        if "metaclip" in repo:
            licence = "CC BY-NC 4.0"
        return cls(accuracy, source, licence if repo else "MIT" if release.file else "Apache 2.0")


@dataclass(frozen=True)
class Variant:
    """A row of the table of models."""

    name: str
    image_size: int  # pixels
    embedding: int  # numbers
    context_length: int  # tokens
    vocabulary: str
    languages: str
    petaflop: float  # a million pairs, with captions of 16 tokens; SigLIP pads them to its context
    weights: dict[str, Weights]

    @classmethod
    def of(cls, name: str) -> Variant:
        config = VARIANTS[name]
        text = config.text
        weights = {tag: Weights.of(release) for tag, release in releases(name).items()}
        languages = "drawn scenes in English" if name == "tiny" else _LANGUAGES[text.vocabulary]
        return cls(
            name=name,
            image_size=config.vision.image_size,
            embedding=config.embed_dim,
            context_length=text.context_length,
            vocabulary=text.vocabulary,
            languages=languages,
            petaflop=round(petaflop(config), 2),
            weights=weights,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def petaflop(config: CLIPConfig) -> float:
    """10^15 floating-point operations for a million pairs."""
    return Flops.of(config).total(1, [TOKENS]) * 1e6 / 1e15

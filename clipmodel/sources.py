"""The named releases of weights: where each is published, and the settings that its tensors do not show.

OpenAI's files are content-addressed: the folder of each URL is the sha256 of the file. The other releases are
Hugging Face repositories; their activation, mean and std follow the releases' own published configurations.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from .config import HALVES, VARIANTS, Activation, PreprocessConfig, variant
from .errors import ModelError

OPENAI_URL = "https://openaipublic.azureedge.net/clip/models"


@dataclass(frozen=True)
class Release:
    """One set of published weights; exactly one of `file`, `repo` and `asset` says where it is."""

    file: str = ""  # OpenAI: a file name; its URL is OPENAI_URL/sha256/file
    repo: str = ""  # a Hugging Face repository
    asset: str = ""  # a file shipped in this package
    sha256: str | None = None  # of the file, where it is published; otherwise the computed one is what is recorded
    activation: Activation = "gelu"
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)


def _openai(file: str, sha256: str) -> dict[str, Release]:
    return {"openai": Release(file=file, sha256=sha256, activation="quick_gelu")}


def _hub(repo: str, activation: Activation = "gelu", preprocess: PreprocessConfig | None = None) -> Release:
    return Release(repo=repo, activation=activation, preprocess=preprocess or PreprocessConfig())


def _quick(repo: str, preprocess: PreprocessConfig | None = None) -> Release:
    return _hub(repo, "quick_gelu", preprocess)


def _siglip(name: str) -> dict[str, Release]:
    return {"webli": _hub(f"timm/{name}", "gelu_tanh", HALVES)}


_HALVES = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_SQUASH = PreprocessConfig(resize="squash")

# sizes as in the table of variants, without activation: `X` and `X-quickgelu` share the row X
_RELEASES: dict[str, dict[str, Release]] = {
    "RN50": _openai("RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "RN101": _openai("RN101.pt", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "RN50x4": _openai("RN50x4.pt", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "RN50x16": _openai("RN50x16.pt", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "RN50x64": _openai("RN50x64.pt", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "ViT-B/32": _openai("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "ViT-B/16": _openai("ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "ViT-L/14": _openai("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "ViT-L/14@336px": _openai("ViT-L-14-336px.pt", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
    "tiny": {"clipmill": Release(asset="tiny.safetensors")},
}
_RELEASES |= {
    "ViT-B-32": _RELEASES["ViT-B/32"]
    | {
        "laion400m_e31": _quick("timm/vit_base_patch32_clip_224.laion400m_e31"),
        "laion400m_e32": _quick("timm/vit_base_patch32_clip_224.laion400m_e32"),
        "laion2b_e16": _hub("timm/vit_base_patch32_clip_224.laion2b_e16"),
        "laion2b_s34b_b79k": _hub("laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        "datacomp_xl_s13b_b90k": _hub("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"),
        "datacomp_m_s128m_b4k": _hub("laion/CLIP-ViT-B-32-DataComp.M-s128M-b4K"),
        "datacomp_s_s13m_b4k": _hub("laion/CLIP-ViT-B-32-DataComp.S-s13M-b4K"),
        "metaclip_400m": _quick("timm/vit_base_patch32_clip_224.metaclip_400m"),
        "metaclip_fullcc": _quick("timm/vit_base_patch32_clip_224.metaclip_2pt5b"),
    },
    "ViT-B-32-256": {"datacomp_s34b_b86k": _hub("laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K")},
    "ViT-B-16": _RELEASES["ViT-B/16"]
    | {
        "laion400m_e31": _hub("timm/vit_base_patch16_clip_224.laion400m_e31"),
        "laion400m_e32": _hub("timm/vit_base_patch16_clip_224.laion400m_e32"),
        "laion2b_s34b_b88k": _hub("laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        "datacomp_xl_s13b_b90k": _hub("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K"),
        "datacomp_l_s1b_b8k": _hub("laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K"),
        "dfn2b": _quick("apple/DFN2B-CLIP-ViT-B-16"),
        "metaclip_400m": _quick("timm/vit_base_patch16_clip_224.metaclip_400m"),
        "metaclip_fullcc": _quick("timm/vit_base_patch16_clip_224.metaclip_2pt5b"),
    },
    "ViT-L-14": _RELEASES["ViT-L/14"]
    | {
        "laion400m_e31": _hub("timm/vit_large_patch14_clip_224.laion400m_e31"),
        "laion400m_e32": _hub("timm/vit_large_patch14_clip_224.laion400m_e32"),
        "laion2b_s32b_b82k": _hub("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", preprocess=_HALVES),
        "datacomp_xl_s13b_b90k": _hub("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"),
        "dfn2b": _quick("apple/DFN2B-CLIP-ViT-L-14"),
        "dfn2b_s39b": _hub("apple/DFN2B-CLIP-ViT-L-14-39B"),
        "metaclip_400m": _quick("timm/vit_large_patch14_clip_224.metaclip_400m"),
        "metaclip_fullcc": _quick("timm/vit_large_patch14_clip_224.metaclip_2pt5b"),
    },
    "ViT-L-14-336": _RELEASES["ViT-L/14@336px"],
    "ViT-H-14": {
        "laion2b_s32b_b79k": _hub("laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
        "dfn5b": _quick("apple/DFN5B-CLIP-ViT-H-14", _SQUASH),
        "metaclip_fullcc": _quick("timm/vit_huge_patch14_clip_224.metaclip_2pt5b"),
        "metaclip_altogether": _hub("timm/vit_huge_patch14_clip_224.metaclip_altogether"),
    },
    "ViT-H-14-378": {"dfn5b": _quick("apple/DFN5B-CLIP-ViT-H-14-378", _SQUASH)},
    "ViT-g-14": {
        "laion2b_s12b_b42k": _hub("laion/CLIP-ViT-g-14-laion2B-s12B-b42K"),
        "laion2b_s34b_b88k": _hub("laion/CLIP-ViT-g-14-laion2B-s34B-b88K"),
    },
    "ViT-bigG-14": {
        "laion2b_s39b_b160k": _hub("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
        "metaclip_fullcc": _quick("timm/vit_gigantic_patch14_clip_224.metaclip_2pt5b"),
    },
}
_RELEASES |= {name: _siglip(name) for name in VARIANTS if "-SigLIP" in name}


def releases(name: str) -> dict[str, Release]:
    """Tag -> release of the variant called `name`; the first one is its default."""
    variant(name)
    family = name.removesuffix("-quickgelu")
    rows = _RELEASES.get(family, {})
    if family == name:
        return rows
    return {tag: row for tag, row in rows.items() if row.activation == "quick_gelu"}


def find(name: str, tag: str | None) -> tuple[str, Release]:
    """(tag, release) of `NAME=TAG`, or of NAME's default; ModelError with the known tags when there is none."""
    rows = releases(name)
    if not rows:
        raise ModelError(f"{name} has no named weights here: give a file, {name}=PATH")
    tag = next(iter(rows)) if tag is None else tag.lower().replace("-", "_")
    if tag in rows:
        return tag, rows[tag]
    near = difflib.get_close_matches(tag, rows, n=2, cutoff=0.6) or list(rows)
    raise ModelError(
        f"{name} has no weights called {tag!r} and there is no such file: try {', '.join(near)}, or a path"
    )

"""Heads that others have published: where each is, the model whose embeddings it reads, and its layout.

URLs name a commit, so that what is behind them stays the same. Layouts follow the authors' own code: the improved
predictor's simple_inference.py, the linear predictors' README, and src/models.py of the detector. docs/score.md says
what each is worth, and what it misses.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ...clipmodel.sources import find
from ..errors import ModelError

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx")
_GITHUB = "https://raw.githubusercontent.com"
_IMPROVED = f"{_GITHUB}/christophschuhmann/improved-aesthetic-predictor/6934dd81792f086e613a121dbce43082cb8be85e"
_LINEAR = f"{_GITHUB}/LAION-AI/aesthetic-predictor"
_NSFW = f"{_GITHUB}/LAION-AI/CLIP-based-NSFW-Detector"


@dataclass(frozen=True)
class Preset:
    """A published head. layers: names of its layers in the file, without `.weight`."""

    variant: str  # of the model whose embeddings it reads,
    weights: str  # and the tag of its release
    url: str
    sha256: str | None  # of the file, where it is known; otherwise the computed one is what is recorded
    layers: tuple[str, ...]
    widths: tuple[int, ...]  # of its input, and of each layer's output
    between: str = "none"  # the activation between layers
    last: str = "none"  # that after the last
    licence: str = "MIT"

    @property
    def file(self) -> str:
        return unquote(self.url.rpartition("/")[2])

    @property
    def model_sha256(self) -> str:
        """Of the weights whose embeddings it reads."""
        sha256 = find(self.variant, self.weights)[1].sha256
        assert sha256
        return sha256


def _linear(variant: str, width: int, commit: str, file: str, sha256: str) -> Preset:
    return Preset(variant, "openai", f"{_LINEAR}/{commit}/{file}", sha256, ("",), (width, 1))


PRESETS = {
    "laion-aesthetic-l14": Preset(
        "ViT-L/14",
        "openai",
        f"{_IMPROVED}/sac%2Blogos%2Bava1-l14-linearMSE.pth",
        "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
        ("layers.0", "layers.2", "layers.4", "layers.6", "layers.7"),  # dropout between them
        (768, 1024, 128, 64, 16, 1),
        licence="Apache-2.0",
    ),
    "laion-aesthetic-l14-linear": _linear(
        "ViT-L/14",
        768,
        "7e37768a02b0863eac390a702903aaa90ecf938e",
        "sa_0_4_vit_l_14_linear.pth",
        "2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba",
    ),
    "laion-aesthetic-b32-linear": _linear(
        "ViT-B/32",
        512,
        "814214009feff106add4bb983807704ccdd5a0db",
        "sa_0_4_vit_b_32_linear.pth",
        "c7b14cead230694acc7b9447974d3cad78003c72da032e402a303b6c2429e85f",
    ),
    "laion-nsfw-l14": Preset(
        "ViT-L/14",
        "openai",
        f"{_NSFW}/21072a2a38e6d2bb294be03c005aaa9a65778e47/models/clip_ViT-L-14_openai_binary_nsfw_head.pth",
        None,
        ("linear_1", "linear_2", "linear_3", "linear_4"),
        (768, 64, 512, 256, 1),
        "relu",
        "sigmoid",
    ),
    "laion-nsfw-b32": Preset(
        "ViT-B/32",
        "openai",
        f"{_NSFW}/e8038cdb61f044b63f2dc11a400156b49dce612c/models/clip_ViT-B-32_openai_binary_nsfw_head.pth",
        None,
        ("linear_1", "linear_2", "linear_3"),
        (512, 32, 32, 1),
        "relu",
        "sigmoid",
    ),
}


@dataclass(frozen=True)
class Weights:
    """A head as a user names it: a preset, a file or URL, or both."""

    preset: str | None
    file: str | None


def parse_weights(text: str) -> Weights:
    """`PRESET`, `FILE` or `PRESET=FILE`. ModelError where it is none of them, and where there is no such local file."""
    name, equals, file = text.partition("=")
    if name not in PRESETS:
        name, file = "", text
    elif not equals:
        return Weights(name, None)
    if "://" not in file and not Path(file).expanduser().is_file():
        if name or file.endswith(_SUFFIXES) or "/" in file:
            raise ModelError(f"{file}: no such file; check its spelling")
        near = difflib.get_close_matches(file, PRESETS, n=2, cutoff=0.6) or list(PRESETS)
        raise ModelError(f"no head is called {file!r} and there is no such file: try {', '.join(near)}, or a path")
    return Weights(name or None, file)


def preset_of(layers: tuple[str, ...], widths: tuple[int, ...]) -> str | None:
    """The preset that has such layers, where they show it: a single one shows nothing."""
    if len(layers) == 1:
        return None
    return next((name for name, p in PRESETS.items() if (p.layers, p.widths) == (layers, widths)), None)

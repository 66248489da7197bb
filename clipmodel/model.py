"""CLIP: two encoders into one space, and a learned temperature (paper, section 2.3 and figure 3). With the
sigmoid loss there is a bias besides (arXiv 2303.15343)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import CLIPConfig
from .text import TextTransformer
from .transformer import ResidualAttentionBlock, Transformer
from .vision import Bottleneck, ModifiedResNet, VisionTransformer

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
INITIAL_SIGMOID = math.log(10), -10.0  # scale and bias, arXiv 2303.15343, section 3.2


class CLIP(TextTransformer):
    """The whole model. The text tower's tensors sit at the top level and the image tower's under `visual`,
    as in the reference's checkpoints."""

    padding = 0  # attention is causal: what follows [EOS] changes nothing

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__(config.text, config.embed_dim, config.activation, config.epsilon)
        self.config = config
        self.visual: nn.Module
        if config.vision.is_resnet:
            self.visual = ModifiedResNet(config.vision, config.embed_dim)
        else:
            self.visual = VisionTransformer(config.vision, config.embed_dim, config.activation, config.epsilon)
        scale, bias = INITIAL_SIGMOID if config.sigmoid else (INITIAL_LOGIT_SCALE, None)
        self.logit_scale = nn.Parameter(torch.tensor(scale))
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        initialize(self)

    @property
    def embed_dim(self) -> int:
        return self.config.embed_dim

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels, float [n, 3, size, size] -> image features [n, embed_dim], not L2-normalised."""
        return self.visual(pixels)

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [n, 3, size, size] and tokens [m, length] -> logits [n, m] per image and [m, n] per text:
        cosine similarities over the learned temperature, and the bias of the sigmoid loss, if there is one."""
        image = F.normalize(self.encode_image(pixels), dim=-1)
        text = F.normalize(self.encode_text(tokens), dim=-1)
        logits = self.logit_scale.exp() * image @ text.T
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        return logits, logits.T


@torch.no_grad()
def initialize(model: CLIP) -> None:
    """The reference's initialisation: stds by width and depth, bn3 of every bottleneck at zero."""
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    nn.init.normal_(model.positional_embedding, std=0.01)
    nn.init.normal_(model.text_projection, std=model.transformer.width**-0.5)
    _initialize_blocks(model.transformer)
    if isinstance(model.visual, ModifiedResNet):
        pool = model.visual.attnpool
        for linear in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
            nn.init.normal_(linear.weight, std=pool.c_proj.in_features**-0.5)
        for module in model.visual.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)


def _initialize_blocks(transformer: Transformer) -> None:
    width, layers = transformer.width, transformer.layers
    for block in transformer.resblocks:
        assert isinstance(block, ResidualAttentionBlock)
        nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)

"""The two image encoders of the paper, section 2.4: ModifiedResNet and VisionTransformer; and SigLIP's, which is the
second with another beginning and another end (arXiv 2303.15343)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Activation, VisionConfig
from .transformer import Perceptron, SelfAttention, Transformer, attend_once


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs)


class Bottleneck(nn.Module):
    """ResNet-D's bottleneck with anti-aliased strides: every strided convolution is an average pool and stride 1."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1, self.bn1 = _conv_bn(inputs, planes, 1)
        self.conv2, self.bn2 = _conv_bn(planes, planes, 3)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3, self.bn3 = _conv_bn(planes, outputs, 1)
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            conv, norm = _conv_bn(inputs, outputs, 1)
            # the reference's own key names: "-1" has no parameters
            self.downsample = nn.Sequential(OrderedDict([("-1", nn.AvgPool2d(stride)), ("0", conv), ("1", norm)]))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.bn3(self.conv3(self.avgpool(x)))
        return F.relu(x + shortcut, inplace=True)


class AttentionPool2d(nn.Module):
    """Pools a feature map with one query: the map's own average attends over the map and itself."""

    def __init__(self, grid: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(grid * grid + 1, width) / width**0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)  # [n, height * width, channels]
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        to_key, to_value = (self.k_proj.weight, self.k_proj.bias), (self.v_proj.weight, self.v_proj.bias)
        pooled = attend_once(self.q_proj(x[:, 0]), x, to_key, to_value, self.heads)  # [n, width]
        return self.c_proj(pooled)  # [n, embed_dim]


class ModifiedResNet(nn.Module):
    """ResNet-D with a three-convolution stem, anti-aliased strides and attention pooling."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__()
        assert isinstance(config.layers, tuple)
        width = config.width
        self.conv1, self.bn1 = _conv_bn(3, width // 2, 3, stride=2)
        self.conv2, self.bn2 = _conv_bn(width // 2, width // 2, 3)
        self.conv3, self.bn3 = _conv_bn(width // 2, width, 3)
        self.avgpool = nn.AvgPool2d(2)
        inputs = width
        for stage, blocks in enumerate(config.layers):
            planes = width * 2**stage
            strides = [2 if stage else 1] + [1] * (blocks - 1)
            layer = []
            for stride in strides:
                layer.append(Bottleneck(inputs, planes, stride))
                inputs = planes * Bottleneck.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.attnpool = AttentionPool2d(config.image_size // 32, inputs, config.heads, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)), inplace=True)
        x = self.avgpool(x)  # [n, width, size / 4, size / 4]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.attnpool(x)  # [n, embed_dim]


class AttentionHead(nn.Module):
    """Pools tokens with one learned query, then a perceptron (Zhai et al. 2022, arXiv 2106.04560, section 3.3)."""

    def __init__(self, config: VisionConfig, activation: Activation, epsilon: float) -> None:
        super().__init__()
        self.probe = nn.Parameter(config.width**-0.5 * torch.randn(config.width))
        self.attn = SelfAttention(config.width, config.heads)
        self.ln = nn.LayerNorm(config.width, epsilon)
        self.mlp = Perceptron(config.width, config.mlp_width, activation)

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, width] -> [n, width]."""
        attn = self.attn
        to_query, to_key, to_value = zip(attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3), strict=True)
        query = F.linear(self.probe, *to_query).expand(len(x), -1)
        x = attn.out_proj(attend_once(query, x, to_key, to_value, attn.heads))
        return x + self.mlp(self.ln(x))


class VisionTransformer(nn.Module):
    """ViT. CLIP's has a class token, an extra layer norm on the embedded patches and a projection; SigLIP's, whose
    features are as wide as itself, has none of them and an AttentionHead."""

    def __init__(self, config: VisionConfig, embed_dim: int, activation: Activation, epsilon: float = 1e-5) -> None:
        super().__init__()
        assert isinstance(config.layers, int)
        width, patch, head = config.width, config.patch_size, config.pooling == "attention"
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=head)
        self.class_embedding = None if head else nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(config.positions, width))
        self.ln_pre = None if head else nn.LayerNorm(width, epsilon)
        self.transformer = Transformer(
            width, config.layers, config.heads, config.mlp_width, activation, causal=False, epsilon=epsilon
        )
        self.ln_post = nn.LayerNorm(width, epsilon)
        self.proj = None if head else nn.Parameter(scale * torch.randn(width, embed_dim))
        self.head = AttentionHead(config, activation, epsilon) if head else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, size, size] -> [n, embed_dim]."""
        x = self.conv1(x).flatten(2).transpose(1, 2)  # [n, patches, width]
        if self.head is not None:
            return self.head(self.ln_post(self.transformer(x + self.positional_embedding.to(x.dtype))))
        assert self.class_embedding is not None and self.ln_pre is not None and self.proj is not None
        first = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([first, x], dim=1) + self.positional_embedding.to(x.dtype)
        first_position = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        x = self.transformer(self.ln_pre(x), first_position)
        return self.ln_post(x) @ self.proj  # [n, embed_dim]

"""The text transformer. CLIP's: masked self-attention, features at [EOS] (paper, section 2.4). SigLIP's: every token
sees every other, features at the last position (arXiv 2303.15343)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import Activation, TextConfig
from .transformer import Transformer
from .vocabulary import EOS_IDS


class TextTransformer(nn.Module):
    """Token ids -> text features."""

    def __init__(self, config: TextConfig, embed_dim: int, activation: Activation, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.pooling, self.eos = config.pooling, EOS_IDS[config.vocabulary]
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        causal = config.pooling == "eos"
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.mlp_width, activation, causal, epsilon
        )
        self.ln_final = nn.LayerNorm(config.width, epsilon)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))
        self.text_projection_bias = None if causal else nn.Parameter(torch.zeros(embed_dim))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Ids, int [n, length] with length <= context_length -> features [n, embed_dim], not L2-normalised.

        Where attention is causal, nothing after [EOS] reaches the features: rows may be cut at the longest
        caption of the batch without changing the answer. Where it is not, rows must have the context length, as
        the tokenizer's `truncate` makes them.
        """
        x = self.token_embedding(tokens)  # [n, length, width]
        x = x + self.positional_embedding[: tokens.shape[1]].to(x.dtype)
        x = self.ln_final(self.transformer(x, self._positions(tokens))) @ self.text_projection
        return x if self.text_projection_bias is None else x + self.text_projection_bias

    def _positions(self, tokens: Tensor) -> Tensor:
        """Where each row is read, int64 [n]: at its first [EOS], which is CLIP's highest id, or at its end."""
        if self.pooling == "last":
            return torch.full((len(tokens),), tokens.shape[1] - 1, dtype=torch.int64, device=tokens.device)
        return (tokens if self.eos is None else (tokens == self.eos).int()).argmax(dim=-1)

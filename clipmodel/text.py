"""The text transformer: masked self-attention, features at [EOS] (paper, section 2.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import Activation, TextConfig
from .transformer import Transformer


class TextTransformer(nn.Module):
    """Token ids -> text features. [EOS] has the highest id of the vocabulary, so its position is an argmax."""

    def __init__(self, config: TextConfig, embed_dim: int, activation: Activation) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(
            config.width, config.layers, config.heads, 4 * config.width, activation, causal=True
        )
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Ids, int [n, length] with length <= context_length -> features [n, embed_dim], not L2-normalised.

        Attention is causal, so nothing after [EOS] reaches the features: rows may be cut at the longest
        caption of the batch without changing the answer.
        """
        x = self.token_embedding(tokens)  # [n, length, width]
        x = x + self.positional_embedding[: tokens.shape[1]].to(x.dtype)
        x = self.transformer(x, tokens.argmax(dim=-1))  # [n, width], at [EOS]
        return self.ln_final(x) @ self.text_projection

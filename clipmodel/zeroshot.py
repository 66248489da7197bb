"""Zero-shot classification: class names and prompt templates -> one unit vector per class (paper, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import CLIP
from .tokenizer import Tokenizer

# our own wording; `{}` is where the class name goes
TEMPLATES: dict[str, tuple[str, ...]] = {
    "simple": ("{}",),
    "photo": ("a photo of a {}.", "a close photo of a {}.", "a picture showing a {}.", "an image with a {} in it."),
    "drawing": ("{}", "a {}", "a picture of a {}", "an image of a {}", "a drawing of a {}"),
}


@torch.inference_mode()
def classifier(
    model: CLIP, tokenizer: Tokenizer, names: Sequence[str], templates: Sequence[str], batch_size: int = 256
) -> Tensor:
    """float32 [classes, embed_dim], L2-normalised: per class the normalised mean of its prompts' normalised
    embeddings. A template without `{}` is an error, since every class would then be the same."""
    if not names or not templates:
        raise ValueError("a classifier needs at least one class name and one template")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"template {template!r} has no {{}} for the class name")
    device = model.logit_scale.device
    prompts = [template.replace("{}", name) for name in names for template in templates]
    chunks = []
    for start in range(0, len(prompts), batch_size):
        tokens = tokenizer(prompts[start : start + batch_size]).to(device)
        tokens = tokens[:, : int(tokens.argmax(dim=1).max()) + 1]  # causal: what follows [EOS] changes nothing
        chunks.append(F.normalize(model.encode_text(tokens).float(), dim=-1))
    vectors = torch.cat(chunks).view(len(names), len(templates), -1)
    return F.normalize(vectors.mean(dim=1), dim=-1)


def probabilities(image: Tensor, classes: Tensor, logit_scale: Tensor) -> Tensor:
    """Softmax over classes at the model's temperature.

    image [n, dim] and classes [c, dim], both L2-normalised; logit_scale is the learned logarithm. -> float32 [n, c].
    """
    return torch.softmax(logit_scale.float().exp() * image.float() @ classes.float().T, dim=-1)

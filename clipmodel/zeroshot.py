"""Zero-shot classification: class names and prompt templates -> one unit vector per class (paper, section 3.1.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .seams import TextInput, Towers

_WINDOW = 1 << 13  # prompts in memory at once, and sorted by length
_BLOCK = 1 << 13  # classes whose logits are in memory at once


def classifier(
    model: Towers,
    tokenizer: TextInput,
    names: Sequence[str],
    templates: Sequence[str],
    batch_size: int = 256,
) -> Tensor:
    """float32 [classes, embed_dim], L2-normalised: per class the normalised mean of its prompts' normalised
    embeddings. A template without `{}` is an error, since every class would then be the same."""
    if not names or not templates:
        raise ValueError("a classifier needs at least one class name and one template")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"template {template!r} has no {{}} for the class name")
    prompts = ([template.replace("{}", name) for template in templates] for name in names)
    return class_vectors(model, tokenizer, prompts, len(names), batch_size)


@torch.inference_mode()
def class_vectors(
    model: Towers,
    tokenizer: TextInput,
    prompts: Iterable[Sequence[str]],
    classes: int,
    batch_size: int = 256,
    on_prompts: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """As `classifier`, from complete prompts: one or more for each of `classes` classes, read once and never held all
    together.
    on_prompts: called with the number of prompts done so far. The result is on the CPU."""
    device = model.logit_scale.device
    sums = torch.zeros(classes, model.embed_dim, device=device)
    waiting = ((index, prompt) for index, own in enumerate(prompts) for prompt in own)
    done = 0
    while window := list(islice(waiting, _WINDOW)):
        rows = [tokenizer.truncate(ids) for ids in tokenizer.encode([prompt for _, prompt in window])]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]  # cut at [EOS], as what follows changes nothing; or padded
            ids = [torch.from_numpy(rows[row]).long() for row in batch]
            tokens = pad_sequence(ids, batch_first=True, padding_value=model.padding)
            features = F.normalize(model.encode_text(tokens.to(device)).float(), dim=-1)
            sums.index_add_(0, torch.tensor([window[row][0] for row in batch], device=device), features)
            done += len(batch)
            on_prompts(done)
    return F.normalize(sums, dim=-1).cpu()


def probabilities(image: Tensor, classes: Tensor, logit_scale: Tensor) -> Tensor:
    """Softmax over classes at the model's temperature. The bias of models with a sigmoid loss is the same for all
    classes, so that it changes nothing here.

    image [n, dim] and classes [c, dim], both L2-normalised; logit_scale is the learned logarithm. -> float32 [n, c].
    """
    return torch.softmax(logit_scale.float().exp() * image.float() @ classes.float().T, dim=-1)


@dataclass(frozen=True)
class TopClasses:
    """The best k of c classes for each of n images, and how the rest compares."""

    indices: Tensor  # int64 [n, k], most probable first, ties by index
    probabilities: Tensor  # float32 [n, k]
    entropy: Tensor  # float32 [n], of all c probabilities, over its maximum ln c: 0 is certain, 1 is no idea
    log_total: Tensor  # float32 [n]: log of the sum of the exponentials of all c logits


@torch.inference_mode()
def top_classes(image: Tensor, classes: Tensor, logit_scale: Tensor, k: int, block: int = _BLOCK) -> TopClasses:
    """The k most probable classes of each image, as `probabilities` gives them, but with no more than `block` classes'
    logits at a time.

    image [n, dim] and classes [c, dim], float32 and L2-normalised, with k <= c.
    """
    scaled = logit_scale.float().exp() * image
    total = torch.full((len(image),), -torch.inf)  # log of the sum of exponentials
    mean = torch.zeros(len(image))  # of the logits, weighted by their probabilities
    best = torch.empty(len(image), 0)
    indices = torch.empty(len(image), 0, dtype=torch.int64)
    for start in range(0, len(classes), block):
        logits = scaled @ classes[start : start + block].T
        own = logits.logsumexp(dim=1)
        both = torch.logaddexp(total, own)
        own_mean = ((logits - own[:, None]).exp() * logits).sum(dim=1)
        mean = mean * (total - both).exp() + own_mean * (own - both).exp()
        total = both
        values, columns = logits.topk(min(k, logits.shape[1]), dim=1)
        best, indices = torch.cat([best, values], dim=1), torch.cat([indices, columns + start], dim=1)
        indices, order = indices.sort(dim=1)
        best, order = best.gather(1, order).sort(dim=1, descending=True, stable=True)
        best, indices = best[:, :k], indices.gather(1, order)[:, :k]
    entropy = ((total - mean) / math.log(max(2, len(classes)))).clamp(0, 1)
    return TopClasses(indices, (best - total[:, None]).exp(), entropy, total)


@torch.inference_mode()
def background_share(image: Tensor, background: Tensor, logit_scale: Tensor, log_total: Tensor) -> Tensor:
    """float32 [n]: the probability of the background, were its best-fitting prompt one more class.

    image [n, dim] and background [b, dim], float32 and L2-normalised, b at least 1; log_total [n] as in `TopClasses`.
    """
    best = logit_scale.float().exp() * (image @ background.T).amax(dim=1)
    return torch.sigmoid(best - log_total)

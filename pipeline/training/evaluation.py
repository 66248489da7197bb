"""How good a model is on pairs it did not see: zero-shot top-1, recall@1/5/10 both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ...clipmodel import metrics
from ...clipmodel.model import CLIP
from ...clipmodel.preprocess import Preprocess
from ...clipmodel.templates import TEMPLATES
from ...clipmodel.tokenizer import Tokenizer
from ...clipmodel.zeroshot import classifier
from ..embedding.decode import Decoder
from ..embedding.encoder import ClipEncoder
from ..errors import InputError
from ..inputs.shards import read_samples
from ..records import Decoded, Shard, Vectors


@dataclass(frozen=True)
class Evaluation:
    """recall: `text_to_image@1` and so on. zero_shot: top-1 over `classes` class names, None without labels."""

    pairs: int
    recall: dict[str, float]
    zero_shot: float | None = None
    labelled: int = 0
    classes: int = 0


def evaluate(
    model: CLIP, shards: Sequence[Shard], label: str | None, most: int = 5000, options: Mapping[str, Any] | None = None
) -> Evaluation:
    """Measure on the first `most` pairs of the shards; of equal captions the first counts, since retrieval cannot
    tell them apart. `label`: the json field that names an image's class."""
    config = model.config
    tokenizer = Tokenizer(config.text.vocab_size, config.text.context_length)
    decoder = Decoder(Preprocess(config.vision.image_size, config.preprocess), tokenizer)
    samples = (sample for shard in shards for sample in read_samples(shard, options))
    decoded = (decoder.decode(sample) for sample in samples)
    rows = list(islice((row for row in decoded if row.pixels is not None and row.tokens is not None), most))
    if len(rows) < 2:
        raise InputError("the evaluation shards hold fewer than two pairs with both image and caption")
    encoder = ClipEncoder(model, model.logit_scale.device)
    images, _ = encoder.encode([row.pixels for row in rows if row.pixels is not None], [])
    distinct = list({row.caption: index for index, row in reversed(list(enumerate(rows)))}.values())
    _, texts = encoder.encode([], [tokens for index in distinct if (tokens := rows[index].tokens) is not None])
    recalls = recall(images[distinct], texts)
    if label is None:
        return Evaluation(len(distinct), recalls)
    top1, labelled, classes = _zero_shot(model, tokenizer, rows, images, label)
    return Evaluation(len(distinct), recalls, top1, labelled, classes)


def recall(images: Vectors, texts: Vectors, at: Iterable[int] = (1, 5, 10)) -> dict[str, float]:
    """images, texts: [n, dim], L2-normalised, row i of one belonging to row i of the other."""
    similarity = images @ texts.T
    return {
        **{f"text_to_image@{k}": metrics.recall_at_k(similarity.T, k) for k in at},
        **{f"image_to_text@{k}": metrics.recall_at_k(similarity, k) for k in at},
    }


def _zero_shot(
    model: CLIP, tokenizer: Tokenizer, rows: Sequence[Decoded], images: Vectors, label: str
) -> tuple[float, int, int]:
    """Top-1, over how many images, among how many classes."""
    names_or_none = [(index, row.metadata.get(label)) for index, row in enumerate(rows)]
    labelled = [(index, name) for index, name in names_or_none if isinstance(name, str)]
    if not labelled:
        raise InputError(f"no sample of the evaluation shards has a text under {label!r} in its json")
    names = sorted({name for _, name in labelled})
    vectors = classifier(model, tokenizer, names, TEMPLATES["drawing"]).cpu().numpy()
    indices = np.array([index for index, _ in labelled])
    truth = np.array([names.index(name) for _, name in labelled])
    return metrics.top1(images[indices] @ vectors.T, truth), len(labelled), len(names)

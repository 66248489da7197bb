"""The main job as a competent user of Ray Data would write it, with the same model and the same way to decode: what
clipmill has to beat.

python ray_data.py together|apart MODEL OUT SHARD…
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import torch
import torch.nn.functional as F
from clipmill.clipmodel import load
from clipmill.clipmodel.preprocess import normalise
from clipmill.clipmodel.weights import Loaded
from ray.data import ActorPoolStrategy

Columns = dict[str, Any]


def loaded(model: str) -> Loaded:
    clip = load(model)
    return replace(clip, preprocess=replace(clip.preprocess, decoding="close"))  # as `clipmill embed` decodes


def decode(clip: Loaded, batch: Columns) -> Columns:
    """Bytes to pixels and padded tokens."""
    captions = [data.decode() for data in batch["txt"]]
    tokens = np.zeros((len(captions), clip.tokenizer.context_length), dtype=np.int64)
    for row, ids in zip(tokens, clip.tokenizer.encode(captions), strict=True):
        kept = clip.tokenizer.truncate(ids)
        row[: len(kept)] = kept
    pixels = np.stack([clip.preprocess(data) for data in batch["jpg"]])
    return {"key": batch["__key__"], "caption": captions, "pixels": pixels, "tokens": tokens}


class Decode:
    """For decoding in actors of its own, beside the encoder's."""

    def __init__(self, model: str) -> None:
        self.clip = loaded(model)

    def __call__(self, batch: Columns) -> Columns:
        return decode(self.clip, batch)


class Embed:
    """An actor that holds the model; decodes what is not decoded yet."""

    def __init__(self, model: str) -> None:
        self.clip = loaded(model)

    @torch.inference_mode()
    def __call__(self, batch: Columns) -> Columns:
        if "pixels" not in batch:
            batch = decode(self.clip, batch)
        model = self.clip.model
        pixels = normalise(torch.tensor(batch["pixels"]), model.config.preprocess)
        image = F.normalize(model.encode_image(pixels), dim=-1)
        text = F.normalize(model.encode_text(torch.tensor(batch["tokens"])), dim=-1)
        return {
            "key": batch["key"],
            "caption": batch["caption"],
            "image_embedding": image.half().numpy(),
            "text_embedding": text.half().numpy(),
            "similarity": (image * text).sum(dim=-1).numpy(),
        }


def main(how: str, model: str, out: str, shards: list[str]) -> None:
    # "local": it would join another cluster of this machine, if one runs
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    dataset = ray.data.read_webdataset(shards, decoder=None)
    one = {"fn_constructor_args": [model], "batch_size": 64, "compute": ActorPoolStrategy(size=1)}
    if how == "apart":
        dataset = dataset.map_batches(Decode, num_cpus=0.5, **one)
    dataset.map_batches(Embed, num_cpus=1 if how == "together" else 0.5, **one).write_parquet(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])

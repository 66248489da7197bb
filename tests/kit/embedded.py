"""Datasets embedded from real shards in this process, by hashing instead of a model: for tests that go back to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipmill.pipeline.choices import USUAL_KEYS, SampleKeys
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import Fingerprint, freeze
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.embedding.leaving_out import LeavingOut
from clipmill.pipeline.embedding.shard_reader import InputOptions
from clipmill.pipeline.inputs.listing import list_shards
from fakes import FakeEncoder, fake_decoder, fake_tools, threaded
from made import card

DIM = 8


def embed_here(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    images: bool = True,
    texts: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    caption_key: str | None = None,
    leaves_out: bool = False,
) -> Dataset:
    """Every image and caption gets a vector that is another one for other pixels, or tokens. leaves_out: as a run that
    begins after rows were forgotten."""
    made_by = json.dumps(card("tiny", DIM, "0" * 64))
    keys = SampleKeys(caption=(caption_key,)) if caption_key else USUAL_KEYS
    options = InputOptions(keys, storage_options or {})
    tools = fake_tools(
        FakeEncoder(DIM), images=images, texts=texts, provenance={"clipmill.model_card": made_by},
        reader=threaded(fake_decoder(images, texts), inputs=options),
    )  # fmt: skip
    embeds = " and ".join(side for side, wanted in (("images", images), ("texts", texts)) if wanted)
    settings = Fingerprint("tiny", "made", "0" * 64, "none", "fp32", "float32", "none", "uid, url, caption", embeds)
    if caption_key:
        settings = replace(settings, keys=f"caption from {caption_key}")
    output = Output.at(str(out), storage_options).prepare()
    shards = list_shards([str(each) for each in inputs], storage_options)
    freeze(output, settings, shards)
    tools = replace(tools, leaving_out=LeavingOut.of(output)) if leaves_out else tools
    for shard in shards:
        embed_shard(shard, tools, output)
    return Dataset.open(str(out), storage_options)

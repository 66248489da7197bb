"""Several models in one pass give what each gives alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel import weights
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.errors import PlanMismatchError, UserError
from clipmill.pipeline.job.named_models import NamedModel, named_models
from fakes import parts


@pytest.mark.parametrize(
    ("spec", "alias", "rest"),
    [
        ("ViT-B/32", "", "ViT-B/32"),
        ("ViT-B-32=laion2b_e16", "", "ViT-B-32=laion2b_e16"),
        ("b32=ViT-B-32", "b32", "ViT-B-32"),
        ("b32=ViT-B-32=laion2b_e16", "b32", "ViT-B-32=laion2b_e16"),
        ("tiny=random", "", "tiny=random"),  # a variant's own name is no alias
        ("own=my.safetensors", "own", "my.safetensors"),
        ("B32=ViT-B-32", "", "B32=ViT-B-32"),  # aliases begin columns: lower case
    ],
)
def test_an_alias_is_told_from_a_variant(spec: str, alias: str, rest: str) -> None:
    assert named_models([spec]) == (NamedModel(alias, rest),)


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ([], "name at least one"),
        (["ViT-B-32", "l=ViT-L-14"], "ViT-B-32: several models need an alias each"),
        (["a=ViT-B-32", "a=ViT-L-14"], "the alias a is given twice"),
    ],
)
def test_models_that_could_not_be_told_apart_are_refused(specs: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        named_models(specs)


def test_two_models_in_one_pass_give_the_columns_of_two_runs(here: list[str], some: EmbedJob, tmp_path: Path) -> None:
    """One of them with another image size, vocabulary and dimension than the other."""
    small = tmp_path / "small.safetensors"
    write_small(small)
    first, second = str(some.model), str(small)
    both = embed(replace(some, model=(f"one={first}", f"two={second}")))
    alone = [replace(some, model=model, out=str(tmp_path / name)) for name, model in (("a", first), ("b", second))]
    for job in alone:
        embed(job)
    assert both.dataset.rows == 80
    rows = zip(parts(some.out), parts(alone[0].out), parts(alone[1].out), strict=True)
    for together, *singles in rows:
        for alias, single in zip(("one", "two"), singles, strict=True):
            for name in ("image_embedding", "text_embedding", "similarity"):
                got, expected = together.pop(f"{alias}_{name}"), single.pop(name)
                assert (got is None) == (expected is None)
                if got is not None:
                    np.testing.assert_allclose(got, expected, atol=2e-3)
        assert together == singles[0]  # everything else, failures included
    card = json.loads(pq.read_metadata(next(Path(some.out).glob("data/*.parquet"))).metadata[b"clipmill.model_card"])
    assert sorted(card) == ["one", "two"]


def test_another_set_of_models_into_the_same_folder_is_refused(here: list[str], some: EmbedJob) -> None:
    embed(replace(some, model=(f"one={some.model}",)))
    with pytest.raises(PlanMismatchError, match="model is "):
        embed(replace(some, model=(f"one={some.model}", f"two={some.model}")))


def write_small(path: Path) -> None:
    config = CLIPConfig(48, VisionConfig(32, 64, 1, 16), TextConfig(64, 1, 1, vocab_size=1000))
    weights.save(weights.random_weights(config, 5), path, variant="small")

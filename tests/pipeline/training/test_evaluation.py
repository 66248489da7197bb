"""The figures of an evaluation are what counting by hand gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.tokenizer import Tokenizer
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.training.evaluation import evaluate, recall
from fakes import Drawn, jpeg, write_tar
from PIL import Image
from torch import Tensor

CONFIG = CLIPConfig(4, VisionConfig(32, 64, 1, 16), TextConfig(64, 1, 1, vocab_size=4096, context_length=16))
COLOURS = ("red", "green", "blue")


class KnowsColours(CLIP):
    """A model whose embedding is a colour's share: of the pixels', or of the words'. Whoever names none is the fourth
    direction's."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        tokenizer = Tokenizer(CONFIG.text.vocab_size, CONFIG.text.context_length)
        self.ids = [int(tokenizer.encode([colour])[0][1]) for colour in COLOURS]

    def encode_image(self, image: Tensor) -> Tensor:
        shares = torch.relu(image.mean(dim=(2, 3)))
        return torch.cat([shares, 0.01 * torch.ones(len(image), 1)], dim=1)

    def encode_text(self, text: Tensor) -> Tensor:
        words = torch.stack([(text == ids).sum(dim=1) for ids in self.ids], dim=1).float()
        return torch.cat([words, 0.01 * torch.ones(len(text), 1)], dim=1)


def picture(path: Path, *rgb: int) -> bytes:
    file = path / "picture.png"
    Image.new("RGB", (20, 20), rgb).save(file)
    return file.read_bytes()


def shard(folder: Path, samples: list[tuple[bytes, str, dict[str, Any]]]) -> Shard:
    members = []
    for n, (image, caption, facts) in enumerate(samples):
        members += [(f"{n}.png", image), (f"{n}.txt", caption.encode()), (f"{n}.json", json.dumps(facts).encode())]
    return write_tar(folder / "0.tar", members)


@pytest.fixture
def coloured(tmp_path: Path) -> Shard:
    """Three pictures named right, one named wrong, one that tells no colour, and the first caption over again."""
    red, green, blue = picture(tmp_path, 250, 0, 0), picture(tmp_path, 0, 250, 0), picture(tmp_path, 0, 0, 250)
    purple = picture(tmp_path, 250, 0, 250)
    return shard(
        tmp_path,
        [
            (red, "a red wall", {"class": "red"}),
            (green, "a green wall", {"class": "green"}),
            (blue, "a blue wall", {"class": "blue"}),
            (purple, "red and blue", {"class": "green"}),  # no: it is not
            (green, "some wall", {"class": 7}),  # a class is a text
            (blue, "a red wall", {}),
        ],
    )


def test_figures_are_those_counted_by_hand(coloured: Shard) -> None:
    found = evaluate(KnowsColours(), [coloured], "class")
    assert found.pairs == 5  # distinct captions
    # "some wall" tells nothing; "a green wall" is as near to another green picture, and a tie does not count
    assert found.recall["text_to_image@1"] == pytest.approx(3 / 5)
    # both green pictures are nearest to "a green wall"
    assert found.recall["image_to_text@1"] == pytest.approx(4 / 5)
    assert found.recall["text_to_image@5"] == found.recall["image_to_text@5"] == 1.0
    assert (found.zero_shot, found.labelled, found.classes) == (3 / 4, 4, 3)


def test_without_a_label_there_is_no_zero_shot(coloured: Shard) -> None:
    found = evaluate(KnowsColours(), [coloured], None)
    assert (found.zero_shot, found.labelled, found.classes) == (None, 0, 0)
    assert found.recall == evaluate(KnowsColours(), [coloured], "class").recall


def test_only_the_first_pairs_count_where_a_limit_is_given(coloured: Shard) -> None:
    found = evaluate(KnowsColours(), [coloured], "class", most=3)
    assert (found.pairs, found.labelled, found.zero_shot) == (3, 3, 1.0)
    assert set(found.recall.values()) == {1.0}


def test_damaged_pairs_are_left_out(drawn: Drawn) -> None:
    found = evaluate(KnowsColours(), drawn.shards, "label")
    assert 90 < found.pairs <= 108
    assert found.zero_shot is not None and found.labelled < 108


def test_the_model_is_not_trained_on_the_way(coloured: Shard) -> None:
    model = KnowsColours()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, [coloured], "class")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_label_that_no_sample_has_is_one_clear_line(coloured: Shard) -> None:
    with pytest.raises(InputError, match=r"^no sample of the evaluation shards has a text under 'kind' in its json$"):
        evaluate(KnowsColours(), [coloured], "kind")


def test_fewer_than_two_pairs_are_no_evaluation(tmp_path: Path) -> None:
    alone = write_tar(tmp_path / "0.tar", [("0.jpg", jpeg()), ("0.txt", b"a"), ("1.jpg", jpeg()), ("2.txt", b"b")])
    with pytest.raises(InputError, match="fewer than two pairs with both image and caption"):
        evaluate(KnowsColours(), [alone], None)


def test_recall_counts_each_way_by_itself() -> None:
    images = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], dtype=np.float32)
    texts = np.array([[0.8, 0.6, 0], [0, 1, 0], [0, 0.6, 0.8]], dtype=np.float32)
    # images by texts:  [0.8, 0, 0], [0.96, 0.8, 0.48], [0, 0, 0.8]
    assert recall(images, texts, at=(1, 2)) == {
        "text_to_image@1": pytest.approx(2 / 3),  # the first text is nearer to the second image
        "text_to_image@2": 1.0,
        "image_to_text@1": pytest.approx(2 / 3),  # the second image is nearer to the first text
        "image_to_text@2": 1.0,
    }


def test_a_models_own_preprocessing_is_used(coloured: Shard) -> None:
    """Pixels that are normalised about white are below nought: all pictures look alike then."""
    model = KnowsColours()
    model.config = replace(CONFIG, preprocess=replace(CONFIG.preprocess, mean=(1.0, 1.0, 1.0)))
    assert evaluate(model, [coloured], None).recall["image_to_text@1"] < 0.5

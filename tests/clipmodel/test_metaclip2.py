"""MetaCLIP 2, a CLIP with the tokens of XLM-V: towers, logits and ids are those of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from clipmill.clipmodel.config import VARIANTS, TextConfig
from clipmill.clipmodel.vocabulary import PieceTokenizer, VocabularyFile
from clipmill.clipmodel.weights import load
from random_models import images, randomize
from vocabulary_kit import captions, xlm_v_file

TEXT = TextConfig(64, 2, 2, vocab_size=1003, context_length=77, vocabulary="xlm_v")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return xlm_v_file(tmp_path_factory.mktemp("xlm_v")).parent


def metaclip2() -> Any:
    import transformers

    common = {"num_hidden_layers": 2, "hidden_act": "gelu"}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "vocab_size": TEXT.vocab_size}
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "image_size": 48, "patch_size": 8}
    settings = transformers.MetaClip2Config(
        projection_dim=48, text_config=common | text | ids, vision_config=common | vision
    )
    built = transformers.MetaClip2Model(settings).eval()
    randomize(built)
    return built


@torch.inference_mode()
def test_a_folder_of_transformers_gives_its_embeddings(folder: Path) -> None:
    theirs = metaclip2()
    theirs.save_pretrained(folder)
    loaded = load(str(folder))
    assert (loaded.model.config.text.vocabulary, loaded.model.config.activation) == ("xlm_v", "gelu")
    pixels, tokens = images(loaded.model.config), loaded.tokenizer(["a photo of a cat", "two dogs on a red chair"])
    expected = theirs(input_ids=tokens, pixel_values=pixels)
    assert (loaded.model(pixels, tokens)[0] - expected.logits_per_image).abs().max() < 1e-4
    text = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    assert text.std() > 0.05 and (text[0] - text[1]).norm() > 0.05 * text[0].norm()
    for length in (77, int((tokens == 2).int().argmax(dim=1).max()) + 1):  # what follows [EOS] changes nothing
        assert (loaded.model.encode_text(tokens[:, :length]) - text).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["random", "hard"])
def test_real_captions_get_transformers_ids(name: str, folder: Path) -> None:
    from transformers import XLMRobertaTokenizer

    theirs: Any = XLMRobertaTokenizer(tokenizer_file=str(folder / "tokenizer.json"))
    ours, texts = PieceTokenizer(TEXT, VocabularyFile.beside(folder)), captions(name)
    rows = ours(texts)
    assert rows.tolist() == theirs(texts, padding="max_length", max_length=77, truncation=True)["input_ids"]
    assert len(rows.unique()) > 300


def test_the_worldwide_variants_differ_from_the_english_ones_in_the_text_towers_tokens() -> None:
    assert VARIANTS["ViT-H-14-worldwide"].vision == VARIANTS["ViT-H-14"].vision
    assert VARIANTS["ViT-H-14-worldwide"].text.vocab_size == 901629

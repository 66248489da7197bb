"""Tokenizers' files of the kinds that are published with models, trained on a few captions."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"


def captions(name: str = "random") -> list[str]:
    lines = (DATA / f"captions_{name}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


@cache
def _gemma_parts() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-pair vocabulary with bytes to fall back on, as Gemma's: ids and merges."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text.lower()[:200] for text in captions()[:1000]], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(first, second) for first, second in model["merges"]]


def gemma_file(folder: Path) -> Path:
    """transformers' tokenizer of SigLIP 2, as it saves it."""
    from transformers import Siglip2Tokenizer

    vocabulary, merges = _gemma_parts()
    Siglip2Tokenizer(vocab=dict(vocabulary), merges=list(merges), add_eos_token=True).save_pretrained(folder)
    for other in (*folder.glob("tokenizer_config.json"), *folder.glob("special_tokens_map.json")):
        other.unlink()
    return folder / "tokenizer.json"


def xlm_v_file(folder: Path) -> Path:
    """transformers' tokenizer of MetaCLIP 2, as it saves it: pieces with probabilities, and the ids of XLM-R's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import XLMRobertaTokenizer

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=1000, special_tokens=special, unk_token="<unk>", show_progress=False, n_sub_iterations=1
    )
    tokenizer.train_from_iterator([text[:200] for text in captions()[:500]], trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    XLMRobertaTokenizer(vocab=[(piece, score) for piece, score in pieces]).save_pretrained(folder)
    for other in (*folder.glob("tokenizer_config.json"), *folder.glob("special_tokens_map.json")):
        other.unlink()
    return folder / "tokenizer.json"


def sentencepiece_file(folder: Path) -> Path:
    """A SentencePiece model with the ids that SigLIP's has: </s> and padding 1, <unk> 2."""
    import sentencepiece

    prefix = folder / "spiece"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions()[:2000]),
        model_prefix=str(prefix),
        vocab_size=1500,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")

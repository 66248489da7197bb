"""How the shipped `tiny` model is made and measured: `make tiny`.

Everything that decides the outcome is in `RECIPE`; the scenes are `drawn`, the trainer is the one of `clipmill train`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..clipmodel import metrics, weights
from ..clipmodel.templates import TEMPLATES
from ..clipmodel.weights import Loaded
from ..clipmodel.zeroshot import classifier
from ..pipeline.embedding.encoder import ClipEncoder, Vectors
from ..pipeline.job.train import TrainJob
from ..pipeline.training.evaluation import recall
from ..pipeline.training.train import train
from .drawn.pairs import Pair, PairSpec, pair_of, scene_of
from .drawn.scenes import CLASSES, HELD_OUT
from .drawn.shards import DrawnSpec, write_shards
from .showing.training import training_bar

ASSET = Path(__file__).parent.parent / "clipmodel" / "assets" / "tiny.safetensors"
QUERIES = 200  # captions that retrieval chooses among


@dataclass(frozen=True)
class Recipe:
    pairs: int = 100_000  # drawn, and seen about four times
    steps: int = 1600
    batch_size: int = 256
    learning_rate: float = 1.5e-3
    warmup_steps: int = 200
    seed: int = 1


RECIPE = Recipe()


@dataclass(frozen=True)
class Figures:
    """On scenes that training never showed, all of series that it did not use. Shares, from 0 to 1."""

    zero_shot_top1: float  # one thing; 144 colour-shape classes
    recall_at_1_text_to_image: float  # one or two things; among 200 distinct captions
    recall_at_1_image_to_text: float
    right_caption_auc: float  # similarity of the own caption against that of a scene without a thing in common
    held_out_top1: float  # the 12 colour-shape pairs that training never showed nor named; 144 classes
    held_out_colour: float  # of these, how often the colour is right,
    held_out_shape: float  # and the shape
    held_out_recall_at_1_text_to_image: float
    held_out_recall_at_1_image_to_text: float


def measure(model: Loaded, images: int = 2000, draws: int = 5, seed: int = 1000) -> Figures:
    """images: scenes for zero-shot and for the AUC, each. draws: sets of 200 captions that recall is the mean of."""
    seen, held_out = (_zero_shot(model, PairSpec(seed + k, held_out=bool(k)), images) for k in range(2))
    known = _retrieval(model, PairSpec(seed + 2, full_captions=1.0), draws)
    held = _retrieval(model, PairSpec(seed + 3, held_out=True, full_captions=1.0), draws)
    return Figures(
        zero_shot_top1=seen[0],
        recall_at_1_text_to_image=known["text_to_image@1"],
        recall_at_1_image_to_text=known["image_to_text@1"],
        right_caption_auc=_auc(model, PairSpec(seed + 4), images),
        held_out_top1=held_out[0],
        held_out_colour=held_out[1],
        held_out_shape=held_out[2],
        held_out_recall_at_1_text_to_image=held["text_to_image@1"],
        held_out_recall_at_1_image_to_text=held["image_to_text@1"],
    )


def _images(model: Loaded, pairs: list[Pair]) -> Vectors:
    return ClipEncoder(model.model).encode([model.preprocess(pair.image) for pair in pairs], [])[0]


def _texts(model: Loaded, captions: list[str]) -> Vectors:
    return ClipEncoder(model.model).encode([], model.tokenizer.encode(captions))[1]


def _zero_shot(model: Loaded, spec: PairSpec, count: int) -> tuple[float, float, float]:
    """How often the class, its colour and its shape are right, over scenes of one thing."""
    indices = [i for i in range(3 * count) if len(scene_of(spec, i)[0].things) == 1][:count]
    pairs = [pair_of(spec, i) for i in indices]
    names = [f"{colour} {shape}" for colour, shape in CLASSES]
    vectors = classifier(model.model, model.tokenizer, names, TEMPLATES["drawing"]).numpy()
    guesses = [CLASSES[k] for k in (_images(model, pairs) @ vectors.T).argmax(axis=1)]
    truths = [pair.scene.things[0].pair for pair in pairs]
    both = zip(guesses, truths, strict=True)
    right = np.array([(g == t, g[0] == t[0], g[1] == t[1]) for g, t in both]).mean(axis=0)
    return float(right[0]), float(right[1]), float(right[2])


def _retrieval(model: Loaded, spec: PairSpec, draws: int) -> dict[str, float]:
    """Recall among 200 pairs of distinct captions that mention everything; the mean over so many draws."""
    recalls, index = [], 0
    for _ in range(draws):
        chosen: dict[str, Pair] = {}
        while len(chosen) < QUERIES:
            pair = pair_of(spec, index)
            chosen.setdefault(pair.caption, pair)
            index += 1
        recalls.append(recall(_images(model, list(chosen.values())), _texts(model, list(chosen))))
    return {name: float(np.mean([shares[name] for shares in recalls])) for name in recalls[0]}


def _auc(model: Loaded, spec: PairSpec, count: int) -> float:
    """Captions in varied wording, as the demo's are."""
    pairs = [pair_of(spec, i) for i in range(count)]
    wrong = []
    for index, pair in enumerate(pairs):
        own = {thing.label for thing in pair.scene.things}
        others = (pairs[(index + step) % count] for step in range(1, count))
        wrong.append(next(o.caption for o in others if own.isdisjoint(t.label for t in o.scene.things)))
    images = _images(model, pairs)
    right_scores = (images * _texts(model, [pair.caption for pair in pairs])).sum(axis=1)
    wrong_scores = (images * _texts(model, wrong)).sum(axis=1)
    return metrics.roc_auc(right_scores, wrong_scores)


def main(work: Path = Path("tiny-work")) -> None:
    """Draw, train (resuming where it was cut off), measure, and put the weights where clipmill ships them from."""
    spec = DrawnSpec(RECIPE.pairs, RECIPE.pairs // 1000, PairSpec(RECIPE.seed))
    if len(list(work.glob("shards/*.tar"))) < spec.shards:
        print(f"drawing {RECIPE.pairs:,} scenes")
        write_shards(spec, work / "shards", processes=os.cpu_count() or 1)
    weights_file = work / "tiny.safetensors"
    if not weights_file.exists():
        job = TrainJob(
            [str(work / "shards")],
            str(weights_file),
            "tiny",
            steps=RECIPE.steps,
            batch_size=RECIPE.batch_size,
            learning_rate=RECIPE.learning_rate,
            warmup=RECIPE.warmup_steps,
            precision="bf16",
            checkpoint_every=100,
            seed=RECIPE.seed,
        )
        with training_bar(job.steps) as bar:
            train(job, bar)
    ship(weights_file)


def ship(weights_file: Path) -> None:
    """Halve the weights, measure what is left, and write both beside the code."""
    model = weights.load(f"tiny={weights_file}").model
    provenance = "trained by clipmill on drawn scenes; it knows those and nothing else"
    weights.save(model, ASSET, variant="tiny", dtype=torch.float16, about=provenance, recipe=json.dumps(asdict(RECIPE)))
    figures = measure(weights.load(f"tiny={ASSET}"))
    facts = {"about": provenance, "recipe": asdict(RECIPE), "held_out": [" ".join(pair) for pair in HELD_OUT]}
    rounded = {name: round(share, 4) for name, share in asdict(figures).items()}
    ASSET.with_suffix(".json").write_text(json.dumps({**facts, "figures": rounded}, indent=2) + "\n")
    for name, share in rounded.items():
        print(f"{name.replace('_', ' '):<38} {share:.1%}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

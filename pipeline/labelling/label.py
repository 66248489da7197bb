"""Zero-shot labels for a dataset's images, from their embeddings: no image is read again."""

from __future__ import annotations

import io
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ...clipmodel.download import Progress
from ...clipmodel.zeroshot import class_vectors
from ..dataset.dataset import Dataset
from ..dataset.derived import begin
from ..dataset.output import OWN, Output
from ..dataset.subset import Subset
from ..embedding.dataset_model import load_model
from ..errors import InputError
from ..job.label import LabelJob
from ..running.scatter import scatter
from ..running.stages import OnStage, Stage, counted
from .classes import Classes, read_classes, read_templates
from .part import Classifier, LabelCounts, LabelPart
from .truth import Accuracy, ConfusePart, Confusion, accuracy_of, check_truth

CLASSIFIER = f"{OWN}/classifier.npz"
_TOP = 5  # of accuracy


@dataclass(frozen=True)
class LabelSummary:
    """What `label` returns."""

    out: str
    dataset: str
    classes: int
    prompts: int
    parts: int
    parts_done_before: int
    counts: LabelCounts
    seconds: float
    accuracy: Accuracy | None = None  # where the truth is known

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def label(
    job: LabelJob, on_stage: OnStage = lambda _: None, on_download: Progress | None = None, device: str | None = None
) -> LabelSummary:
    """One file of labels for each part of a dataset; run again to resume, or when the dataset has grown.

    The classes become vectors by the dataset's own model, once (kept in OUT/_clipmill). device: where that happens;
    a GPU if there is one. UserError for what is wrong with the request, PlanMismatchError for other weights than the
    dataset's, or where OUT was begun otherwise.
    """
    began = time.monotonic()
    asked = _Asked.of(job)
    dataset, output = asked.dataset, asked.output
    begin(output, "label", asked.settings)
    work = LabelPart(
        dataset=dataset,
        output=output,
        image_column=f"{dataset.model(job.alias).prefix}image_embedding",
        classes=asked.classes,
        classifier=_kept_classifier(output) or _classifier(asked, on_stage, on_download, device),
        top_k=job.top_k,
        threshold=job.threshold,
        within=asked.within,
        done=frozenset(output.parts()),
    )
    counts, fresh = LabelCounts(), 0
    spread = scatter(work, dataset.parts, job.address)
    for _, (found, is_new) in counted(spread, "labelling", "parts", len(dataset.parts), on_stage):
        counts, fresh = counts + found, fresh + is_new
    return LabelSummary(
        out=output.url,
        dataset=dataset.url,
        classes=len(asked.classes.every),
        prompts=asked.prompts,
        parts=len(dataset.parts),
        parts_done_before=len(dataset.parts) - fresh,
        counts=counts,
        accuracy=_accuracy(asked, on_stage),
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Asked:
    """A job and what its names stand for."""

    job: LabelJob
    dataset: Dataset
    output: Output
    classes: Classes
    templates: tuple[str, ...]
    within: Subset | None

    @classmethod
    def of(cls, job: LabelJob) -> _Asked:
        job.check()
        dataset = Dataset.open(job.dataset, job.storage_options)
        dataset.model(job.alias)  # which says what is wrong with it
        if "images" not in dataset.settings.embeds:
            raise InputError(f"{dataset.url}: has no embeddings of images, which labels are made of")
        classes = read_classes(job.classes, job.storage_options)
        templates = read_templates(job.templates, job.storage_options)
        if job.truth is not None:
            check_truth(dataset, job.truth)
        within = Subset.within(job.within, dataset)
        return cls(job, dataset, Output.at(job.out, job.storage_options).prepare(), classes, templates, within)

    @property
    def prompts(self) -> int:
        return sum(len(each.prompts or self.templates) for each in self.classes.every)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the labels depend on."""
        return {
            "dataset": self.dataset.url,
            "fingerprint": self.dataset.settings.digest,
            "model": self.dataset.model(self.job.alias).alias,
            "classes": f"{len(self.classes.every)} of sha256 {self.classes.digest[:16]}",
            "templates": list(self.templates),
            "top-k": self.job.top_k,
            "threshold": self.job.threshold,
            "within": self.within.output.url if self.within else None,
        }


def _kept_classifier(output: Output) -> Classifier | None:
    content = output.read(CLASSIFIER)
    if content is None:
        return None
    kept = np.load(io.BytesIO(content))
    return Classifier(kept["vectors"], float(kept["scale"]))


def _classifier(asked: _Asked, on_stage: OnStage, on_download: Progress | None, device: str | None) -> Classifier:
    """Made, and kept: with a thousand classes and eighty templates each it takes the longest of all."""
    loaded = load_model(asked.dataset, asked.job.alias, asked.job.model, on_download)
    model = loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def told(done: int) -> None:
        on_stage(Stage("reading classes", "prompts", done, asked.prompts))

    told(0)
    prompts, count = asked.classes.prompts(asked.templates), len(asked.classes.every)
    vectors = class_vectors(model, loaded.tokenizer, prompts, count, on_prompts=told).numpy()
    made = Classifier(vectors, float(model.logit_scale))
    file = io.BytesIO()
    np.savez(file, vectors=made.vectors, scale=np.float64(made.scale))
    asked.output.write(CLASSIFIER, file.getvalue())
    return made


def _accuracy(asked: _Asked, on_stage: OnStage) -> Accuracy | None:
    job, dataset, classes = asked.job, asked.dataset, asked.classes
    if job.truth is None:
        return None
    k = min(_TOP, job.top_k, len(classes.every))
    confusion = Confusion()
    spread = scatter(ConfusePart(dataset, asked.output, classes, job.truth, k), dataset.parts, job.address)
    for _, found in counted(spread, "comparing", "parts", len(dataset.parts), on_stage):
        confusion.add(found)
    return accuracy_of(confusion, classes, job.truth, k)

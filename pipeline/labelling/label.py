"""Zero-shot labels for a dataset's images, from their embeddings: no image is read again."""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ...clipmodel.download import Progress
from ...clipmodel.zeroshot import class_vectors
from ..dataset.dataset import Dataset
from ..dataset.derived import begin
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.subset import Subset
from ..embedding.dataset_model import load_model
from ..errors import InputError
from ..job.label import LabelJob
from ..job.readable import Result
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, Stage, counted
from .classes import Classes, read_classes, read_templates
from .part import Classifier, LabelCounts, LabelPart
from .truth import Accuracy, ConfusePart, Confusion, accuracy_of, check_truth

CLASSIFIER = f"{OWN}/classifier.npz"
SUMMARY = f"{OWN}/summary.json"
# What is compared with the classes where nothing else is named: an image that one of these fits better shows something
# that no class describes.
BACKGROUND = ("thing", "object", "shape", "picture", "scene", "something", "something else")
_TOP = 5  # of accuracy


@dataclass(frozen=True)
class LabelSummary(Result):
    """What `label` returns."""

    out: str
    dataset: str
    classes: int
    prompts: int
    parts: int
    parts_done_before: int
    counts: LabelCounts
    background: tuple[str, ...]  # the names that the classes were compared with
    seconds: float
    accuracy: Accuracy | None = None  # where the truth is known

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def label(
    job: LabelJob, on_stage: OnStage = notebook.stages, on_download: Progress | None = None, device: str | None = None
) -> LabelSummary:
    """Writes a file of labels for each part of a dataset; run again to resume, or when the dataset has grown.

    The dataset's own model turns the classes into vectors, once; they are kept in OUT/.clipmill. device: where the
    model runs, by default a GPU if there is one. UserError for a wrong request, PlanMismatchError for weights other
    than the dataset's, or where OUT was begun with other settings.
    """
    began = time.monotonic()
    request = _Request.of(job)
    dataset, output = request.dataset, request.output
    begin(output, "label", request.settings, job.overwrite)
    work = LabelPart(
        dataset=dataset,
        output=output,
        image_column=f"{dataset.model(job.alias).prefix}image_embedding",
        classes=request.classes,
        classifier=_kept_classifier(output) or _classifier(request, on_stage, on_download, device),
        top_k=job.top_k,
        threshold=job.threshold,
        background_is_none=bool(job.background),
        within=request.within,
        done=frozenset(output.parts()),
    )
    counts, fresh = LabelCounts(), 0
    spread = scatter(work, dataset.parts, job.address)
    for _, (part_counts, is_new) in counted(spread, "labelling", "parts", len(dataset.parts), on_stage):
        counts, fresh = counts + part_counts, fresh + is_new
    summary = LabelSummary(
        out=output.url,
        dataset=dataset.url,
        classes=len(request.classes.every),
        prompts=request.prompts,
        parts=len(dataset.parts),
        parts_done_before=len(dataset.parts) - fresh,
        counts=counts,
        background=request.background,
        accuracy=_accuracy(request, on_stage),
        seconds=time.monotonic() - began,
    )
    output.write(SUMMARY, json.dumps(summary.as_json(), indent=2).encode())
    return summary


@dataclass(frozen=True)
class _Request:
    """A job, with the dataset, the classes and the rest that it names opened and checked."""

    job: LabelJob
    dataset: Dataset
    output: Output
    classes: Classes
    templates: tuple[str, ...]
    within: Subset | None

    @classmethod
    def of(cls, job: LabelJob) -> _Request:
        job.check()
        dataset = Dataset.open(job.dataset, job.storage_options)
        dataset.model(job.alias)  # raises for an unknown alias
        if "images" not in dataset.settings.embeds:
            raise InputError(
                f"{dataset.url} has no embeddings of images, which labels are made from; run `clipmill embed` with "
                "images, into another folder"
            )
        classes = read_classes(job.classes, job.storage_options)
        templates = read_templates(job.templates, job.storage_options)
        if job.truth is not None:
            check_truth(dataset, job.truth)
        within = Subset.within(job.within, dataset)
        return cls(job, dataset, Output.at(job.out, job.storage_options).prepare(), classes, templates, within)

    @property
    def prompts(self) -> int:
        return sum(len(label_class.prompts or self.templates) for label_class in self.classes.every)

    @property
    def background(self) -> tuple[str, ...]:
        return tuple(self.job.background) or BACKGROUND

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
            "background": list(self.job.background),
            "within": self.within.output.url if self.within else None,
        }


def _kept_classifier(output: Output) -> Classifier | None:
    content = output.read(CLASSIFIER)
    if content is None:
        return None
    arrays = np.load(io.BytesIO(content))
    return Classifier(arrays["vectors"], arrays["background"], float(arrays["scale"]))


def _classifier(request: _Request, on_stage: OnStage, on_download: Progress | None, device: str | None) -> Classifier:
    """Made and kept: with a thousand classes and eighty templates each, this takes longer than labelling does."""
    loaded = load_model(request.dataset, request.job.alias, request.job.model, on_download)
    model = loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def show(done: int) -> None:
        on_stage(Stage("reading classes", "prompts", done, request.prompts))

    show(0)
    prompts, count = request.classes.prompts(request.templates), len(request.classes.every)
    vectors = class_vectors(model, loaded.tokenizer, prompts, count, on_prompts=show).numpy()
    names = [[template.replace("{}", name) for template in request.templates] for name in request.background]
    background = class_vectors(model, loaded.tokenizer, names, len(names)).numpy()
    classifier = Classifier(vectors, background, float(model.logit_scale))
    file = io.BytesIO()
    np.savez(file, vectors=vectors, background=background, scale=np.float64(classifier.scale))
    request.output.write(CLASSIFIER, file.getvalue())
    return classifier


def _accuracy(request: _Request, on_stage: OnStage) -> Accuracy | None:
    job, dataset, classes = request.job, request.dataset, request.classes
    if job.truth is None:
        return None
    k = min(_TOP, job.top_k, len(classes.every))
    confusion = Confusion()
    spread = scatter(ConfusePart(dataset, request.output, classes, job.truth, k), dataset.parts, job.address)
    for _, part_confusion in counted(spread, "comparing", "parts", len(dataset.parts), on_stage):
        confusion.add(part_confusion)
    return accuracy_of(confusion, classes, job.truth, k)

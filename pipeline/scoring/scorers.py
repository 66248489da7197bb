"""What a job names, as scorers: downloaded, verified, read, and checked against the dataset's model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import torch

from ...clipmodel.checkpoint import read_tensors
from ...clipmodel.download import Progress, cache_folder, fetch, sha256_of
from ...clipmodel.zeroshot import class_vectors
from ..dataset.dataset import Dataset, DatasetModel
from ..embedding.dataset_model import load_model
from ..embedding.model_files import fetched
from ..errors import ModelError, UserError
from ..job.score import TAKEN, ScoreJob
from .head import Head, Layer
from .head_files import HeadTensors, head_tensors
from .inputs import Inputs
from .onnx_head import OnnxHead, WrongWidth
from .own_function import OwnFunction
from .presets import PRESETS, Preset, Weights, parse_weights, preset_of

_BETWEEN, _LAST = "relu", "none"  # where neither a preset nor --activation says it


@dataclass(frozen=True)
class Scorer:
    """A head or a function, and its columns. Cheap to send to workers."""

    name: str  # its column, or MODULE:FUNCTION
    source: str  # the file or module, in public words
    sha256: str  # of it
    layout: str  # what happens to an embedding, in words
    types: Mapping[str, pa.DataType]  # of its columns
    function: Head | OnnxHead | OwnFunction

    def __call__(self, inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """float32 [n, dim], L2-normalised, or for a function perhaps images (inputs.py) -> columns of n values."""
        values = self.function(inputs)
        return values if isinstance(values, dict) else dict(zip(self.types, values.T, strict=True))

    @property
    def identity(self) -> str:
        """All that its scores depend on besides the embeddings."""
        return f"{self.source} of sha256 {self.sha256[:16]}, {self.layout}"


def scorers_of(job: ScoreJob, dataset: Dataset, inputs: Inputs, progress: Progress | None = None) -> tuple[Scorer, ...]:
    """All of a job's. ModelError for a head that cannot be read or is of another model, UserError where two give a
    column of the same name."""
    model = dataset.model(job.alias)
    layers = job.layers
    scorers = [_Request(job, dataset, model, name, layers.get(name)).scorer(progress) for name in job.weights]
    scorers += _of_prompts(job, dataset, progress)
    scorers += [_own(name, inputs) for name in job.functions]
    owners: dict[str, str] = dict.fromkeys(TAKEN, "the dataset")
    for scorer in scorers:
        for column in scorer.types:
            if column in owners:
                raise UserError(
                    f"two columns are called {column}, of {owners[column]} and of {scorer.name}; rename one"
                )
            owners[column] = scorer.name
    return tuple(scorers)


def _of_prompts(job: ScoreJob, dataset: Dataset, progress: Progress | None) -> list[Scorer]:
    """A scorer for each name: a layer whose weights are the normalised mean of its texts' embeddings."""
    texts = job.texts
    if not texts:
        return []
    loaded = load_model(dataset, job.alias, job.model, progress)
    model = loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
    vectors = class_vectors(model, loaded.tokenizer, texts.values(), len(texts))
    scorers = []
    for (name, own), vector in zip(texts.items(), vectors, strict=True):
        head = Head.of([Layer(vector[None], torch.zeros(1), "none")])
        sha256 = hashlib.sha256(json.dumps(own).encode()).hexdigest()
        source = f"{own[0]!r}" + (f" and {len(own) - 1:,} more" if len(own) > 1 else "")
        scorers.append(
            Scorer(name, source, sha256, "their cosine" if len(own) > 1 else "its cosine", {name: pa.float32()}, head)
        )
    return scorers


def _own(name: str, inputs: Inputs) -> Scorer:
    function = OwnFunction.of(name, inputs.trial)
    return Scorer(name, name, function.sha256, ", ".join(function.types), function.types, function)


@dataclass(frozen=True)
class _Request:
    """A head that a job names. layers: what is between them and after the last, where that is given."""

    job: ScoreJob
    dataset: Dataset
    model: DatasetModel
    name: str
    layers: tuple[str, str] | None

    @property
    def option(self) -> str:
        return f"--head {self.name}={self.job.weights[self.name]}"

    def scorer(self, progress: Progress | None) -> Scorer:
        try:
            weights = parse_weights(self.job.weights[self.name])
            if weights.preset:
                self._check_model(weights.preset)
            path = self._file(weights, progress)
            sha256 = _sha256(path)
            head, layout = self._onnx(path) if _is_onnx(path) else self._of_tensors(path, weights.preset)
        except WrongWidth as error:
            raise ModelError(f"{self.option}: {self._other_width(error.width)}") from error
        except ModelError as error:
            raise ModelError(f"{self.option}: {error}") from error
        outputs = len(head.layers[-1].bias) if isinstance(head, Head) else head.outputs
        columns = [self.name] if outputs == 1 else [f"{self.name}_{number}" for number in range(outputs)]
        source = f"{weights.preset} ({path.name})" if weights.preset else path.name
        return Scorer(self.name, source, sha256, layout, dict.fromkeys(columns, pa.float32()), head)

    def _check_model(self, name: str) -> None:
        preset = PRESETS[name]
        if self.model.weights_sha256 != preset.model_sha256:
            raise ModelError(
                f"it reads embeddings of {preset.variant} ({preset.weights}), but {self.dataset.url} was made with "
                f"{self.model.variant} ({self.model.weights}): its scores would mean nothing; if these are the same "
                f"weights in another file, name the head's file alone: --head {self.name}=FILE"
            )

    def _file(self, weights: Weights, progress: Progress | None) -> Path:
        if weights.file is None:
            assert weights.preset
            return _downloaded(f"{self.name}={weights.preset}", PRESETS[weights.preset], progress)
        if "://" in weights.file:
            return fetched(weights.file, self.job.storage_options)
        return Path(weights.file).expanduser()

    def _onnx(self, path: Path) -> tuple[OnnxHead, str]:
        if self.layers:
            raise ModelError(f"an ONNX graph says itself what is between its layers: drop --activation {self.name}=…")
        try:
            graph = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror or error}") from error
        return OnnxHead.of(graph, self.model.dim), "as its graph says"

    def _of_tensors(self, path: Path, name: str | None) -> tuple[Head, str]:
        tensors = head_tensors(read_tensors(path))
        if tensors.widths[0] != self.model.dim:
            raise WrongWidth(tensors.widths[0])
        if name and (PRESETS[name].layers, PRESETS[name].widths) != (tensors.names, tensors.widths):
            raise ModelError(f"{path}: its layers are {_widths(tensors)}, not those of {name}; name the file alone")
        preset = PRESETS.get(name or preset_of(tensors.names, tensors.widths) or "")
        usual = (preset.between, preset.last) if preset else (_BETWEEN, _LAST)
        between, last = self.layers or usual
        if len(tensors.weights) == 1:
            between = "none"
        return tensors.head(between, last), _layout(tensors, between, last)

    def _other_width(self, width: int) -> str:
        return (
            f"it reads embeddings of {width:,} numbers, but {self.dataset.url}, made with {self.model.variant}, has "
            f"{self.model.dim:,}: take a head for that model"
        )


def _layout(tensors: HeadTensors, between: str, last: str) -> str:
    normalised = ["normalised"] if tensors.shift is not None else []
    inner = [f"{between} between"] if len(tensors.weights) > 1 else []
    after = [f"{last} at the end"] if last != "none" else []
    return ", ".join([*normalised, _widths(tensors), *inner, *after])


def _widths(tensors: HeadTensors) -> str:
    return "-".join(map(str, tensors.widths))


def _downloaded(name: str, preset: Preset, progress: Progress | None) -> Path:
    target = cache_folder() / "heads" / preset.file
    path = fetch(preset.url, target, preset.sha256, progress, name=name, option="--head")
    if preset.sha256 and (sha256 := sha256_of([path])) != preset.sha256:
        raise ModelError(f"{path} has sha256 {sha256}, not {preset.sha256}: delete it and try again")
    return path


def _sha256(path: Path) -> str:
    try:
        return sha256_of([path])
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


def _is_onnx(path: Path) -> bool:
    return path.suffix == ".onnx"

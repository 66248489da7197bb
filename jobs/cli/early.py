"""What is refused before a command imports what it works with: torch, Ray and DuckDB take seconds.

A job's fields are checked by their names. Whatever passes here is checked again by the step itself: what lies in object
storage is left to it where asking twice would cost, and so is a pipe, which can be read only once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...clipmodel.config import variant
from ...clipmodel.spec import check_spec, parse_spec
from ...pipeline.dataset.columns import columns_besides
from ...pipeline.dataset.dataset import Dataset, begun_at
from ...pipeline.dataset.derived import begun
from ...pipeline.dataset.labels import Labels
from ...pipeline.dataset.output import Output
from ...pipeline.dataset.subset import Subset
from ...pipeline.errors import InputError, ModelError, OutputError
from ...pipeline.inputs.listing import list_shards
from ...pipeline.job.fields import writes_a_file
from ...pipeline.job.train import TrainJob
from ...pipeline.labelling.classes import read_classes, read_templates
from ...pipeline.scoring.presets import parse_weights
from ...pipeline.storage.reach import check_reachable
from ...pipeline.storage.streams import is_stream
from ...pipeline.storage.urls import is_web, scheme_of


def check_early(job: Any) -> None:
    """UserError for values that no run could use, and for names and paths of what is not there."""
    job.check()
    for url in _servers(job):
        check_reachable(url, job.storage_options)
    for name, check in _CHECKS.items():
        if value := getattr(job, name, None):
            check(job, value)


def _servers(job: Any) -> list[str]:
    """One URL for each server, or kind of store, that the job names."""
    named = [value for name in ("out", *_CHECKS) if (value := getattr(job, name, None)) is not None]
    named = [value.values() if isinstance(value, Mapping) else value for value in named]
    urls = [url for value in named for url in ([value] if isinstance(value, str) else value) if isinstance(url, str)]
    remote = [url.removeprefix("@") for url in urls if "://" in url]
    by_server = {(scheme_of(url), url.split("/")[2] if is_web(url) else ""): url for url in remote}
    return [url for (scheme, _), url in by_server.items() if scheme != "memory"]


def _check_dataset(job: Any, named: str | Sequence[str]) -> None:
    for url in [named] if isinstance(named, str) else named:
        begun_at(url, job.storage_options)


def _check_source(job: Any, url: str) -> None:
    if begun(Output.at(url, job.storage_options)) is None:  # no subset
        begun_at(url, job.storage_options)


def _check_subset(job: Any, url: str) -> None:
    Subset.open(url, job.storage_options)


def _check_labels(job: Any, url: str) -> None:
    Labels.open(url, Dataset.open(job.dataset, job.storage_options))


def _check_joins(job: Any, joins: Mapping[str, str]) -> None:
    Dataset.open(_dataset_of(job), job.storage_options).join(joins)


def _dataset_of(job: Any) -> str:
    """The URL; of new shards, the dataset may be that of the subset they are made of."""
    if not hasattr(job, "source"):
        return str(job.dataset)
    is_subset = begun(Output.at(job.source, job.storage_options)) is not None
    return Subset.open(job.source, job.storage_options).source if is_subset else str(job.source)


def _check_index(job: Any, url: str) -> None:
    started = begun(Output.at(url, job.storage_options))
    if started is None or started[0] != "index":
        raise InputError(f"{url} is not a clipmill index: name the folder given to `clipmill index --out`")


def _check_alias(job: Any, alias: str) -> None:
    Dataset.open(job.dataset, job.storage_options).model(alias)


def _check_models(job: Any, named: str | Sequence[str]) -> None:
    if isinstance(job, TrainJob):  # has a variant and no weights yet
        variant(job.model)
        return
    specs = [model.spec for model in job.models] if hasattr(job, "models") else [str(named)]
    for spec in specs:
        check_spec(spec)
        path = None if "://" in spec else parse_spec(spec).path
        if path is not None and not Path(path).expanduser().exists():
            raise ModelError(f"{path}: no such file or folder")


def _check_inputs(job: Any, inputs: str | Sequence[str]) -> None:
    named = [inputs] if isinstance(inputs, str) else inputs
    lists = {name for name in named if name.startswith("@") and Path(name[1:]).exists()}  # may name what is elsewhere
    if here := [name for name in named if _is_here(name) and name not in lists and not is_stream(name)]:
        list_shards(here)


def _check_file(_: Any, path: str | Sequence[str]) -> None:
    for name in [path] if isinstance(path, str) else path:
        if _is_here(name) and not set(name) & set("*?[{@") and not Path(name).exists():
            raise InputError(f"{name}: no such file or folder; check its spelling")


def _check_out(job: Any, url: str) -> None:
    if not _is_here(url):
        return
    folders = [Path(url).absolute(), *Path(url).absolute().parents]
    nearest = next(folder for folder in folders if folder.exists())
    if writes_a_file(type(job)):
        if isinstance(job, TrainJob) and nearest not in folders[:2]:
            raise OutputError(f"{folders[1]}: no such folder to write the weights to")
    elif not nearest.is_dir():
        Output.at(url).prepare()  # refuses it, and makes nothing
    else:
        Output.at(url).refuse_earlier()


def _is_here(name: str) -> bool:
    return "://" not in name


_CHECKS: dict[str, Callable[[Any, Any], object]] = {
    "dataset": _check_dataset,
    "source": _check_source,
    "within": _check_subset,
    "duplicates": _check_subset,
    "labels": _check_labels,
    "joins": _check_joins,
    "index": _check_index,
    "alias": _check_alias,
    "inputs": _check_inputs,
    "evaluate": _check_inputs,
    "urls": _check_file,
    "image": _check_file,
    "classes": lambda job, path: is_stream(path) or read_classes(path, job.storage_options),
    "templates": lambda job, name: is_stream(name) or read_templates(name, job.storage_options),
    "heads": lambda job, _: [parse_weights(weights) for weights in job.weights.values()],
    "columns": lambda job, names: columns_besides(names) if hasattr(job, "inputs") else None,
    "model": _check_models,
    "out": _check_out,
}

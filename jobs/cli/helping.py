"""Help that can be read: options by what they are about, commands in whole sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer.core

_FEW = 16  # options that are found without headings

# Options of one name are about the same thing, whatever the command.
_HEADINGS: dict[str, tuple[str, ...]] = {
    "Input": (
        "images", "texts", "image_keys", "caption_keys", "allow_half_pairs", "within", "labels", "joins", "url_column",
        "caption_column", "sha256_column",
    ),
    "Output": ("out", "columns", "embedding_type", "uids", "samples_per_shard", "overwrite", "checkpoint_every"),
    "Model": ("model", "precision", "decode", "fast_decode", "exif", "batch_size"),
    "Conditions": ("where", "top_fraction", "threshold", "by", "failed", "count"),
    "Recipes": ("recipe", "language_detector", "vocabulary", "reference", "cells"),
    "Pictures": (
        "image_size", "resize_mode", "only_if_bigger", "encode_quality", "min_image_size", "max_aspect_ratio",
    ),
    "Downloads": ("threads", "timeout", "retries", "user_agent", "opt_out"),
    "Training": ("steps", "learning_rate", "warmup", "weight_decay", "recompute", "seed"),
    "Evaluation": ("evaluate", "label"),
    "Cluster and storage": (
        "address", "workers", "gpus_per_worker", "decode_workers", "wait_for_machines", "max_requests_per_second",
        "storage_options",
    ),
    "Failures and limits": (
        "max_failed_samples", "max_failed_shards", "shard_deadline", "retry_failed", "refresh",
    ),
    "Costs": ("price_per_hour", "budget", "deadline"),
}  # fmt: skip
_REST = "Options"
_HEADING = {name: heading for heading, names in _HEADINGS.items() for name in names}


class GroupedCommand(typer.core.TyperCommand):
    """A command whose help has a heading for each kind of options, where these are many."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ("Arguments", *_HEADINGS, _REST)}
        parameters = self.get_params(ctx)
        headings = _HEADING if len(parameters) > _FEW else {}
        for parameter in parameters:
            if (record := parameter.get_help_record(ctx)) is not None:
                is_argument = parameter.param_type_name == "argument"
                sections["Arguments" if is_argument else headings.get(parameter.name or "", _REST)].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def completions_of(option: str) -> Callable[[str], list[str]] | None:
    """What the Tab key offers as an option's value, besides files; None where clipmill knows no values."""
    known = _KNOWN.get(option)
    return known and (lambda incomplete: [value for value in known() if value.startswith(incomplete)])


def _models() -> list[str]:
    from ...clipmodel.config import VARIANTS

    return list(VARIANTS)


def _templates() -> list[str]:
    from ...clipmodel.templates import TEMPLATES

    return list(TEMPLATES)


_KNOWN: dict[str, Callable[[], list[str]]] = {"model": _models, "templates": _templates}


def first_sentence(text: str) -> str:
    """Of a docstring: what the list of commands says of a command."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."

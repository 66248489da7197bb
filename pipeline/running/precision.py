"""Which arithmetic a run has, and whether the cluster and the models are made for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..choices import Precision
from ..dataset.plan import Fingerprint
from ..errors import UserError
from ..job.embed import EmbedJob
from .cluster import gpus
from .placement import Placement

if TYPE_CHECKING:
    from ...clipmodel.seams import Card

ASKS_THE_CLUSTER = ("auto", "fp8")  # precisions that a dataset is not begun with before its machines are known


def decide(job: EmbedJob, begun: Fingerprint | None, cards: Iterable[Card]) -> Precision:
    """`auto` is what the dataset was begun with, else bf16 on GPUs and fp32 elsewhere. UserError for one that has
    nothing to do with the models."""
    precision = job.precision
    if precision == "auto":
        on_gpus = begun is None and job.gpus_per_worker != 0 and gpus()
        precision = begun.precision if begun else "bf16" if on_gpus else "fp32"
    for card in cards:
        card.check_precision(precision)
    return precision


def check_machines(precision: str, placement: Placement, kinds: Collection[str]) -> None:
    """UserError where workers of this placement cannot compute so, as far as the cluster tells; none for `auto`.
    kinds: of its GPUs."""
    if precision != "fp8":
        return
    from ...clipmodel.float8 import NEEDS, has_float8

    if not placement.gpus:
        raise UserError(f"--precision fp8 {NEEDS}, and workers here have no GPU: use fp32 or bf16")
    if kinds and all(has_float8(kind) is False for kind in kinds):
        raise UserError(f"--precision fp8 {NEEDS}, and this cluster has {', '.join(sorted(kinds))}: use bf16")

"""What people see of `clipmill label`."""

from __future__ import annotations

from ...pipeline.labelling.label import LabelSummary
from ...pipeline.labelling.truth import Accuracy, ClassScore
from .amounts import every
from .show import out

_ROWS = 20  # of the table of classes; --json has them all


def show_labels(summary: LabelSummary) -> None:
    counts = summary.counts
    if summary.parts == summary.parts_done_before:
        out.print(f"nothing to do: {every(summary.parts, 'part')} labelled already", markup=False)
    out.print(
        f"labels      {counts.rows:,} rows = {counts.labelled:,} labelled + {counts.none:,} none + "
        f"{counts.rows - counts.labelled - counts.none:,} without an image embedding",
        markup=False,
    )
    out.print(f"classes     {summary.classes:,}, of {summary.prompts:,} prompts", markup=False)
    if summary.accuracy:
        show_accuracy(summary.accuracy)
    out.print(f"in {summary.out}", markup=False)


def show_accuracy(accuracy: Accuracy) -> None:
    """The figures, and the classes that are recognised worst."""
    if accuracy.top1 is None or accuracy.top_k is None:
        out.print(f"accuracy    unknown: no image with an embedding has one of the classes as {accuracy.truth}")
        return
    left = f"; {accuracy.unknown:,} others have no class as {accuracy.truth}" if accuracy.unknown else ""
    out.print(
        f"accuracy    top-1 {accuracy.top1:.1%}, top-{accuracy.k} {accuracy.top_k:.1%} of {accuracy.images:,} images"
        f"{left}",
        markup=False,
    )
    seen = [score for score in accuracy.classes if score.recall is not None]
    seen.sort(key=lambda score: (score.recall, score.name))
    width = max(5, *(len(score.name) for score in seen[:_ROWS]))
    out.print(f"  {'class':<{width}}  precision  recall  support  most confused with", markup=False)
    for score in seen[:_ROWS]:
        out.print(f"  {score.name:<{width}}  {_percent(score.precision):>9}  {_rest(score)}", markup=False)
    if len(seen) > _ROWS:
        out.print(f"  and {len(seen) - _ROWS:,} classes with a higher recall; --json tells of all", markup=False)


def _rest(score: ClassScore) -> str:
    confused = f"{score.mistaken_for} ({score.mistakes:,})" if score.mistaken_for else "-"
    return f"{_percent(score.recall):>6}  {score.support:>7,}  {confused}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"

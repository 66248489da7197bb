"""`clipmill label`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...pipeline.job.label import LabelJob
from ..showing.amounts import every
from ..showing.console import out
from .options import Json

if TYPE_CHECKING:
    from ...pipeline import LabelSummary
    from ...pipeline.labelling.truth import Accuracy, ClassScore

_MANY = 0.05  # share of images that fit no class: such labels mislead
_ROWS = 20  # of the table of classes; --json has them all


def label(job: LabelJob, json_: Json = False) -> None:
    """Label a dataset's images with classes of your own, zero-shot, from their embeddings. Run again to resume."""
    from ...pipeline import label as run
    from ..showing.progress import DownloadProgress
    from ..showing.stage_bar import StageBar

    with DownloadProgress() as download, StageBar() as bar:
        summary = run(job, bar, download)
    print(json.dumps(summary.as_json())) if json_ else _show(summary)


def _show(summary: LabelSummary) -> None:
    counts = summary.counts
    if summary.parts == summary.parts_done_before:
        out.print(f"nothing to do: {every(summary.parts, 'part')} labelled already")
    out.print(
        f"labels      {counts.rows:,} rows = {counts.labelled:,} labelled + {counts.none:,} none + "
        f"{counts.rows - counts.labelled - counts.none:,} without an image embedding"
    )
    out.print(f"classes     {summary.classes:,}, of {summary.prompts:,} prompts")
    _show_coverage(summary)
    if summary.accuracy:
        _show_accuracy(summary.accuracy)
    out.print(f"in {summary.out}")


def _show_coverage(summary: LabelSummary) -> None:
    """Probabilities are shares among the classes; this says whether the classes are what the images show."""
    images, uncovered = summary.counts.images, summary.counts.uncovered
    if not images:
        return
    share = f"{uncovered:,} of {images:,} images ({uncovered / images:.1%})"
    out.print(f"background  {share} fit no class as well as {', '.join(summary.background)}")
    if uncovered > _MANY * images:
        out.print(
            "WARNING     the classes do not cover the data, and a probability near 1 says nothing of that: add "
            "classes, or filter by label_similarity and background (docs/label.md)",
            style="bold yellow",
        )


def _show_accuracy(accuracy: Accuracy) -> None:
    """The figures, and the classes that are recognised worst."""
    if accuracy.top1 is None or accuracy.top_k is None:
        out.print(f"accuracy    unknown: no image with an embedding has one of the classes as {accuracy.truth}")
        return
    unknown = f"; {accuracy.unknown:,} others have no class as {accuracy.truth}" if accuracy.unknown else ""
    out.print(
        f"accuracy    top-1 {accuracy.top1:.1%}, top-{accuracy.k} {accuracy.top_k:.1%} of {accuracy.images:,} images"
        f"{unknown}"
    )
    scores = [score for score in accuracy.classes if score.recall is not None]
    scores.sort(key=lambda score: (score.recall, score.name))
    width = max(5, *(len(score.name) for score in scores[:_ROWS]))
    out.print(f"  {'class':<{width}}  precision  recall  support  most confused with")
    for score in scores[:_ROWS]:
        out.print(f"  {score.name:<{width}}  {_percent(score.precision):>9}  {_rest(score)}")
    if len(scores) > _ROWS:
        out.print(f"  and {len(scores) - _ROWS:,} classes with a higher recall; --json has all of them")


def _rest(score: ClassScore) -> str:
    confused = f"{score.mistaken_for} ({score.mistakes:,})" if score.mistaken_for else "-"
    return f"{_percent(score.recall):>6}  {score.support:>7,}  {confused}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"

"""`clipmill demo`: what clipmill is for, on drawn shards, in a minute, offline."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.rule import Rule

from ..clipmodel import metrics
from ..pipeline import EmbedJob, FilterJob, LabelJob, SearchJob, Summary, embed, filter, label, search
from ..pipeline.embedding.encoder import Vectors
from ..pipeline.errors import OutputError
from ..pipeline.training.evaluation import recall
from .drawn.damage import DAMAGES
from .drawn.pairs import PairSpec
from .drawn.scenes import CLASSES
from .drawn.shards import DrawnSpec, write_shards
from .showing.console import out
from .showing.progress import EmbedProgress
from .showing.totals import show_summary

QUERIES = ("a red star", "a small blue fish on a white background", "a grey crescent above a red star")
_COLUMNS = ("label", "caption_is_right:bool")


def run_demo(folder: Path, pairs: int) -> Summary:
    """Draw shards into `folder`/shards, embed them into `folder`/embeddings, and print what those tell."""
    spec = DrawnSpec(pairs, 8, PairSpec(seed=42, full_captions=0.0), wrong_captions=0.15, damaged=len(DAMAGES))
    shards, dataset = folder / "shards", folder / "embeddings"
    _headline(f"1. {pairs:,} image-text pairs in {spec.shards} WebDataset shards")
    _draw(spec, shards)
    _headline("2. Embed and score them on a local Ray cluster")
    with EmbedProgress() as progress:
        summary = embed(EmbedJob([str(shards)], str(dataset), "tiny", _COLUMNS, address="local"), progress)
    show_summary(summary)
    rows = _read(dataset)
    _headline("3. What the embeddings know")
    _label(dataset, folder)
    _tell_figures(rows)
    _headline("4. Text to image")
    _search(dataset)
    _headline("5. Keep the pairs whose image and caption agree best")
    _filter(dataset, rows, folder / "kept")
    _headline("6. Yours to query")
    out.print(f"Parquet: {dataset}/data/ — open it with DuckDB, Polars, pandas or PyArrow. For example:\n")
    out.print(example_query(dataset))
    out.print("\nLook at it: the first writes a page to share, the second opens one to search and to choose by.\n")
    out.print(f"clipmill report {shlex.quote(str(dataset))} -o {shlex.quote(str(folder / 'report.html'))}")
    out.print(f"clipmill serve {shlex.quote(str(dataset))}")
    out.print("\n`tiny` knows drawn scenes and nothing else; for photographs: clipmill embed … --model ViT-B/32")
    return summary


def example_query(dataset: Path) -> str:
    """A shell command: the pairs whose caption fits their image least."""
    where = str(dataset).replace("'", "''")
    sql = (
        "SELECT caption, caption_is_right, round(similarity, 3) AS similarity "
        f"FROM '{where}/data/*.parquet' WHERE error IS NULL ORDER BY similarity LIMIT 5"
    )
    python = shlex.quote(sys.executable)
    if set(str(dataset)) & set("\"'$`\\!"):
        return f"{python} -c {shlex.quote(f'import duckdb; duckdb.sql({sql!r}).show()')}"
    return f'{python} -c "import duckdb; duckdb.sql(\\"{sql}\\").show()"'  # easier to read


@dataclass(frozen=True)
class _Rows:
    """The embedded rows, as far as the demo needs them."""

    table: pa.Table
    images: Vectors
    texts: Vectors

    def column(self, name: str) -> npt.NDArray[np.object_]:
        return np.array(self.table[name].to_pylist(), dtype=object)


def _headline(text: str) -> None:
    out.print()
    out.print(Rule(text, align="left", style="dim"))


def _draw(spec: DrawnSpec, shards: Path) -> None:
    """Draw unless the same shards are there already."""
    note = shards / "_drawn.json"  # a name that shard listings pass over
    settings = json.dumps(asdict(spec))
    if note.exists() and note.read_text() == settings:
        out.print(f"the shards in {shards} are there already")
        return
    if shards.exists() and any(shards.iterdir()):
        raise OutputError(f"{shards}: holds other shards than this demo's; choose another --out, or delete the folder")
    unfinished = shards.with_name("shards.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was stopped
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{shards.parent}: cannot be written to: {error.strerror}") from error
    began = time.monotonic()
    write_shards(spec, unfinished, processes=min(spec.shards, os.cpu_count() or 1))
    (unfinished / note.name).write_text(settings)
    unfinished.rename(shards)
    size = sum(path.stat().st_size for path in shards.glob("*.tar"))
    out.print(
        f"drawn in {time.monotonic() - began:.0f} s: {size / 1e6:.1f} MB of JPEG, PNG and WebP in {shards}; "
        f"15 % carry another picture's caption, {spec.damaged} are damaged"
    )


def _read(dataset: Path) -> _Rows:
    table = pq.read_table(dataset)
    table = table.filter(pc.is_null(table["error"]))

    def vectors(name: str) -> Vectors:
        column = table[name].combine_chunks()
        return column.flatten().to_numpy().astype(np.float32).reshape(len(table), -1)

    return _Rows(table, vectors("image_embedding"), vectors("text_embedding"))


def _label(dataset: Path, folder: Path) -> None:
    """Pictures of one thing have its name as their json's label."""
    classes = folder / "classes.txt"
    classes.write_text("".join(f"{colour} {shape}\n" for colour, shape in CLASSES))
    summary = label(LabelJob(str(dataset), str(folder / "labels"), str(classes), "drawing", truth="label"))
    accuracy = summary.accuracy
    assert accuracy is not None and accuracy.top1 is not None and accuracy.top_k is not None
    out.print(
        f"zero-shot     {accuracy.top1:.1%} of {accuracy.images:,} pictures of one thing named right, among "
        f"{summary.classes} classes; {accuracy.top_k:.1%} within the first {accuracy.k}"
    )


def _tell_figures(rows: _Rows) -> None:
    right = rows.column("caption_is_right").astype(bool)
    similarity = rows.column("similarity").astype(np.float32)
    auc = metrics.roc_auc(similarity[right], similarity[~right])
    captions = rows.column("caption")
    chosen = list({captions[index]: index for index in np.flatnonzero(right)}.values())[:200]
    recalls = recall(rows.images[chosen], rows.texts[chosen])
    for way in ("text_to_image", "image_to_text"):
        shares = ", ".join(f"recall@{k} {recalls[f'{way}@{k}']:.1%}" for k in (1, 5, 10))
        out.print(f"{way.replace('_', ' '):<13} {shares}  among {len(chosen)} distinct captions")
    out.print(
        f"similarity    tells right captions from wrong ones with ROC-AUC {auc:.4f} "
        f"({right.sum():,} right, {(~right).sum():,} wrong)"
    )


def _search(dataset: Path) -> None:
    for query in QUERIES:
        out.print(f"“{query}”")
        for hit in search(SearchJob(str(dataset), query, k=3)).hits:
            out.print(f"  {hit.score:.3f}  {hit.row['key']}  {hit.row['caption']}")


def _filter(dataset: Path, rows: _Rows, kept: Path) -> None:
    """As many as are right: the demo knows how many, since it drew them."""
    right = rows.column("caption_is_right").astype(bool)
    columns = ("caption", "caption_is_right", "similarity")
    summary = filter(FilterJob(str(dataset), str(kept), top_fraction=float(right.mean()), columns=columns))
    left = pq.read_table(kept, columns=["caption_is_right"])["caption_is_right"].to_pylist()
    wrong, dropped = int((~right).sum()), len(right) - len(left)
    caught = wrong - left.count(False)
    out.print(
        f"kept {summary.funnel.kept:,} of {len(right):,} in {kept}, the best {right.mean():.1%}: {caught:,} of the "
        f"{wrong:,} wrong captions are gone (precision {caught / dropped:.1%}, recall {caught / wrong:.1%})"
    )

"""Scores: a row for each row, by heads and functions; resumed, grown, refused; readable beside the dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import torch
from clipmill.clipmodel.download import sha256_of
from clipmill.clipmodel.weights import Loaded
from clipmill.clipmodel.zeroshot import class_vectors
from clipmill.pipeline import FilterJob, ScoreJob, filter, score
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.source import PART, source_of
from clipmill.pipeline.errors import InputError, ModelError, PlanMismatchError, UserError
from clipmill.pipeline.scoring.part import ScoreCounts, ScorePart
from clipmill.pipeline.scoring.progress import SCORED
from fakes import files
from made import make_dataset, unit_vectors
from safetensors.torch import save_file
from score_kit import DIM, PARTS, rows, stored
from torch import nn


def test_each_row_has_its_score_in_its_place(job: ScoreJob, head: nn.Linear) -> None:
    summary = score(job)
    assert summary.counts == ScoreCounts(rows=6, scored=5)
    assert (summary.columns, summary.parts, summary.parts_done_before) == (("quality",), 2, 0)
    dataset = Dataset.open(job.dataset)
    places = [row for batch in dataset.batches(["key", "shard", "row", "error"]) for row in batch.to_pylist()]
    assert [{name: row[name] for name in ("key", "shard", "row", "error")} for row in rows(job)] == places
    for row, vector in zip(rows(job), stored(job), strict=True):
        if vector is None:
            assert row["quality"] is None
            continue
        assert row["quality"] == pytest.approx(head(torch.tensor(vector, dtype=torch.float32)).item(), abs=1e-5)
    for part in dataset.parts:
        metadata = pq.read_metadata(Path(job.out) / "data" / part).metadata
        assert metadata[PART] == source_of(dataset, part, None).encode()


def test_the_files_lie_beside_the_datasets_row_by_row(job: ScoreJob) -> None:
    score(job)
    joined = duckdb.sql(f"""
        SELECT a.shard = b.shard AND a.row = b.row AND a.key = b.key, (b.quality IS NULL) = (a.error IS NOT NULL)
        FROM read_parquet('{job.dataset}/data/*.parquet') a
        POSITIONAL JOIN read_parquet('{job.out}/data/*.parquet') b""").fetchall()
    assert joined == [(True, True)] * 6


def test_a_filter_joins_them(job: ScoreJob, tmp_path: Path) -> None:
    score(job)
    wanted = [row["key"] for row in rows(job) if row["quality"] is not None and row["quality"] > 0]
    joined = FilterJob(job.dataset, str(tmp_path / "best"), where=("s.quality > 0",), joins={"s": job.out})
    assert filter(joined).funnel.kept == len(wanted) > 0
    kept = pq.read_table(tmp_path / "best" / "data")["key"].to_pylist()
    assert sorted(kept) == sorted(wanted)


def test_captions_are_scored_by_their_own_embeddings(job: ScoreJob, head: nn.Linear) -> None:
    job = replace(job, side="text")
    assert score(job).counts == ScoreCounts(rows=6, scored=6)
    wanted = head(torch.tensor(stored(job, "text_embedding"), dtype=torch.float32)).flatten().tolist()
    assert [row["quality"] for row in rows(job)] == pytest.approx(wanted, abs=1e-5)


def test_only_what_is_new_or_lost_or_made_anew_is_scored(job: ScoreJob, tmp_path: Path) -> None:
    score(job)
    first, second = Dataset.open(job.dataset).parts
    before = files(job.out)
    assert score(job).parts_done_before == 2
    assert {name: files(job.out)[name] for name in before if name.startswith("data/")} == {
        name: state for name, state in before.items() if name.startswith("data/")
    }
    (Path(job.out) / "data" / first).unlink()
    make_dataset(tmp_path / "in", [*PARTS, {"image_embedding": unit_vectors(6, 3)}])
    path = tmp_path / "in" / "data" / second  # as `embed --refresh` leaves it: other rows, another footer
    table = pq.read_table(path).slice(1)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, "clipmill.shard": "changed"}), path)
    grown = score(job)
    assert (grown.parts, grown.parts_done_before, grown.counts) == (3, 0, ScoreCounts(rows=8, scored=7))
    (path := Path(job.out) / "data" / second).unlink()
    assert score(job).parts_done_before == 2 and path.exists()


def test_a_run_with_nothing_to_do_opens_no_part(job: ScoreJob, monkeypatch: pytest.MonkeyPatch) -> None:
    first = score(job)
    scored = Path(job.out) / SCORED
    with monkeypatch.context() as patch:
        patch.setattr(ScorePart, "__call__", lambda *_: pytest.fail("no part is opened"))
        assert score(job).counts == first.counts
    for content in (b"damaged", None):  # it is a cache
        scored.write_bytes(content) if content else scored.unlink()
        again = score(job)
        assert (again.parts_done_before, again.counts) == (2, first.counts) and scored.exists()


def test_other_heads_into_the_same_folder_are_refused_unless_they_replace_it(job: ScoreJob, tmp_path: Path) -> None:
    score(job)
    save_file(nn.Linear(DIM, 1).state_dict(), tmp_path / "head.safetensors")
    with pytest.raises(PlanMismatchError, match=r"quality is 'head.safetensors of sha256 .*or add --overwrite"):
        score(job)
    with pytest.raises(PlanMismatchError, match="side is 'text', not 'image'"):
        score(replace(job, side="text", overwrite=False))
    assert score(replace(job, overwrite=True)).parts_done_before == 0


def test_a_head_of_several_outputs_has_a_column_for_each_and_several_heads_a_table(
    job: ScoreJob, tmp_path: Path
) -> None:
    wide = nn.Linear(DIM, 3)
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    job = replace(job, heads=[*job.heads, f"kind={tmp_path / 'wide.pt'}"], activations=["kind=none+softmax"])
    assert score(job).columns == ("quality", "kind_0", "kind_1", "kind_2")
    for row, vector in zip(rows(job), stored(job), strict=True):
        if vector is not None:
            wanted = wide(torch.tensor(vector, dtype=torch.float32)).softmax(0).tolist()
            assert [row[f"kind_{n}"] for n in range(3)] == pytest.approx(wanted, abs=1e-5)


def test_a_prompt_is_its_cosine_with_each_embedding(
    sharp: Loaded, sharp_weights: Path, job: ScoreJob, tmp_path: Path
) -> None:
    vectors = class_vectors(sharp.model, sharp.tokenizer, [["a red star"], ["a fish", "fishes"]], 2)
    sha256, images = sha256_of([sharp_weights]), unit_vectors(1, 3, 256)
    make_dataset(tmp_path / "sharp", [{"image_embedding": images}], dim=256, weights_sha256=sha256)
    prompts = ["star=a red star", "fish=a fish", "fish=fishes"]
    job = replace(job, dataset=str(tmp_path / "sharp"), heads=[], prompts=prompts, model=f"tiny={sharp_weights}")
    summary = score(job)
    assert summary.scorers["fish"].startswith("'a fish' and 1 more of sha256 ")
    wanted = images @ vectors.numpy().T
    assert [(row["star"], row["fish"]) for row in rows(job)] == [
        pytest.approx(pair, abs=1e-3) for pair in wanted.tolist()
    ]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"heads": []}, "nothing to score with"),
        ({"heads": ["laion-aesthetic-l14"]}, "must be NAME=…, such as aesthetic=laion-aesthetic-l14"),
        ({"heads": ["a=b", "a=c"]}, "a is there twice"),
        ({"heads": ["row=b"]}, "row is a column that every table of scores has"),
        ({"heads": ["a b=c"]}, "'a b' cannot be a column"),
        ({"heads": ["a=laion-aesthetics"]}, "no head is called 'laion-aesthetics' .* try laion-aesthetic-"),
        ({"heads": ["a=gone/head.pt"]}, "gone/head.pt: no such file"),
        ({"prompts": ["a star"]}, "--prompt a star: must be NAME=…, such as watermark="),
        ({"prompts": ["quality=a star"], "model": "tiny"}, "was made with"),
        ({"activations": ["quality=rellu"]}, "--activation quality=rellu: must be BETWEEN or BETWEEN"),
        ({"activations": ["kind=relu"]}, "no --head is called kind"),
        ({"functions": ["nothing"]}, "must be MODULE:FUNCTION"),
        ({"functions": ["no_such_module:score"]}, "there is no module no_such_module"),
        ({"pixels": True}, "--pixels is for --function: run `clipmill score` for --head"),
        ({"pixels": True, "heads": [], "functions": ["a:b"], "side": "text"}, "leave out --for text"),
        ({"alias": "b32"}, "no model is called 'b32'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(changes: Any, complaint: str, job: ScoreJob) -> None:
    with pytest.raises(UserError, match=complaint):
        score(replace(job, **changes))
    assert not list(Path(job.out).glob("data/*.parquet"))


def test_a_head_of_another_models_embeddings_is_refused(job: ScoreJob, tmp_path: Path) -> None:
    save_file(nn.Linear(6, 1).state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(ModelError, match=r"reads embeddings of 6 numbers, but .*, made with tiny, has 4") as raised:
        score(replace(job, heads=[f"a={tmp_path / 'wide.safetensors'}"]))
    assert raised.value.exit_code == 2
    with pytest.raises(ModelError, match=r"it reads embeddings of ViT-L/14 \(openai\), but .* made with tiny \(made\)"):
        score(replace(job, heads=["a=laion-aesthetic-l14"]))


def test_a_dataset_without_that_side_is_refused(job: ScoreJob, tmp_path: Path) -> None:
    make_dataset(tmp_path / "texts", PARTS[1:], embeds="texts")
    with pytest.raises(InputError, match="has no embeddings of images; score the others with --for"):
        score(replace(job, dataset=str(tmp_path / "texts")))
    with pytest.raises(InputError, match="has no embeddings of images; leave out --pixels"):
        score(replace(job, dataset=str(tmp_path / "texts"), heads=[], functions=["a:b"], pixels=True))


@pytest.mark.usefixtures("cluster")
def test_on_ray_the_scores_are_the_same(job: ScoreJob, own: Any) -> None:
    job = replace(job, functions=[own("on_ray", "def score(x):\n    return x[:, 1]")])
    here = score(job)
    there = replace(job, out=job.out + "-ray", address="local")
    assert score(there).counts == here.counts
    assert rows(there) == rows(job)

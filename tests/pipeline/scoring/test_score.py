"""Scores: a row for each row, by heads and functions; resumed, grown, refused; readable beside the dataset."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from clipmill.clipmodel.download import sha256_of
from clipmill.clipmodel.weights import Loaded
from clipmill.clipmodel.zeroshot import class_vectors
from clipmill.pipeline import FilterJob, ForgetJob, ScoreJob, filter, forget, score
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.source import PART, source_of
from clipmill.pipeline.errors import InputError, ModelError, PlanMismatchError, UserError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.scoring import inputs
from clipmill.pipeline.scoring.part import ScoreCounts, ScorePart
from clipmill.pipeline.scoring.progress import SCORED
from fakes import Drawn, Ran, files
from made import make_dataset, unit_vectors
from safetensors.torch import save_file
from torch import nn

DIM = 4
NOTHING = np.full((1, DIM), np.nan, np.float32)
PARTS: list[dict[str, Any]] = [
    {
        "image_embedding": np.concatenate([unit_vectors(1, 2), NOTHING, unit_vectors(2, 1)]),
        "text_embedding": unit_vectors(3, 4),
        "error": [None, None, "decode: no image", None],
    },
    {"image_embedding": unit_vectors(4, 2), "text_embedding": unit_vectors(5, 2)},
]


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(DIM, 1)


@pytest.fixture
def job(head: nn.Linear, tmp_path: Path) -> ScoreJob:
    make_dataset(tmp_path / "in", PARTS)
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    return ScoreJob(str(tmp_path / "in"), str(tmp_path / "scores"), [f"quality={tmp_path / 'head.safetensors'}"])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """A module of one's own in the folder that commands are run in; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules), list(sys.path)

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        return f"{name}:score"

    yield write
    sys.path[:] = before[1]
    for name in sys.modules.keys() - before[0]:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


def rows(job: ScoreJob) -> list[dict[str, Any]]:
    parts = Dataset.open(job.dataset).parts
    return [row for part in parts for row in pq.read_table(Path(job.out) / "data" / part).to_pylist()]


def stored(job: ScoreJob, column: str = "image_embedding") -> list[Any]:
    return [row[column] for batch in Dataset.open(job.dataset).batches([column]) for row in batch.to_pylist()]


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


def test_a_function_of_ones_own_gives_columns(job: ScoreJob, own: Any) -> None:
    code = (
        "import numpy as np\ndef score(x):\n    return {'first': x[:, 0], 'big': x[:, 0] > 0, 'n': np.arange(len(x))}"
    )
    job = replace(job, functions=[own("three_columns", code)])
    assert score(job).columns == ("quality", "first", "big", "n")
    for row, vector in zip(rows(job), stored(job), strict=True):
        assert (row["first"], row["big"]) == ((None, None) if vector is None else (vector[0], vector[0] > 0))
    assert [row["n"] for row in rows(job)] == [0, 1, None, 2, 0, 1]


def test_an_array_alone_is_a_column_of_the_functions_name_and_nan_is_null(job: ScoreJob, own: Any) -> None:
    code = "import numpy as np\ndef score(x):\n    return np.where(np.arange(len(x)) == 0, np.nan, x[:, 1])"
    summary = score(replace(job, heads=[], functions=[own("one_array", code)]))
    assert summary.counts == ScoreCounts(rows=6, scored=5, undefined=2)
    assert [row["score"] is None for row in rows(job)] == [True, False, True, False, True, False]


LOOKS = (
    "def score(x):\n    assert x.dtype == 'uint8' and x.shape[1:] == (96, 96, 3)\n"
    "    return {'red': x[..., 0].astype(float).mean(axis=(1, 2)), 'most': x.max(axis=(1, 2, 3)).astype(int)}"
)


def test_a_function_of_pixels_gets_what_the_model_saw(
    ran: Ran, drawn: Drawn, sharp: Loaded, tmp_path: Path, own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(inputs, "_IMAGES", 16)
    shutil.copytree(ran.out, tmp_path / "out")
    (tmp_path / "gone.txt").write_text(_keys(tmp_path / "out")[0])
    forget(ForgetJob(str(tmp_path / "out"), keys=str(tmp_path / "gone.txt")))
    job = ScoreJob(str(tmp_path / "out"), str(tmp_path / "looks"), functions=[own("looks", LOOKS)], pixels=True)
    summary = score(job)
    assert summary.counts == ScoreCounts(rows=120, scored=107) and summary.columns == ("red", "most")
    preprocess = replace(sharp.preprocess, decoding="close")
    samples = [sample for shard in drawn.shards for sample in read_samples(shard)]
    for row, sample in zip(rows(job), samples, strict=True):
        if row["error"] is not None:
            assert (row["red"], row["most"]) == (None, None)
            continue
        pixels = preprocess(sample.image)
        assert row["key"] == sample.key and row["most"] == pixels.max()
        assert row["red"] == pytest.approx(pixels[..., 0].mean(), rel=1e-6)
    monkeypatch.setattr("clipmill.pipeline.scoring.inputs.unchanged_shard", lambda *_: pytest.fail("a shard is read"))
    assert score(job).parts_done_before == 3
    with pytest.raises(PlanMismatchError, match="side is 'image', not 'pixels'"):
        score(replace(job, pixels=False, functions=[own("embeddings", "def score(x):\n    return x[:, 0]")]))


def _keys(out: Path) -> list[str]:
    embedded = pc.field("error").is_null()
    keys: list[str] = pq.read_table(out / "data", columns=["key", "error"]).filter(embedded)["key"].to_pylist()
    return keys


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("def score(x):\n    return x.nothing", r"broken:score fails: AttributeError: .*\(broken.py, line 2\)"),
        ("import nothing_of_the_kind", "importing it fails: No module named"),
        ("1 / 0", r"importing it fails: ZeroDivisionError: division by zero \(broken.py, line 1\)"),
        ("", "broken has no function score"),
        ("def score(x):\n    return x[0]", r"score has shape \[4\] for 2 rows; give one value for each"),
        ("def score(x):\n    return {}", "gave no column"),
        ("def score(x):\n    return {'row': x[:, 0]}", "row is a column that every table of scores has"),
        ("def score(x):\n    return {'a b': x[:, 0]}", "'a b' cannot be a column"),
        ("def score(x):\n    return x[:, 0].astype(complex)", "score holds complex"),
        ("def score(x):\n    return {'quality': x[:, 0]}", "two columns are called quality"),
        (
            "def score(x):\n    return {'b' if len(x) == 3 else 'a': x[:, 0]}",
            "gave columns b float, and before a float; give the same each time",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_one_line(code: str, complaint: str, job: ScoreJob, own: Any) -> None:
    with pytest.raises(UserError, match=complaint) as raised:
        score(replace(job, functions=[own("broken", code)]))
    assert "\n" not in str(raised.value)


def test_a_function_that_changes_is_another_one(job: ScoreJob, own: Any) -> None:
    job = replace(job, heads=[], functions=[own("changing", "def score(x):\n    return x[:, 0]")])
    score(job)
    path = Path("changing.py")
    path.write_text(path.read_text() + "\n# another\n")
    with pytest.raises(PlanMismatchError, match="changing:score is 'changing:score of sha256"):
        score(job)


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


def test_pixels_of_another_librarys_model_are_refused(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = {"library": "transformers", "variant": "hf:AlignModel", "config": {"embed_dim": 8}}
    monkeypatch.setattr(Dataset, "model_cards", lambda _: card)
    with pytest.raises(UserError, match="is of hf:AlignModel, whose images transformers makes ready"):
        score(ScoreJob(str(ran.out), str(tmp_path / "looks"), functions=["a:b"], pixels=True))

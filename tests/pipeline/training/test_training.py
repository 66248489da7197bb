"""Training over shards: it learns what transfers, and a run that was cut off goes on as if it had not been."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from clipmill.clipmodel.config import CLIPConfig, PreprocessConfig, TextConfig, VisionConfig
from clipmill.clipmodel.train import TrainConfig
from clipmill.clipmodel.weights import load
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from clipmill.pipeline.choices import Loss
from clipmill.pipeline.errors import InputError, ModelError, OutputError, UserError
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.job.train import TrainJob
from clipmill.pipeline.records import Decoded
from clipmill.pipeline.training.evaluation import evaluate
from clipmill.pipeline.training.train import Training, TrainProgress, collate, run_training
from fakes import Drawn, jpeg, write_pairs, write_tar
from safetensors.torch import load_file

TEXT = TextConfig(64, 1, 1, vocab_size=1024, context_length=16)
SMALLEST = CLIPConfig(32, VisionConfig(32, 64, 1, 16), TEXT)
BRIEF = TrainConfig(steps=12, learning_rate=1e-3, warmup_steps=2)


class Stop(Exception):
    """The plug is pulled."""


def job(drawn: Drawn, out: Path, **changes: Any) -> Training:
    """108 whole pairs of 120, so that 12 steps of 32 end in the fourth epoch."""
    settings = {"batch_size": 32, "seed": 3, "trainer": BRIEF, "checkpoint_every": 5, "shuffle_buffer": 50}
    return Training(SMALLEST, "smallest", drawn.shards, out, **settings | changes)


def stopped_at(step: int, interrupted: Training) -> list[float]:
    """Losses up to a crash after this step."""
    losses: list[float] = []

    def pull_the_plug(progress: TrainProgress) -> None:
        losses.append(progress.loss)
        if progress.step == step:
            raise Stop

    with pytest.raises(Stop):
        run_training(interrupted, pull_the_plug)
    return losses


def losses_of(whole: Training) -> list[float]:
    losses: list[float] = []
    run_training(whole, lambda progress: losses.append(progress.loss))
    return losses


def same(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- learning ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_short_training_finds_captions_of_scenes_it_never_saw_ten_times_as_often_as_chance(tmp_path: Path) -> None:
    small = PairSpec(seed=31, sides=(48, 64))
    write_shards(DrawnSpec(2500, 5, small), tmp_path / "seen")
    write_shards(DrawnSpec(400, 1, replace(small, seed=32, full_captions=1.0)), tmp_path / "unseen")
    config = CLIPConfig(
        128,
        VisionConfig(48, 128, 2, 8),
        TextConfig(128, 2, 2, vocab_size=2048, context_length=40),
        preprocess=PreprocessConfig((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    )
    trainer = TrainConfig(steps=150, learning_rate=1.5e-3, warmup_steps=15)
    shards = list_shards([str(tmp_path / "seen")])
    out = tmp_path / "small.safetensors"
    losses = losses_of(Training(config, "small", shards, out, batch_size=64, trainer=trainer))
    assert len(losses) == 150
    assert losses[0] > 0.9 * math.log(64)
    assert np.mean(losses[-10:]) < 0.6 * math.log(64)
    found = evaluate(load(str(out)).model, list_shards([str(tmp_path / "unseen")]), "label")
    assert found.pairs > 390 and found.zero_shot is not None
    for way in ("text_to_image", "image_to_text"):
        for k in (1, 10):
            assert found.recall[f"{way}@{k}"] > 10 * k / found.pairs, found
    assert found.zero_shot > 3 / found.classes


def test_progress_counts_steps_and_pairs_and_the_weights_load(drawn: Drawn, tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    out = tmp_path / "a.safetensors"
    assert run_training(job(drawn, out), seen.append) == out
    assert [(p.step, p.steps, p.pairs) for p in seen] == [(n, 12, 32 * n) for n in range(1, 13)]
    assert all(math.isfinite(p.loss) for p in seen)
    assert load(str(out)).card.config.embed_dim == 32
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]  # the checkpoint is done with


def test_training_is_a_function_of_its_seed(drawn: Drawn, tmp_path: Path) -> None:
    short = TrainConfig(steps=4, warmup_steps=1)
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for file, seed in zip(files, (3, 3, 4), strict=True):
        run_training(job(drawn, file, seed=seed, trainer=short))
    assert same(files[0], files[1])
    assert not same(files[0], files[2])


# --- going on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [6, 10, 11])
def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_cut_off(
    step: int, drawn: Drawn, tmp_path: Path
) -> None:
    """Over several epochs whose ends fall between batches, and past pairs that cannot be decoded."""
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    losses = losses_of(job(drawn, whole))
    before = stopped_at(step, job(drawn, cut))
    assert before == losses[:step]
    assert not cut.exists()
    after = losses_of(job(drawn, cut))
    assert after == losses[(step - 1) // 5 * 5 :]  # from the checkpoint before it on
    assert same(whole, cut)
    assert {path.name for path in tmp_path.iterdir()} == {"whole.safetensors", "cut.safetensors"}


def test_a_checkpoint_of_another_model_is_refused(drawn: Drawn, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    stopped_at(6, job(drawn, out))
    wider = replace(SMALLEST, text=replace(TEXT, width=128, heads=2))
    with pytest.raises(
        OutputError, match=r"checkpoint: a checkpoint of another model \(.*\); delete it to start over$"
    ):
        run_training(replace(job(drawn, out), config=wider))


def test_a_checkpoint_beyond_the_asked_steps_is_refused(drawn: Drawn, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    stopped_at(6, job(drawn, out))
    with pytest.raises(OutputError, match=r"is at step 5 already; ask for more steps, or delete it to start over$"):
        run_training(job(drawn, out, trainer=replace(BRIEF, steps=4)))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "weights", "cut short"])
def test_what_is_no_checkpoint_is_refused_in_one_line(content: bytes | str, drawn: Drawn, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    checkpoint = out.with_name(out.name + ".checkpoint")
    if content == "weights":
        torch.save({"w": torch.zeros(3)}, checkpoint)
    elif content == "cut short":
        stopped_at(6, job(drawn, out))
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    else:
        checkpoint.write_bytes(content)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match=r"^.*checkpoint: not a checkpoint, or a broken one; delete it.*$") as refused:
        run_training(job(drawn, out))
    assert "\n" not in str(refused.value)


# --- what cannot be ------------------------------------------------------------------------------------------------


def test_too_few_pairs_for_a_batch_are_an_input_error(tmp_path: Path) -> None:
    shard = write_pairs(tmp_path / "0.tar", 7)
    with pytest.raises(
        InputError, match="too few pairs with both image and caption for a batch of 8: lower --batch-size"
    ):
        run_training(Training(SMALLEST, "smallest", [shard], tmp_path / "a.safetensors", batch_size=8, trainer=BRIEF))
    assert not (tmp_path / "a.safetensors").exists()


def test_damaged_pairs_do_not_count(tmp_path: Path) -> None:
    """Or training would read them for ever."""
    members = [(f"{n}.{kind}", content) for n in range(8) for kind, content in (("jpg", jpeg(n)), ("txt", b"a"))]
    members[0] = ("0.jpg", b"no image")
    shard = write_tar(tmp_path / "0.tar", members)
    with pytest.raises(InputError, match="too few pairs with both image and caption"):
        run_training(Training(SMALLEST, "smallest", [shard], tmp_path / "a.safetensors", batch_size=8, trainer=BRIEF))


def test_images_without_captions_are_no_pairs(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "0.tar", [(f"{n}.jpg", jpeg(n)) for n in range(8)])
    with pytest.raises(InputError, match="too few pairs with both image and caption"):
        run_training(Training(SMALLEST, "smallest", [shard], tmp_path / "a.safetensors", batch_size=2, trainer=BRIEF))


@pytest.mark.parametrize(
    ("out", "model", "inputs", "kind", "complaint"),
    [
        ("a.pt", "tiny", "0.tar", UserError, "must end in .safetensors"),
        ("nowhere/a.safetensors", "tiny", "0.tar", OutputError, "nowhere: no such folder"),
        ("/proc/a.safetensors", "tiny", "0.tar", OutputError, "/proc: cannot be written to"),
        ("a.safetensors", "tinny", "0.tar", ModelError, "unknown model 'tinny': did you mean tiny"),
        ("a.safetensors", "tiny", "1.tar", InputError, "1.tar: no such file"),
        (
            "a.safetensors",
            "ViT-B-16-SigLIP",
            "0.tar",
            UserError,
            "its tokenizer is not CLIP's",
        ),
    ],
)
def test_a_wrong_request_is_refused_before_work(
    out: str, model: str, inputs: str, kind: type[UserError], complaint: str, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "0.tar", 2)
    with pytest.raises(kind, match=complaint):
        Training.of(TrainJob([str(tmp_path / inputs)], str(tmp_path / out), model))


def test_the_loss_named_is_the_models(tmp_path: Path) -> None:
    write_pairs(tmp_path / "0.tar", 2)
    for loss in get_args(Loss):
        job = TrainJob([str(tmp_path / "0.tar")], str(tmp_path / "a.safetensors"), "tiny", loss=loss)
        assert Training.of(job).config.sigmoid == (loss == "sigmoid")


def test_a_batch_is_padded_with_zeros_to_its_longest_caption() -> None:
    rows = [
        Decoded(n, str(n), pixels=np.full((4, 4, 3), n, np.uint8), tokens=np.arange(1, 3 + n, dtype=np.int32))
        for n in range(2)
    ]
    batch = collate(rows)
    assert batch.pixels.shape == (2, 4, 4, 3) and batch.pixels.dtype == torch.uint8
    assert batch.tokens.tolist() == [[1, 2, 0], [1, 2, 3]]


# --- two processes -------------------------------------------------------------------------------------------------

RANK = """
import sys, torch
from clipmill.clipmodel.config import CLIPConfig, TextConfig, VisionConfig
from clipmill.clipmodel.train import TrainConfig
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.job.train import TrainJob
from clipmill.pipeline.training.train import Training, run_training
from pathlib import Path

torch.set_num_threads(1)
config = CLIPConfig(32, VisionConfig(32, 64, 1, 16), TextConfig(64, 1, 1, vocab_size=1024, context_length=16))
trainer = TrainConfig(steps=8, learning_rate=1e-3, warmup_steps=2)
shards, out, stop = list_shards([sys.argv[1]]), Path(sys.argv[2]), int(sys.argv[3])
settings = dict(batch_size=12, trainer=trainer, checkpoint_every=3, shuffle_buffer=20)
run_training(Training(config, "smallest", shards, out, **settings), lambda p: sys.exit(7) if p.step == stop else None)
"""


def in_two_processes(shards: Path, out: Path, stop: int) -> list[int]:
    """Exit codes of both ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    if "lo" in {name for _, name in socket.if_nameindex()}:
        meeting["GLOO_SOCKET_IFNAME"] = "lo"  # not every machine can look its own name up
    command = [sys.executable, "-c", RANK, shards, out, str(stop)]
    ranks = [subprocess.Popen(command, env={**os.environ, **meeting, "RANK": str(rank)}) for rank in range(2)]
    return [rank.wait(timeout=400) for rank in ranks]


@pytest.mark.long
def test_two_processes_go_on_where_both_were(drawn: Drawn, tmp_path: Path) -> None:
    """With unequal shares: each rank has its own damaged pairs, and its own ends of epochs."""
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    assert in_two_processes(drawn.folder, whole, stop=0) == [0, 0]
    assert in_two_processes(drawn.folder, cut, stop=7) == [7, 7]
    assert not cut.exists()
    assert in_two_processes(drawn.folder, cut, stop=0) == [0, 0]
    assert same(whole, cut)
    one = Training(SMALLEST, "smallest", drawn.shards, cut, batch_size=12, trainer=TrainConfig(steps=8))
    torch.save({"step": 3, "places": [[0, 1], [0, 1]], "model": load(str(cut)).model.state_dict()}, f"{cut}.checkpoint")
    with pytest.raises(OutputError, match="from a run of 2 processes, not 1"):
        run_training(one)

"""Training over the shards that `embed` reads: data order, checkpoints, resume, evaluation at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ...clipmodel import weights
from ...clipmodel.config import CLIPConfig, TrainingPrecision, variant
from ...clipmodel.infer import mismatches
from ...clipmodel.model import CLIP
from ...clipmodel.preprocess import Preprocess
from ...clipmodel.tokenizer import Tokenizer
from ...clipmodel.train import TrainBatch, TrainConfig, Trainer
from ..embedding.batches import pad
from ..embedding.decode import Decoder
from ..errors import InputError, OutputError, UserError
from ..inputs.listing import list_shards
from ..inputs.shards import read_samples
from ..job.train import TrainJob
from ..records import Decoded, Shard
from ..storage.ahead import ahead
from .evaluation import Evaluation, evaluate


@dataclass(frozen=True)
class Training:
    """A training job with its architecture and shards looked up."""

    config: CLIPConfig
    name: str  # the architecture's name, for the model card
    shards: Sequence[Shard]
    out: Path
    batch_size: int = 256
    seed: int = 0
    trainer: TrainConfig = field(default_factory=lambda: TrainConfig(steps=0))
    checkpoint_every: int = 500  # steps
    shuffle_buffer: int = 4096  # samples, encoded
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, job: TrainJob) -> Training:
        """UserError for what is wrong with the job: its values, its shards, its output folder."""
        job.check()
        folder = Path(job.out).absolute().parent
        if not folder.is_dir():
            raise OutputError(f"{folder}: no such folder to write the weights to")
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:  # refused now, and not after hours
            raise OutputError(f"{folder}: cannot be written to: {error.strerror}") from error
        return cls(
            _config(job),
            job.model,
            list_shards(job.inputs, job.storage_options),
            Path(job.out),
            job.batch_size,
            job.seed,
            TrainConfig(
                steps=job.steps,
                learning_rate=job.learning_rate,
                warmup_steps=job.warmup,
                weight_decay=job.weight_decay,
                precision=auto_precision() if job.precision == "auto" else job.precision,
                recompute=job.recompute,
            ),
            job.checkpoint_every,
            storage_options=job.storage_options,
        )


def _config(job: TrainJob) -> CLIPConfig:
    config = variant(job.model)
    if config.text.vocabulary != "clip":
        raise UserError(
            f"--model {job.model}: its tokenizer is not CLIP's, which is the one that training has; take a variant of "
            "CLIP's and --loss sigmoid"
        )
    return replace(config, sigmoid=job.loss == "sigmoid")


def auto_precision() -> TrainingPrecision:
    """bf16 where a GPU is, fp32 elsewhere: few CPUs have bf16 arithmetic."""
    return "bf16" if torch.cuda.is_available() else "fp32"


@dataclass(frozen=True)
class TrainProgress:
    step: int
    steps: int
    loss: float
    pairs: int  # seen since the start, all ranks together


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    weights: Path
    evaluation: Evaluation | None = None  # on the shards named for it, by the process of rank 0


OnProgress = Callable[[TrainProgress], None]


def train(job: TrainJob, on_progress: OnProgress = lambda _: None) -> Trained:
    """Train to the last step, resuming from the checkpoint beside `job.out` when there is one; save the weights, then
    measure them on the shards named for evaluation. Under torchrun every rank calls this.

    UserError for what is wrong with the job, before training starts.
    """
    training = Training.of(job)
    held_out = list_shards(job.evaluate, job.storage_options) if job.evaluate else []  # before hours are spent
    path = run_training(training, on_progress)
    if not held_out or os.environ.get("RANK", "0") != "0":
        return Trained(path)
    return Trained(path, evaluate(weights.load(str(path)).model, held_out, job.label, options=job.storage_options))


def run_training(job: Training, on_progress: OnProgress = lambda _: None) -> Path:
    """Train to the last step, resuming from the checkpoint beside `job.out` when there is one; save the weights.

    Under torchrun every rank calls this; ranks share out the shards, rank 0 writes.
    """
    rank, world = _rank_and_world()
    torch.manual_seed(job.seed)
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(CLIP(job.config), job.trainer, device)
    checkpoint = job.out.with_name(job.out.name + ".checkpoint")
    begin = _resume(trainer, checkpoint, rank, world)
    steps = job.trainer.steps
    if len(job.shards) < world:
        raise InputError(f"{len(job.shards)} shards are too few for {world} processes: give more, smaller ones")
    with ahead(_batches(job, begin, rank, world), 4) as batches:
        for batch, position in batches:
            loss = trainer.step(batch)
            on_progress(TrainProgress(trainer.step_number, steps, loss, trainer.step_number * job.batch_size * world))
            if trainer.step_number % job.checkpoint_every == 0 and trainer.step_number < steps:
                _save_checkpoint(trainer, checkpoint, position, rank, world)
            if trainer.step_number >= steps:
                break
    if trainer.step_number < steps:
        raise InputError(
            f"the shards hold too few pairs with both image and caption for a batch of {job.batch_size}: "
            "lower --batch-size"
        )
    if rank == 0:
        weights.save(trainer.clip.eval(), job.out, variant=job.name)
        checkpoint.unlink(missing_ok=True)
    return job.out


def _rank_and_world() -> tuple[int, int]:
    """torchrun's environment starts the process group; alone, there is none."""
    if "WORLD_SIZE" in os.environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class _Position(NamedTuple):
    """How far into its samples a rank is: their epoch, and how many of it are used up, damaged ones included."""

    epoch: int = 0
    samples: int = 0


def _save_checkpoint(trainer: Trainer, path: Path, position: _Position, rank: int, world: int) -> None:
    positions = [torch.tensor(position, device=trainer.device)] * world
    if world > 1:
        positions = [torch.empty_like(positions[0]) for _ in range(world)]
        torch.distributed.all_gather(positions, torch.tensor(position, device=trainer.device))
    if rank == 0:
        partial = path.with_name(path.name + ".part")
        torch.save({**trainer.state_dict(), "places": [one.tolist() for one in positions]}, partial)
        partial.replace(path)


def _resume(trainer: Trainer, path: Path, rank: int, world: int) -> _Position:
    """Where to go on. OutputError for a file that no run like this one can have left."""
    if not path.exists():
        return _Position()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        step, positions, tensors = state["step"], state["places"], state["model"]
    except Exception as error:  # whatever torch makes of a broken or foreign file
        raise OutputError(f"{path}: not a checkpoint, or a broken one; delete it to start over") from error
    if other := next(mismatches(tensors, trainer.clip.config), None):
        raise OutputError(f"{path}: a checkpoint of another model ({other}); delete it to start over")
    if step >= trainer.config.steps:
        raise OutputError(f"{path}: is at step {step:,} already; ask for more steps, or delete it to start over")
    if len(positions) != world:
        raise OutputError(f"{path}: from a run of {len(positions)} processes, not {world}; delete it to start over")
    trainer.load_state_dict(state)
    return _Position(*positions[rank])


def _batches(job: Training, begin: _Position, rank: int, world: int) -> Iterator[tuple[TrainBatch, _Position]]:
    """Whole batches from `begin` on, epoch after epoch, in an order that the seed fixes; with each, the position after
    it. Samples before `begin` are read but not decoded."""
    decoder = Decoder(Preprocess(job.config.vision.image_size, job.config.preprocess), _tokenizer(job.config))
    epoch, used = begin
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        while True:
            held: list[tuple[int, Decoded]] = []
            read = made = 0
            for chunk in _shuffled(job, epoch, rank, world):
                first = max(read, min(used, read + len(chunk)))
                decoded = decoder.decode_batch(chunk[first - read :], pool)
                held += [
                    (n, d) for n, d in enumerate(decoded, first + 1) if d.pixels is not None and d.tokens is not None
                ]
                read += len(chunk)
                while len(held) >= job.batch_size:
                    batch, held = held[: job.batch_size], held[job.batch_size :]
                    yield collate([row for _, row in batch]), _Position(epoch, batch[-1][0])
                    made += 1
            if not made and not used:
                return
            epoch, used = epoch + 1, 0


def _shuffled(job: Training, epoch: int, rank: int, world: int) -> Iterator[list[Any]]:
    """This rank's samples of one epoch, in chunks: shards in random order, samples through a shuffle buffer."""
    rng = np.random.default_rng((job.seed, epoch))
    order = rng.permutation(len(job.shards))[rank::world]
    buffer: list[Any] = []
    for index in order:
        for sample in read_samples(job.shards[index], job.storage_options):
            buffer.append(sample)
            if len(buffer) >= job.shuffle_buffer:
                rng.shuffle(buffer)
                half = len(buffer) // 2
                yield buffer[half:]
                buffer = buffer[:half]
    rng.shuffle(buffer)
    yield buffer


def _tokenizer(config: CLIPConfig) -> Tokenizer:
    return Tokenizer(config.text.vocab_size, config.text.context_length)


def collate(rows: Sequence[Decoded]) -> TrainBatch:
    """Stack pixels; pad tokens with zeros to the longest of the batch."""
    tokens = pad([row.tokens for row in rows if row.tokens is not None])
    pixels = np.stack([row.pixels for row in rows if row.pixels is not None])
    return TrainBatch(torch.from_numpy(pixels), tokens)

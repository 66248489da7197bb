"""`clipmill train`"""

from __future__ import annotations

import json
from dataclasses import asdict

from ...pipeline.job.train import TrainJob
from .options import Debug, Json


def train(job: TrainJob, json_: Json = False, debug: Debug = False) -> None:
    """Train a CLIP on image-text shards. Run again to resume; under `torchrun`, on several devices."""
    from ...pipeline.training.train import train as run
    from ..showing.training import is_first_rank, show_trained, training_bar

    with training_bar(job.steps) as bar:
        trained = run(job, bar)
    if is_first_rank():
        print(json.dumps(asdict(trained), default=str)) if json_ else show_trained(trained)

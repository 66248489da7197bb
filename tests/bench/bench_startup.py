"""What a run does before its first image is embedded, stage by stage: from the command line, with one small shard.

The first run finds an empty cache (of hashes, and of compiled code where there is a GPU); what counts are the runs
after it. Stages are those of the run's own summary. `cluster` and `models` happen at the same time, `planned` is when
both are done, then come `worker_process`, `worker_models` and the first rows. `command` is the interpreter's start and
end.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import benchkit
from benchkit import Row, Spread
from clipmill.clipmodel import weights
from clipmill.clipmodel.config import VARIANTS
from contenders import shallow
from processes import clipmill, run
from random_models import random_clip
from web_pairs import PairsSpec, write_shards

VARIANT = "ViT-B/32"
ROUNDS = 3
IN_A_ROW = ("planned", "worker_process", "worker_models", "first_rows")  # their sum is the time to the first image


def measure(quick: bool) -> list[Row]:
    config = shallow(VARIANTS[VARIANT]) if quick else VARIANTS[VARIANT]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        weights.save(random_clip(config), path, variant=VARIANT)
        shards = write_shards(PairsSpec(1, 8), Path(folder) / "shards")
        environment = {"CLIPMILL_CACHE": str(Path(folder) / "cache")}
        start = clipmill(str(path), environment=environment)
        found = []
        for number in range(1 if quick else 1 + ROUNDS):
            ran = run(start(shards, Path(folder) / f"out-{number}"))
            summary = json.loads(ran.out)
            stages = summary["start_up"] | {"command": ran.seconds - summary["seconds"]}
            found.append(stages | {"until the first image": sum(stages[name] for name in IN_A_ROW)})
    warm = found[1:] or found
    return [
        Row(f"start-up with {VARIANT}: {name}", "s", Spread.of(each[name] for each in warm), note=_first(found, name))
        for name in warm[0]
    ]


def _first(found: list[dict[str, float]], name: str) -> str:
    return f"{found[0][name]:.1f} with an empty cache"


if __name__ == "__main__":
    benchkit.main(measure)

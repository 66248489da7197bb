"""A run of `embed` in a process of its own, one of several into one output: INPUTS OUT MODEL LOG [OPTIONS].

LOG gets a line before each shard: the process's id, and the shard's name. OPTIONS are storage options, as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import alone
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset import claims
from clipmill.pipeline.dataset.lock import Patience
from clipmill.pipeline.records import Shard

PAUSE = 0.05  # seconds that a shard takes besides


def main(inputs: str, out: str, model: str, log: str, options: str = "{}") -> None:
    def begin(shard: Shard) -> None:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()} {Path(shard.url).name}\n")
        time.sleep(PAUSE)

    alone.patch(setattr, begin)
    claims.shared.__wrapped__.__defaults__ = (Patience(renew=0.3, expires=60.0, look=0.1),)
    print("ready", flush=True)
    sys.stdin.readline()  # all begin together
    embed(EmbedJob([inputs], out, model, workers=1, storage_options=json.loads(options)))


if __name__ == "__main__":
    main(*sys.argv[1:])

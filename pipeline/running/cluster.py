"""Ray: the cluster and what it has. Workers on its machines: worker_handle.py."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from ..errors import InfrastructureError, one_line
from .placement import Placement, divide

_HOST_AND_PORT = re.compile(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d+)")
_PATIENCE = 5.0  # seconds for an address to answer
_OBJECT_STORE = 128 << 20  # bytes for every four CPUs: pixels pass through it where processes of their own decode


@contextmanager
def connected(address: str = "auto") -> Generator[None, None, None]:
    """A Ray cluster: `local` starts one on this machine, `auto` joins one where RAY_ADDRESS names it and else starts
    one, anything else is joined. One that was connected before is used, and left as it is."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "local"
    local = address == "local"
    if local:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # glibc gives each of many threads a pool, and what one frees no other uses: a third of a worker's memory
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES alone
        options |= {
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE * max(1, (os.cpu_count() or 1) // 4),
        }
    else:
        check_address(address)
    logging.getLogger("ray").setLevel(logging.ERROR)  # or it announces its authentication, once a run
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray raises many kinds, and Exception itself when its processes are slow to start
        what = "a Ray cluster on this machine did not start" if local else f"no Ray cluster answers at {address}"
        raise InfrastructureError(f"{what}: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def gpus() -> float:
    """How many the connected cluster has."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def place(workers: int | None, gpus_per_worker: float | None, shards: int, decode_workers: int | None = 0) -> Placement:
    """`placement.divide` over the machines that the connected cluster has now, and keeps."""
    return divide(_nodes(), workers, gpus_per_worker, shards, decode_workers)


def room(placement: Placement) -> int:
    """Workers of this size that these machines hold."""
    return placement.room(_nodes())


def _nodes() -> list[dict[str, float]]:
    going = leaving()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in going]


@contextmanager
def requested(workers: int | None, gpus_per_worker: float | None) -> Generator[None, None, None]:
    """Ask the cluster's autoscaler, where it has one, for room for so many workers until the context is left. It does
    not see the need by itself: workers are made only where there is room."""
    if not workers:
        yield
        return
    worker = {"GPU": gpus_per_worker} if gpus_per_worker else {"CPU": 1.0}
    request_resources(bundles=[worker] * workers)
    try:
        yield
    finally:
        with suppress(Exception):
            request_resources(bundles=[])


def leaving() -> dict[str, float]:
    """Machines that Ray drains (a spot machine's notice, a pod's end, the autoscaler) -> seconds that they still have,
    infinite where no deadline was set."""
    deadlines: dict[str, int] = {}
    with suppress(Exception):  # no public API tells, this is what Ray Train asks; then they are just lost later
        deadlines = ray._private.state.state.get_draining_nodes()
    now = time.time()
    return {node: ms / 1000 - now if ms else float("inf") for node, ms in deadlines.items()}


def check_address(address: str) -> None:
    """InfrastructureError where nothing listens at HOST:PORT or ray://HOST:PORT. Other addresses are Ray's to read."""
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), _PATIENCE).close()
    except (OSError, OverflowError) as error:  # the latter for ports that there are not
        raise InfrastructureError(f"no Ray cluster answers at {address}: {error}") from error

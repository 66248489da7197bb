"""Ray: the cluster and what it has. Workers on its machines: worker_handle.py."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import ray

from ..errors import InfrastructureError, UserError, one_line
from ..job.prices import HEAD, Names
from .cluster_address import wants_token
from .local_ray import guarded, local_options
from .placement import Placement, Seat, divide, seats

# In Ray's errors, where it may go well the next time: a head whose server for a client crashed in a fork, as gRPC does
# now and then (ray issue 63202), or was too slow; a machine that was too slow to start a cluster.
_CLIENT_FAILED, _START_FAILED = "Initialization failure from server", "node timed out during startup"
_REMEDY = ": try again; a head that is started with GRPC_ENABLE_FORK_SUPPORT=0 has no such failures"
_KIND = "accelerator_type:"  # Ray's resource of the machines that have such an accelerator


@contextmanager
def connected(address: str = "auto") -> Generator[None, None, None]:
    """A Ray cluster: `local` starts one on this machine, `auto` joins one where RAY_ADDRESS names it and else starts
    one, anything else is joined. One that was connected before is used, and left as it is. UserError for a cluster that
    refuses us, InfrastructureError where none answers or starts."""
    if ray.is_initialized():
        yield
        return
    address = _named(address)
    with guarded() if address == "local" else nullcontext():
        _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def check_answer(address: str) -> None:
    """What `connected` would raise for a cluster that does not answer, or refuses us; at once, before other work."""
    if not ray.is_initialized() and _named(address) != "local":
        wants_token(_named(address))


def _named(address: str) -> str:
    named = os.environ.get("RAY_ADDRESS") or "local" if address == "auto" else address
    if named.startswith(("http://", "https://")):
        raise UserError(
            f"{named}: this is the address of a Ray dashboard, where `clipmill submit` goes; a run wants the cluster's "
            "own: HOST:6379, or ray://HOST:10001"
        )
    return named


def _connect(address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address == "local":
        options |= local_options()
        failure = "a Ray cluster on this machine did not start"
    else:
        if wants_token(address):
            _send_token()
        # when a client is killed, its workers go on for so long: Ray waits half a minute for it to come back
        os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "10")
        failure = f"no Ray cluster answers at {address}"
    # when a run ends by an error, Ray would print those of the shards beside it, whose results nobody asks for any more
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    logging.getLogger("ray").setLevel(logging.ERROR)  # or it announces its authentication, once a run
    try:
        _join(address, options)
    except Exception as error:  # Ray raises many kinds, and Exception itself when its processes are slow to start
        remedy = _REMEDY if _CLIENT_FAILED in str(error) else ""
        raise InfrastructureError(f"{failure}: {one_line(error)}{remedy}") from error


def _join(address: str, options: Mapping[str, Any]) -> None:
    """Ask once more where that may help."""
    try:
        ray.init(address, **options)
    except Exception as error:
        if not any(reason in str(error) for reason in (_CLIENT_FAILED, _START_FAILED)):
            raise
        ray.init(address, **options)


def _send_token() -> None:
    """Ray sends a token to a named address only in this mode, and it has read its settings by now."""
    os.environ["RAY_AUTH_MODE"] = "token"
    settings: Any = ray._raylet
    settings.Config.initialize("")  # as Ray does where it finds a cluster by itself


def gpus() -> float:
    """How many the connected cluster has."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def gpu_kinds() -> set[str]:
    """What Ray calls the GPUs of the connected cluster: `H100`, `A100`, …; without those that it has no name for."""
    named = (name for node in _nodes() if node.get("GPU") for name in node if name.startswith(_KIND))
    return {name.removeprefix(_KIND) for name in named}


def machine_names() -> list[Names]:
    """What each machine goes by: its group where the cluster has groups, its kind of GPU, and gpu or cpu."""
    return [_names(node) for node in ray.nodes() if node["Alive"]]


def _names(node: Mapping[str, Any]) -> Names:
    resources = node["Resources"]
    kinds = [name.removeprefix(_KIND) for name in resources if name.startswith(_KIND)]
    if resources.get("GPU"):
        kinds.append("gpu")
    elif resources.get("CPU"):
        kinds = ["cpu"]
    else:
        return (HEAD,)
    group = (node.get("Labels") or {}).get("ray.io/node-group")
    return (group, *kinds) if group else kinds


def place(workers: int | None, gpus_per_worker: float | None, shards: int, decode_workers: int | None = 0) -> Placement:
    """`placement.divide` over the machines that the connected cluster has now, and keeps."""
    return divide(_nodes(), workers, gpus_per_worker, shards, decode_workers)


def room(placement: Placement) -> int:
    """Workers of this size that these machines hold."""
    return placement.room(_nodes())


def has_other_machines() -> bool:
    """Whether the connected cluster is more than this process's own machine."""
    if ray.util.client.ray.is_connected():  # over ray:// this machine is none of the cluster's
        return True
    here = ray.get_runtime_context().get_node_id()
    return any(node["Alive"] and node["NodeID"] != here for node in ray.nodes())


def reader_seats(placement: Placement) -> list[Seat]:
    """Where these machines have room for processes that read."""
    return seats(placement, _machines())


def _nodes() -> list[dict[str, float]]:
    return list(_machines().values())


def _machines() -> dict[str, dict[str, float]]:
    going = leaving()
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    return {name: resources for name, resources in nodes.items() if name not in going}


def leaving() -> dict[str, float]:
    """Machines that Ray drains (a spot machine's notice, a pod's end, the autoscaler) -> seconds that they still have,
    infinite where no deadline was set."""
    deadlines: dict[str, int] = {}
    with suppress(Exception):  # no public API tells, this is what Ray Train asks; then they are just lost later
        deadlines = ray._private.state.state.get_draining_nodes()
    now = time.time()
    return {node: ms / 1000 - now if ms else float("inf") for node, ms in deadlines.items()}

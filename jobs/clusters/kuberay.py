"""Job specifications as KubeRay manifests (ray.io/v1): a RayJob, or a RayCronJob where the job has a schedule."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from ..specifications.cluster_spec import ClusterSpec, Workers

_MOUNT = "/etc/clipmill"
JOB_PATH = f"{_MOUNT}/job.yaml"
ENTRYPOINT = f"clipmill run {JOB_PATH}"
_USER = 1000  # as in infra/docker/Dockerfile
_METRICS = 8080
# as in infra/docker/Dockerfile, for images that are built otherwise; the root folder is read-only
_ENVIRONMENT = {"HOME": "/tmp", "RAY_USAGE_STATS_ENABLED": "0", "GRPC_ENABLE_FORK_SUPPORT": "0"}
# as Google's and Azure's clouds, and Karpenter's examples on Amazon's, call them
_SPOT_TAINTS = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority", "spot")


def manifests(cluster: ClusterSpec, job: str, schedule: str | None, words: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The job's file as a ConfigMap, and what runs it. job: the specification's text, its slots unfilled: they are
    filled where it runs, from the secrets that `cluster.secrets` names and from words, options of `clipmill run`."""
    job_spec = _job_spec(cluster, words)
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(cluster, f"{cluster.name}-job"),
        "data": {PurePosixPath(JOB_PATH).name: job},
    }
    if schedule is None:
        runs = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": _metadata(cluster),
            "spec": job_spec,
        }
    else:
        runs = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCronJob",
            "metadata": _metadata(cluster),
            "spec": {"schedule": schedule, "timeZone": "Etc/UTC", "jobTemplate": job_spec},
        }
    return [config, runs]


def cluster_manifest(cluster: ClusterSpec) -> dict[str, Any]:
    """A cluster that stays, for `clipmill submit`."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": _metadata(cluster),
        "spec": _cluster_spec(cluster, with_job=False),
    }


def _metadata(cluster: ClusterSpec, name: str | None = None) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "clipmill", "app.kubernetes.io/instance": cluster.name}
    return {"name": name or cluster.name, "namespace": cluster.namespace, "labels": labels}


def _job_spec(cluster: ClusterSpec, words: Sequence[str]) -> dict[str, Any]:
    return {
        "entrypoint": " ".join([ENTRYPOINT, *map(shlex.quote, words)]),  # a shell reads it
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": cluster.keep_seconds,
        "backoffLimit": cluster.retries,  # a new cluster each time, which resumes
        "rayClusterSpec": _cluster_spec(cluster, with_job=True),
    }


def _cluster_spec(cluster: ClusterSpec, with_job: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "rayVersion": cluster.ray_version,
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 120,
            "upscalingMode": "Default",
            "securityContext": _LOCKED_DOWN,
            "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        },
        "headGroupSpec": {
            # no work on the head: it holds the driver, and must not be the machine that is taken away
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", "metrics-export-port": str(_METRICS)},
            "template": _pod(cluster, "head", cluster.head_cpus, cluster.head_memory, with_job=with_job),
        },
        "workerGroupSpecs": _groups(cluster),
    }
    if cluster.auth_secret:
        spec["authOptions"] = {"mode": "token", "secretName": cluster.auth_secret}
    return spec


def _groups(cluster: ClusterSpec) -> list[dict[str, Any]]:
    """Where there are several of a kind, the autoscaler starts machines of the first, as long as it can have more."""
    made = []
    for with_gpus in (True, False):
        alike = [workers for workers in cluster.groups if bool(workers.gpus) == with_gpus]
        for place, workers in enumerate(alike):
            several = {"priority": len(alike) - place, "labels": _labels(workers)} if len(alike) > 1 else {}
            made.append(_group(cluster, str(workers.name), workers) | several)
    return made


def _labels(workers: Workers) -> dict[str, str]:
    """What Ray knows of the group's machines besides what it sees for itself."""
    zone = {"ray.io/availability-zone": workers.zones[0]} if len(workers.zones) == 1 else {}
    return {"ray.io/market-type": "spot" if workers.spot else "on-demand", **zone}


def _group(cluster: ClusterSpec, name: str, workers: Workers) -> dict[str, Any]:
    return {
        "groupName": name,
        "replicas": workers.least,
        "minReplicas": workers.least,
        "maxReplicas": max(workers.most, workers.least),
        "rayStartParams": {"metrics-export-port": str(_METRICS)},
        "template": _pod(cluster, name, workers.cpus, workers.memory, workers),
    }


_LOCKED_DOWN = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def _pod(
    cluster: ClusterSpec, role: str, cpus: int, memory: str, workers: Workers | None = None, with_job: bool = False
) -> dict[str, Any]:
    volumes: dict[str, dict[str, Any]] = {
        "/tmp": {"emptyDir": {}},  # Ray's logs, unfinished parts
        "/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": cluster.object_store}},  # Ray's object store
    }
    if with_job:
        volumes[_MOUNT] = {"configMap": {"name": f"{cluster.name}-job"}}
    names = {path: path.strip("/").replace("/", "-") for path in volumes}
    resources: dict[str, Any] = {"requests": {"cpu": str(cpus), "memory": memory}, "limits": {"memory": memory}}
    if workers and workers.gpus:
        resources["limits"]["nvidia.com/gpu"] = str(workers.gpus)
    container = {
        "name": f"ray-{role}",
        "image": cluster.image,
        "resources": resources,
        "ports": [{"name": "metrics", "containerPort": _METRICS}],
        "env": [{"name": name, "value": value} for name, value in _ENVIRONMENT.items()],
        "envFrom": [{"secretRef": {"name": name}} for name in cluster.secrets],
        "securityContext": {**_LOCKED_DOWN, "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": names[path], "mountPath": path, **({"readOnly": True} if path == _MOUNT else {})}
            for path in volumes
        ],
    }
    spec: dict[str, Any] = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "fsGroup": _USER},
        "terminationGracePeriodSeconds": cluster.grace_seconds,
        "volumes": [{"name": names[path], **source} for path, source in volumes.items()],
    }
    if cluster.service_account:
        spec["serviceAccountName"] = cluster.service_account
    if workers:
        spec |= _where(workers)
    return {"metadata": {"labels": {"app.kubernetes.io/name": "clipmill"}}, "spec": spec}


def _where(workers: Workers) -> dict[str, Any]:
    """Which nodes may run the pod."""
    tolerations: list[dict[str, str]] = []
    if workers.gpus:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists"})
    if workers.spot:
        tolerations += [{"key": key, "operator": "Exists"} for key in _SPOT_TAINTS]
    return {
        **({"tolerations": tolerations} if tolerations else {}),
        **({"nodeSelector": workers.node_selector} if workers.node_selector else {}),
        **({"affinity": _in_zones(workers.zones)} if workers.zones else {}),
    }


def _in_zones(zones: Sequence[str]) -> dict[str, Any]:
    """The pod goes into any of the zones."""
    expression = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": list(zones)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}

"""Rendered manifests: valid for KubeRay, locked down, without secrets; their entrypoint is a command of ours."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from clipmill.jobs.clusters.kuberay import ENTRYPOINT, JOB_PATH, cluster_manifest, manifests
from clipmill.jobs.clusters.rendering import render
from clipmill.jobs.specifications.cluster_spec import ClusterSpec, read_cluster
from clipmill.jobs.specifications.specification import parse_specification
from clipmill.jobs.specifications.templates import Values
from clipmill.pipeline.errors import UserError
from kuberay_schemas import faults
from ray.autoscaler._private.kuberay.autoscaling_config import _generate_available_node_types_from_ray_cr_spec

VALUES = Values("2026-11-25", {})
JOB = """\
apiVersion: clipmill/v1
kind: embed
spec:
  inputs: "s3://{{ env.BUCKET }}/{{ date }}/*.tar"
  out: s3://b/out
  model: ViT-B/32
"""
CLUSTERS = [
    {},
    {"gpu_workers": None},
    {"cpu_workers": None, "service_account": "reader", "auth_secret": "token"},
    {"gpu_workers": {"gpus": 8, "most": 2, "least": 1, "spot": False, "node_selector": {"gpu": "h100"}}},
    {
        "gpu_workers": [
            {"name": "h100-spot", "gpus": 8, "node_selector": {"gpu": "h100"}, "zones": ["a", "b"]},
            {"name": "h100", "gpus": 8, "spot": False, "node_selector": {"gpu": "h100"}},
            {"gpus": 1, "most": 100},
        ],
        "cpu_workers": [{"most": 50}, {"spot": False, "zones": ["a"]}],
    },
    {"secrets": ["storage", "hub"], "retries": 0, "grace_seconds": 120, "object_store": "512Mi"},
]


def rendered(
    tmp_path: Path, job: str = JOB, cluster_only: bool = False, values: Values = VALUES
) -> list[dict[str, Any]]:
    path = tmp_path / "job.yaml"
    path.write_text(job)
    return list(yaml.safe_load_all(render(path, values, cluster_only)))


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("content", CLUSTERS)
@pytest.mark.parametrize("schedule", [None, "0 3 * * *"])
def test_kuberay_accepts_every_kind_of_cluster_and_job(content: dict[str, Any], schedule: str | None) -> None:
    cluster = read_cluster(content, "job.yaml: cluster")
    config, runs = manifests(cluster, JOB, schedule)
    assert runs["kind"] == ("RayCronJob" if schedule else "RayJob")
    assert faults(runs) == []
    assert faults(cluster_manifest(cluster)) == []
    assert config["data"]["job.yaml"] == JOB


def test_the_schemas_refuse_what_kuberay_would() -> None:
    manifest = cluster_manifest(ClusterSpec())
    manifest["spec"]["headGroupSpec"]["tempalte"] = {}
    assert faults(manifest)


def test_the_job_runs_what_was_written_with_its_slots_unfilled(tmp_path: Path) -> None:
    config, runs = rendered(tmp_path)
    assert config["data"]["job.yaml"] == JOB
    assert runs["spec"]["entrypoint"] == ENTRYPOINT
    head = pods(runs["spec"]["rayClusterSpec"])[0]
    mounts = {mount["mountPath"]: mount["name"] for mount in head["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in head["volumes"]}
    assert volumes[mounts[str(Path(JOB_PATH).parent)]]["configMap"]["name"] == config["metadata"]["name"]


@pytest.mark.parametrize("schedule", ["", 'schedule: "0 3 * * *"\n'])
def test_the_job_runs_with_the_variables_it_was_rendered_with(schedule: str, tmp_path: Path) -> None:
    given = ["root=s3://other", 'where=it\'s > $HOME; "x"', "empty="]
    job = JOB.replace("s3://b/out", '"{{ vars.root }}/out"') + "vars: {root: s3://b}\n" + schedule
    config, runs = rendered(tmp_path, job, values=Values.given(given, None))
    assert config["data"]["job.yaml"] == job
    assert faults(runs) == []
    entrypoint = runs["spec"]["jobTemplate" if schedule else "entrypoint"]
    words = shlex.split(entrypoint["entrypoint"] if schedule else entrypoint)
    assert words == [*shlex.split(ENTRYPOINT), *(word for each in given for word in ("--set", each))]


@pytest.mark.parametrize("line", ["deadline: 6h", "deadline: 2026-12-01T06:00:00Z", "price_per_hour: 2\n  budget: 9"])
def test_a_job_that_stops_at_its_limits_is_not_begun_again(line: str, tmp_path: Path) -> None:
    """KubeRay would take any exit code but 0 for a failure, and spend the budget again."""
    _, runs = rendered(tmp_path, f"{JOB}  {line}\n", values=Values.given(["x=1"], None))
    words = shlex.split(runs["spec"]["entrypoint"])
    assert words == [*shlex.split(ENTRYPOINT), "--limits-are-success", "--set", "x=1"]


@pytest.mark.parametrize("cluster_only", [False, True])
@pytest.mark.parametrize("given", ["api_token=hush", "root=https://me:hush@host/x", "root=https://host/x?sig=hush"])
def test_a_secret_among_the_variables_is_refused(given: str, cluster_only: bool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--set \w+: a secret, which a manifest would show") as error:
        rendered(tmp_path, cluster_only=cluster_only, values=Values.given([given], None))
    assert "hush" not in str(error.value)


def test_a_date_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^\S+job\.yaml: not valid YAML: month must be in 1\.\.12; put text"):
        rendered(tmp_path, f"{JOB}vars: {{day: 2024-13-45}}\n")


def test_the_entrypoint_is_a_command_of_ours() -> None:
    from clipmill.jobs import cli

    executable, command, *_ = shlex.split(ENTRYPOINT)
    assert executable == "clipmill"
    assert hasattr(cli, command)


def test_every_container_is_locked_down_and_every_worker_ends_gracefully() -> None:
    _, runs = manifests(read_cluster({"grace_seconds": 90}, ""), JOB, None)
    for pod in pods(runs["spec"]["rayClusterSpec"]):
        assert pod["terminationGracePeriodSeconds"] == 90
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"]
            assert context["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"]
            written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert written == {"/tmp", "/dev/shm"}


def test_workers_on_spot_machines_tolerate_their_taints_and_others_do_not() -> None:
    def keys(spot: bool) -> set[str]:
        manifest = cluster_manifest(read_cluster({"gpu_workers": {"gpus": 1, "spot": spot}, "cpu_workers": None}, ""))
        (worker,) = pods(manifest["spec"])[1:]
        return {each["key"] for each in worker.get("tolerations", [])}

    assert keys(False) == {"nvidia.com/gpu"}
    assert "cloud.google.com/gke-spot" in keys(True)


def test_several_groups_have_names_and_an_order_in_which_machines_are_started() -> None:
    gpus = [{"gpus": 8, "zones": ["a", "b"]}, {"name": "kept", "gpus": 8, "spot": False, "zones": ["c"]}, {"most": 2}]
    manifest = cluster_manifest(read_cluster({"gpu_workers": gpus, "cpu_workers": {"most": 50}}, ""))
    first, kept, third, cpu = manifest["spec"]["workerGroupSpecs"]
    assert [group["groupName"] for group in (first, kept, third, cpu)] == ["gpu", "kept", "gpu-3", "cpu"]
    assert [group["priority"] for group in (first, kept, third)] == [3, 2, 1]
    assert first["labels"] == {"ray.io/market-type": "spot"}
    assert kept["labels"] == {"ray.io/market-type": "on-demand", "ray.io/availability-zone": "c"}
    terms = first["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    zones = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"]}
    assert terms == {"nodeSelectorTerms": [{"matchExpressions": [zones]}]}
    assert third["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "priority" not in cpu and "labels" not in cpu and cpu["maxReplicas"] == 50


def test_ray_reads_the_groups_as_they_are_meant() -> None:
    """Ray's autoscaler makes its own table of the manifest."""
    gpus = [{"name": "big", "gpus": 8, "cpus": 96, "least": 1, "most": 50}, {"name": "small", "gpus": 1, "spot": False}]
    manifest = cluster_manifest(read_cluster({"gpu_workers": gpus}, ""))
    types = _generate_available_node_types_from_ray_cr_spec(manifest["spec"])
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert (types["big"]["min_workers"], types["big"]["max_workers"], types["big"]["priority"]) == (1, 50, 2)
    assert {name: types["big"]["resources"][name] for name in ("CPU", "GPU")} == {"CPU": 96, "GPU": 8}
    assert (types["small"]["priority"], types["small"]["labels"]) == (1, {"ray.io/market-type": "on-demand"})
    assert types["cpu"]["resources"].get("GPU", 0) == 0


def test_the_head_has_memory_for_a_million_shards_and_no_work() -> None:
    head = cluster_manifest(ClusterSpec())["spec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["template"]["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "4", "memory": "16Gi"}


@pytest.mark.parametrize(
    "line", ["storage_options: {secret: hush}", "storage_options: {aws_secret_access_key: hush, anon: false}"]
)
def test_a_specification_with_a_secret_is_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a secret, which a manifest would show") as error:
        rendered(tmp_path, f"{JOB}  {line}\n")
    assert "hush" not in str(error.value)


def test_a_secret_by_reference_is_not_in_the_manifest_but_its_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("STORAGE_SECRET", "hush")
    job = f'{JOB}  storage_options: {{secret: "{{{{ env.STORAGE_SECRET }}}}"}}\ncluster: {{secrets: [storage]}}\n'
    documents = rendered(tmp_path, job)
    assert "hush" not in str(documents)
    for pod in pods(documents[1]["spec"]["rayClusterSpec"]):
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "storage"}}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"gpu_worker": {}}, "cluster.gpu_worker: Extra inputs"),
        ({"gpu_workers": {"most": 0}}, "cluster.gpu_workers.most: Input should be greater"),
        ({"gpu_workers": [{}, {"most": 0}]}, "cluster.gpu_workers.1.most: Input should be greater"),
        ({"gpu_workers": "many"}, "cluster.gpu_workers: Input should be a valid dictionary"),
        ({"gpu_workers": [{"name": "x"}], "cpu_workers": {"name": "x"}}, "two groups of machines are called x"),
        ({"head_memory": "much"}, "cluster.head_memory: String should match"),
        ({"name": "No Name"}, "cluster.name: String should match"),
    ],
)
def test_a_wrong_cluster_is_one_line(content: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        read_cluster(content, "job.yaml: cluster")
    assert said in str(error.value)


def test_what_is_rendered_reads_as_a_specification_again(tmp_path: Path) -> None:
    config, _ = rendered(tmp_path)
    content = yaml.safe_load(config["data"]["job.yaml"])
    assert parse_specification(content, Values("2026-11-25", {"BUCKET": "b"}), "job.yaml").steps[0].job.inputs == [
        "s3://b/2026-11-25/*.tar"
    ]

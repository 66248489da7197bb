"""The `cluster` part of a job specification: which machines a rendered manifest asks for."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from ...pipeline.errors import UserError

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$")]  # as Kubernetes writes amounts
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$")]


def with_a_tag(image: str) -> str:
    """The same. ValueError for an image of no certain content."""
    name, _, tag = image.rpartition("/")[2].partition(":")
    if not name or ("@" not in image and tag in ("", "latest")):
        raise ValueError("name a tag, such as clipmill:1.0.0-cuda, or a digest: what `latest` means may change")
    return image


Image = Annotated[str, AfterValidator(with_a_tag)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Workers(_Strict):
    """A group of machines that comes and goes with the work."""

    name: Name | None = Field(default=None, description="Of the group; else gpu, gpu-2, … and cpu, cpu-2, ….")
    least: int = Field(default=0, ge=0, description="Machines that are there always.")
    most: int = Field(default=4, ge=1, description="Machines at most.")
    cpus: int = Field(default=8, ge=1, description="Of each machine.")
    memory: Quantity = Field(default="32Gi", description="Of each machine.")
    gpus: int = Field(default=0, ge=0, description="Of each machine; of gpu_workers 1 where nothing is said.")
    spot: bool = Field(default=True, description="Whether machines may be taken away at short notice.")
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="Labels that the nodes have, such as the one that tells the kind of GPU."
    )
    zones: list[str] = Field(default_factory=list, description="Where the nodes may be (topology.kubernetes.io/zone).")


_ONE, _SEVERAL = "one group", "several groups"
Groups = (
    Annotated[
        Annotated[Workers, Tag(_ONE)] | Annotated[list[Workers], Tag(_SEVERAL)],
        Discriminator(lambda value: _SEVERAL if isinstance(value, list) else _ONE),
    ]
    | None
)


class ClusterSpec(_Strict):
    """Machines, and what they run."""

    name: Name = "clipmill"
    namespace: Name = "default"
    image: Image = Field(
        default_factory=lambda: f"clipmill:{metadata.version('clipmill')}-cuda",
        description="Built from infra/docker/Dockerfile; with a tag or a digest.",
    )
    ray_version: str = "2.60.0"
    head_cpus: int = Field(default=4, ge=1, description="For the driver and Ray's own processes; no work is there.")
    head_memory: Quantity = Field(
        default="16Gi", description="The driver needs up to 1.5 kB a shard, so that a million fit; Ray takes the rest."
    )
    gpu_workers: Groups = Field(
        default=Workers(gpus=1),
        description="One group, or a list (kinds of GPU, zones, spot or not), preferred ones first.",
    )
    cpu_workers: Groups = Field(
        default=Workers(most=8, memory="16Gi"), description="Decode images beside the GPUs; one group or a list."
    )
    object_store: Quantity = Field(
        default="2Gi", description="Shared memory of each machine; shards never pass through it."
    )
    secrets: list[Name] = Field(default_factory=list, description="Kubernetes secrets whose keys become environment.")
    service_account: Name | None = Field(default=None, description="For storage access by the nodes' identity.")
    auth_secret: Name | None = Field(
        default=None, description="Holds the cluster's token (key auth_token); none: no token."
    )
    grace_seconds: int = Field(
        default=60, ge=5, description="To finish or abandon shards when a machine is taken away."
    )
    retries: int = Field(default=2, ge=0, description="Of the whole job, which then resumes.")
    keep_seconds: int = Field(default=600, ge=0, description="The cluster's life after the job.")

    @model_validator(mode="after")
    def _names_differ(self) -> ClusterSpec:
        names = [group.name for group in self.groups]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two groups of machines are called {twice}: give each a name of its own")
        return self

    @property
    def groups(self) -> list[Workers]:
        """All groups of machines for workers, each with its name."""
        return [*_named("gpu", self.gpu_workers), *_named("cpu", self.cpu_workers)]


def _named(kind: str, groups: Groups) -> list[Workers]:
    listed = groups if isinstance(groups, list) else [groups] if groups else []
    names = [group.name or (f"{kind}-{number}" if number > 1 else kind) for number, group in enumerate(listed, 1)]
    gpus = [1 if kind == "gpu" and "gpus" not in group.model_fields_set else group.gpus for group in listed]
    updates = [{"name": name, "gpus": count} for name, count in zip(names, gpus, strict=True)]
    return [group.model_copy(update=update) for group, update in zip(listed, updates, strict=True)]


def read_cluster(content: Any, where: str) -> ClusterSpec:
    """where: for errors, `file: cluster`. UserError, with the field, for what is wrong."""
    try:
        return ClusterSpec.model_validate(content or {})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in (where, *first["loc"]) if part not in (_ONE, _SEVERAL))
        raise UserError(f"{field}: {first['msg']}; see `clipmill render --help`") from error

"""`clipmill render`: a job specification becomes manifests, its secrets left where they belong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...pipeline.errors import UserError
from ...pipeline.redaction import is_secret, shows_secret
from ..specifications.cluster_spec import read_cluster, with_a_tag
from ..specifications.specification import Specification, check_specification
from ..specifications.templates import Values
from .kuberay import cluster_manifest, manifests


def render(path: Path | str, values: Values, cluster_only: bool = False, image: str | None = None) -> str:
    """YAML for `kubectl apply -f -`. image: in place of the specification's. The job is run with `values.vars`, as it
    is checked here. UserError for one with a secret in it, or among those: manifests are kept and shown."""
    variables = _shown(values.vars)
    specification = check_specification(path, values)
    text = specification.text
    if field := _secret_in(yaml.safe_load(text), ""):
        raise UserError(
            f"{path}: {field}: a secret, which a manifest would show: put it into a Kubernetes secret, name that under "
            "cluster.secrets, and write {{ env.NAME }} here"
        )
    cluster = read_cluster(specification.cluster, f"{path}: cluster")
    if image:
        cluster = cluster.model_copy(update={"image": _checked(image)})
    if cluster_only:
        documents = [cluster_manifest(cluster)]
    else:
        documents = manifests(cluster, text, specification.schedule, [*_flags(specification), *_set(variables)])
    return yaml.dump_all(documents, Dumper=_Readable, sort_keys=False, allow_unicode=True, width=120)


def _flags(specification: Specification) -> list[str]:
    """Of `clipmill run`: KubeRay would run again what ends with any code but 0, and spend the budget again."""
    jobs = [step.job for step in specification.steps]
    limited = any(getattr(job, "deadline", None) or getattr(job, "budget", None) for job in jobs)
    return ["--limits-are-success"] if limited else []


def _set(variables: Sequence[str]) -> list[str]:
    return [word for variable in variables for word in ("--set", variable)]


def _checked(image: str) -> str:
    try:
        return with_a_tag(image)
    except ValueError as error:
        raise UserError(f"--image {image}: {error}") from error


def _shown(variables: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE each. UserError for a secret among them, as `submit` refuses one."""
    words = [f"{name}={value}" for name, value in variables.items()]
    for name, word in zip(variables, words, strict=True):
        if shows_secret(word):
            raise UserError(
                f"--set {name}: a secret, which a manifest would show: put it into a Kubernetes secret, name that "
                "under cluster.secrets, and write {{ env.NAME }} in the specification"
            )
    return words


def _secret_in(content: Any, where: str) -> str | None:
    """The first field with a secret's name and a value that is there to be read."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if is_secret(str(key)) and isinstance(value, str) and "{{" not in value and key != "auth_secret":
                return f"{where}{key}"
            if field := _secret_in(value, f"{where}{key}."):
                return field
    if isinstance(content, list):
        for index, item in enumerate(content):
            if field := _secret_in(item, f"{where.rstrip('.')}[{index}]."):
                return field
    return None


class _Readable(yaml.SafeDumper):
    """Texts of several lines as blocks, and no anchors."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)

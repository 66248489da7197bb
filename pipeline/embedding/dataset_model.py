"""The model that a dataset was made with, loaded again: to label its images, or to turn a query into a vector."""

from __future__ import annotations

from ...clipmodel.download import Progress
from ...clipmodel.models import AnyModel, load
from ...clipmodel.spec import spec_of, weights_option
from ..dataset.dataset import Dataset
from ..errors import ModelError, PlanMismatchError


def load_model(
    dataset: Dataset, alias: str | None = None, spec: str | None = None, progress: Progress | None = None
) -> AnyModel:
    """spec: where its weights are, as `clipmodel.load` takes it; needed where they came from a file of the user's own.

    PlanMismatchError for other weights than the dataset's; ModelError where they cannot be found.
    """
    model = dataset.model(alias)
    try:
        loaded = load(spec or spec_of(model.variant, model.weights), progress=progress)
    except ModelError as error:
        if spec is None:
            raise ModelError(
                f"{dataset.url} was made with {model.variant} ({model.weights}): name its weights with "
                f"{weights_option(model.variant)} ({error})"
            ) from error
        raise
    if loaded.card.weights_sha256 != model.weights_sha256:
        raise PlanMismatchError(
            f"{spec or model.variant}: its weights are {loaded.card.weights_sha256[:12]}… ({loaded.card.weights}), but "
            f"{dataset.url} was made with {model.weights_sha256[:12]}… ({model.weights})"
        )
    return loaded

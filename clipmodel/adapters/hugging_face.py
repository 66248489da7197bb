"""`hf:REPO_OR_FOLDER`: models of transformers that have get_image_features and get_text_features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn

from ..checkpoint import weight_files
from ..download import Progress
from ..errors import ModelError, one_line
from ..hub_configs import FILES_BESIDE, TOKENIZER_FILES, VOCABULARY_FILES, read_json
from ..packed import PackedFiles
from ..remembered import remembered_sha256
from ..resolve import Resolved
from ..spec import ModelSpec
from .assembling import Parts, assembled, image_input
from .card import Adapted, Origin
from .processor import Processor, processor_files
from .repository import check_one_of, downloaded
from .texts import HuggingFaceTexts, tokenizer_in

_UNLIMITED = 1 << 20  # tokens: transformers has a huge number where a tokenizer knows no limit
_READ_WITHOUT_MASK = ("siglip", "siglip2")  # types of models that were trained on padding
_FILES = (
    ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", *FILES_BESIDE),
    ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json", *FILES_BESIDE),
)
_NEEDS_CODE = "needs code of its own, which is not run; take a model that transformers itself knows"


def resolve(spec: ModelSpec, progress: Progress | None) -> Resolved:
    """ModelError for what transformers itself cannot load, told from its configuration."""
    assert spec.variant is not None
    name = spec.variant.removeprefix("hf:")
    folder = Path(name).expanduser()
    weights = folder.resolve().name if folder.is_dir() else name
    if not folder.is_dir():
        folder = downloaded(name, _FILES, weight_files, progress)
    check_kind(folder / "config.json")
    files = weight_files(folder)
    return Resolved("hf", weights, files, remembered_sha256(files), library="hf")


def check_kind(path: Path) -> None:
    """ModelError where a config.json is of no model of transformers' own."""
    values = read_json(path)
    kind = values.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        reason = _NEEDS_CODE if "auto_map" in values else f"is of type {kind}, which transformers does not know"
        raise ModelError(f"{path}: the model {reason}")


def read(resolved: Resolved, device: Any) -> Adapted:
    """The model in float32. ModelError for what cannot be read, or has no features of images and texts."""
    folder = resolved.files[0].parent
    with _quiet():
        inner = _model(folder)
        texts = _texts(folder, inner)
        images, blank = image_input(processor(folder), "hf", processor_files(folder))
    padding = int(tokenizer_in(texts.files)[0].pad_token_id)
    function = partial(_text_features, masked=texts.padded_with is None, padding=padding)
    parts = Parts(inner, _image_features, function, images, blank, texts)
    sha256 = resolved.sha256 or remembered_sha256(resolved.files)
    variant = f"hf:{type(inner).__name__}"
    adapted = assembled(parts, Origin(variant, resolved.weights, sha256, "transformers", transformers.__version__))
    adapted.model.to(device)
    return adapted


def processor(folder: Path) -> Processor:
    """As `Adapter.processor`."""
    return Processor.of(folder)


def _model(folder: Path) -> nn.Module:
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        model, loading = transformers.AutoModel.from_pretrained(
            folder, config=config, weights_only=True, output_loading_info=True, **options
        )
    except Exception as error:  # the library's own kinds
        raise ModelError(f"{folder}: transformers cannot load it: {one_line(error)[:300]}") from error
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise ModelError(
            f"{folder}: a {type(model).__name__} has no get_image_features and get_text_features: name a model of "
            "images and texts"
        )
    if missing := sorted([*loading["missing_keys"], *map(str, loading["mismatched_keys"])]):
        raise ModelError(f"{folder}: the weights lack {len(missing)} tensors of the model, such as {missing[0]}")
    return model.float()


def _texts(folder: Path, model: Any) -> HuggingFaceTexts:
    check_one_of(folder, VOCABULARY_FILES, "tokenizer")
    files = PackedFiles.of([path for name in ("config.json", *TOKENIZER_FILES) if (path := folder / name).is_file()])
    try:
        tokenizer, _ = tokenizer_in(files)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    context = _context_length(tokenizer, model.config)
    if context is None:
        raise ModelError(f"{folder}: tokenizer_config.json has no model_max_length, and config.json no positions")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no token for padding; name one in tokenizer_config.json")
    masked = "attention_mask" in tokenizer.model_input_names and model.config.model_type not in _READ_WITHOUT_MASK
    if masked and tokenizer.padding_side == "left":
        raise ModelError(f"{folder}: its tokenizer pads on the left, and its model reads a mask: that is not supported")
    return HuggingFaceTexts(files, context, None if masked else int(tokenizer.pad_token_id))


def _context_length(tokenizer: Any, config: Any) -> int | None:
    """The tokens that the tokenizer and the text tower's positions allow."""
    text = getattr(config, "text_config", config)
    most = [tokenizer.model_max_length] if tokenizer.model_max_length < _UNLIMITED else []
    if positions := getattr(text, "max_position_embeddings", None):
        # RoBERTa counts positions from the one after its padding's id
        skipped = int(text.pad_token_id or 0) + 1 if _counts_like_roberta(config.model_type, text) else 0
        most.append(positions - skipped)
    return min(most, default=None)


def _counts_like_roberta(kind: str, text: Any) -> bool:
    return "roberta" in getattr(text, "model_type", "") or kind == "altclip"


def _image_features(model: Any, pixels: Tensor) -> Tensor:
    return _vectors(model.get_image_features(pixel_values=pixels))


def _text_features(model: Any, tokens: Tensor, masked: bool, padding: int) -> Tensor:
    there = tokens >= 0
    mask = {"attention_mask": there.long()} if masked else {}
    return _vectors(model.get_text_features(input_ids=tokens.masked_fill(~there, padding), **mask))


def _vectors(features: Any) -> Tensor:
    """Version 5 has them in an object."""
    return features if isinstance(features, Tensor) else features.pooler_output


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and warnings; our lines say what is wrong."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

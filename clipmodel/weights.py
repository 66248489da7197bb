"""Models by name, by release or by file: find, verify, convert, fingerprint.

Two steps, so that a driver can do the first once and workers the second many times:
`resolve` finds the files, downloading what is missing, and hashes them; `read` makes a model of them and never
uses the network. `load` is both; `describe` is what a driver needs of the second step. `checkpoint.py` knows the
formats, `convert.py` the layouts, `infer.py` the shapes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .card import ModelCard, Sigmoid
from .checkpoint import Contents, read_checkpoint
from .config import VARIANTS, CLIPConfig, variant
from .download import Progress
from .errors import ModelError
from .header import HEADER, write_header
from .infer import Heads, infer, is_siglip, looks_like, mismatches, same_architecture
from .model import CLIP
from .preprocess import Preprocess
from .remembered import remembered_sha256
from .resolve import Resolved, resolve
from .spec import ModelSpec, parse_spec
from .tokenizer import FULL_VOCABULARY, Tokenizer
from .vocabulary import FILES, PieceTokenizer, VocabularyFile

__all__ = [
    "Loaded",
    "ModelCard",
    "ModelSpec",
    "Resolved",
    "describe",
    "load",
    "parse_spec",
    "random_weights",
    "read",
    "resolve",
    "save",
    "sha256_of_tensors",
]


@dataclass(frozen=True)
class Loaded:
    """A model ready to encode, and the two things that make its inputs."""

    model: CLIP  # in eval mode, without gradients
    tokenizer: Tokenizer | PieceTokenizer
    preprocess: Preprocess
    card: ModelCard


def load(
    spec: str | Resolved,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Loaded:
    """A model, its tokenizer, its preprocessing and its card, of a spec as in `parse_spec`.

    Weights are read as float32 and cast to `dtype` afterwards. ModelError, one line that says what to do, for
    every fault of the spec or the files.
    """
    resolved = spec if isinstance(spec, Resolved) else resolve(spec, progress=progress)
    return read(resolved, device=device, dtype=dtype)


def read(resolved: Resolved, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Loaded:
    """The second step of `load`; never uses the network."""
    if not resolved.files:
        assert resolved.variant is not None
        model = random_weights(variant(resolved.variant), resolved.seed)
        tensors = model.state_dict()
        sha256, sigmoid = sha256_of_tensors(tensors), Sigmoid.of(tensors)
        card = ModelCard(resolved.variant, resolved.weights, sha256, model.config, sigmoid=sigmoid)
    else:
        name, config, contents = _contents(resolved)
        model = _build(config, contents.tensors)
        card = _card(resolved, name, config, contents)
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return Loaded(model, card.texts(), card.images(), card)


def describe(resolved: Resolved) -> ModelCard:
    """The card that `read` would give, and its ModelErrors, as far as files can be judged by their tensors' names and
    shapes: of safetensors no more is read. Other formats are read, and random weights made."""
    if not resolved.files:
        return read(resolved).card
    return _card(resolved, *_contents(resolved, shapes_only=True))


def _card(resolved: Resolved, name: str, config: CLIPConfig, contents: Contents) -> ModelCard:
    file = None
    if config.text.vocabulary != "clip":
        folder = resolved.files[0].parent
        file = VocabularyFile.beside(folder)
        if file is None:
            raise ModelError(
                f"{folder}: there is no {' or '.join(FILES)} beside the weights; put their tokenizer there"
            )
    sha256, sigmoid = resolved.sha256 or remembered_sha256(resolved.files), Sigmoid.of(contents.tensors)
    return ModelCard(name, resolved.weights, sha256, config, file, sigmoid)


def _contents(resolved: Resolved, *, shapes_only: bool = False) -> tuple[str, CLIPConfig, Contents]:
    """The variant's name, its configuration, and the tensors that fit it."""
    contents = read_checkpoint(resolved.files, shapes_only=shapes_only)
    try:
        contents = _without_added_tokens(contents, variant(resolved.variant) if resolved.variant else None)
        return *_identify(resolved, contents), contents
    except ModelError as error:
        raise ModelError(f"{resolved.files[0]}: {error}") from error


def _identify(resolved: Resolved, contents: Contents) -> tuple[str, CLIPConfig]:
    """The variant's name and configuration. What the file or the release says goes before what the name implies."""
    requested = variant(resolved.variant) if resolved.variant else None
    if is_siglip(contents.tensors) and contents.beside.activation not in (None, "gelu_tanh"):
        raise ModelError("holds SigLIP, and the settings beside it are those of a CLIP: put its own there")
    if requested:
        requested = replace(_with_context_of(requested, contents.tensors), sigmoid="logit_bias" in contents.tensors)
        if wrong := next(mismatches(contents.tensors, requested), None):
            raise ModelError(f"does not fit {resolved.variant}: {wrong}{_hint(contents.tensors)}")
    if contents.config:
        config = contents.config
        heads = Heads(config.vision.heads, config.text.heads)
        if not same_architecture(config, inferred := infer(contents.tensors, heads)):
            raise ModelError(f"its header describes {looks_like(config)}, its tensors {looks_like(inferred)}")
    elif requested:
        config = requested
        if contents.beside.heads not in (None, Heads(requested.vision.heads, requested.text.heads)):
            raise ModelError(f"does not fit {resolved.variant}: its config.json has other numbers of attention heads")
    else:
        config = _inferred(contents)
    if not contents.config:
        source = resolved.release or contents.beside
        if activation := source.activation:
            config = replace(config, activation=activation)
        if preprocess := source.preprocess:
            config = replace(config, preprocess=preprocess)
    if (contents.config or not requested) and (wrong := next(mismatches(contents.tensors, config), None)):
        raise ModelError(wrong)
    return contents.variant or _name(config, resolved.variant), config


def _without_added_tokens(contents: Contents, requested: CLIPConfig | None) -> Contents:
    """Without the rows of tokens added after [EOS], which our tokenizer never makes."""
    embedding = contents.tensors.get("token_embedding.weight")
    if contents.config or embedding is None or contents.beside.vocabulary or is_siglip(contents.tensors):
        return contents
    if requested:
        size = requested.text.vocab_size
    else:
        size = FULL_VOCABULARY if contents.beside.eos is None else contents.beside.eos + 1
    if embedding.dim() != 2 or len(embedding) <= size:
        return contents
    return replace(contents, tensors={**contents.tensors, "token_embedding.weight": embedding[:size]})


def _with_context_of(config: CLIPConfig, tensors: Mapping[str, Tensor]) -> CLIPConfig:
    """The context length is the file's, as models with longer ones are trained under their variant's name."""
    positions = tensors.get("positional_embedding")
    if positions is None or positions.dim() != 2 or positions.shape[1] != config.text.width or not len(positions):
        return config
    return replace(config, text=replace(config.text, context_length=len(positions)))


def _inferred(contents: Contents) -> CLIPConfig:
    if not any(key.startswith(("visual.", "token_embedding.")) for key in contents.tensors):
        some = ", ".join(sorted(contents.tensors)[:3]) or "none"
        raise ModelError(f"holds no CLIP model: its tensors are {some}; name a file with the whole model's state dict")
    config = infer(contents.tensors, contents.beside.heads, contents.beside.vocabulary)
    if contents.beside.activation is None and not is_siglip(contents.tensors):
        names = [name for name, row in VARIANTS.items() if same_architecture(config, row)][:3]
        choice = " or ".join(f"{name}=PATH" for name in names) or "NAME=PATH"
        raise ModelError(f"its tensors do not say whether it uses QuickGELU or GELU: name the variant, {choice}")
    vision, size = config.vision, contents.beside.image_size
    if size and vision.patch_size and size // vision.patch_size == vision.image_size // vision.patch_size:
        config = replace(config, vision=replace(vision, image_size=size))
    return config


def _hint(tensors: Mapping[str, Tensor]) -> str:
    try:
        return f"; this looks like {looks_like(infer(tensors))}"
    except ModelError:
        return ""


def _name(config: CLIPConfig, requested: str | None) -> str:
    """The variant that `config` is: the one requested if it is, else its namesake of another activation, else any."""
    rows = [
        name for name, row in VARIANTS.items() if same_architecture(config, row) and row.activation == config.activation
    ]
    if requested in rows:
        return requested
    namesakes = [name for name in rows if requested and name.startswith(requested)]
    return (namesakes or rows or [requested or "custom"])[0]


def _build(config: CLIPConfig, tensors: Mapping[str, Tensor]) -> CLIP:
    with torch.device("meta"):  # the tensors are assigned below: no second copy, nothing initialised in vain
        model = CLIP(config)
    state = {
        key: tensor.to(torch.float32).contiguous() if tensor.is_floating_point() else tensor
        for key, tensor in tensors.items()
    }
    for key, like in model.state_dict().items():
        if key not in state:  # only batch counters, as `mismatches` says
            state[key] = torch.zeros(like.shape, dtype=like.dtype)
    model.load_state_dict(state, assign=True)
    return model


def random_weights(config: CLIPConfig, seed: int = 0) -> CLIP:
    """A freshly initialised model, the same for the same seed. The caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(config)


def sha256_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(
    model: CLIP, path: str | Path, *, variant: str | None = None, dtype: torch.dtype | None = None, **metadata: str
) -> None:
    """Write the model as safetensors that `load` restores exactly, configuration included; whole or not at all.

    variant: its name, which need not be in the table. dtype: float16 halves the file; only matrices are cast, as
    the rest weighs nothing and variances and the temperature need the range. metadata: strings to keep beside.
    """
    tensors = {
        key: tensor.detach().to("cpu", dtype if tensor.is_floating_point() and tensor.dim() > 1 else None).contiguous()
        for key, tensor in model.state_dict().items()
    }
    header = write_header(model.config, variant, metadata)
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # safetensors would make it readable to its owner alone
        save_file(tensors, part, metadata={"format": "pt", HEADER: header})
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

"""Files of heads: random weights in the published layouts give what the authors' own few lines give; others are
recognised, or refused in one line."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clipmill.clipmodel import download
from clipmill.pipeline.errors import ModelError
from clipmill.pipeline.scoring import presets
from clipmill.pipeline.scoring.head_files import head_tensors
from clipmill.pipeline.scoring.presets import PRESETS
from fsspec.implementations.memory import MemoryFileSystem
from made import unit_vectors
from safetensors.torch import save_file
from score_kit import scorer, values
from torch import Tensor, nn


def aesthetic(width: int) -> nn.Module:
    """The improved predictor, as its authors write it: dropout between the layers, and no activation."""
    sizes = [width, 1024, 128, 64, 16, 1]
    linear = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    model = nn.Module()
    model.layers = nn.Sequential(
        linear[0], nn.Dropout(0.2), linear[1], nn.Dropout(0.2), linear[2], nn.Dropout(0.1), linear[3], linear[4]
    )
    model.forward = model.layers.forward  # type: ignore[method-assign]
    return model


class Detector(nn.Module):
    """The detector of L/14 and B/32, as its authors write it."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.norm = nn.Module()
        self.norm.register_buffer("mean", torch.randn(sizes[0]) * 0.03)
        self.norm.register_buffer("variance", torch.rand(sizes[0]) * 1e-3 + 1e-6)
        self.depth = len(sizes) - 1
        for number, (a, b) in enumerate(pairwise(sizes), 1):
            self.add_module(f"linear_{number}", nn.Linear(a, b))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.norm.mean) / (self.norm.variance.sqrt() + 1e-10)
        for number in range(1, self.depth):
            x = torch.relu(getattr(self, f"linear_{number}")(x))
        return torch.sigmoid(getattr(self, f"linear_{self.depth}")(x))


AUTHORS = {
    "laion-aesthetic-l14": lambda: aesthetic(768),
    "laion-aesthetic-l14-linear": lambda: nn.Linear(768, 1),
    "laion-aesthetic-b32-linear": lambda: nn.Linear(512, 1),
    "laion-nsfw-l14": lambda: Detector(768, 64, 512, 256, 1),
    "laion-nsfw-b32": lambda: Detector(512, 32, 32, 1),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_random_weights_in_a_published_layout_score_as_their_authors_code_does(
    name: str, datasets: Any, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    theirs, width = AUTHORS[name]().eval(), PRESETS[name].widths[0]
    torch.save(theirs.state_dict(), path := tmp_path / "published.pth")
    vectors = unit_vectors(5, 50, width)
    with torch.inference_mode():
        wanted = theirs(torch.from_numpy(vectors)).numpy()
    assert wanted.std() > 1e-3
    for weights in (path, f"{name}={path}"):  # by its layers alone, and by name
        np.testing.assert_allclose(values(scorer(datasets[width], weights), vectors), wanted, atol=2e-5)


def test_every_preset_is_of_a_model_with_known_weights_and_has_a_commit_in_its_url() -> None:
    assert PRESETS.keys() == AUTHORS.keys()
    for preset in PRESETS.values():
        assert len(preset.model_sha256) == 64 and len(preset.widths) == len(preset.layers) + 1
        assert any(len(piece) == 40 for piece in preset.url.split("/"))


def test_a_preset_is_downloaded_once_verified_and_kept(datasets: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "why_unreachable", lambda _: None)
    torch.save(aesthetic(768).state_dict(), path := tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    sha256, name = download.sha256_of([path]), "laion-aesthetic-l14"
    served = replace(PRESETS[name], url=path.as_uri().replace("+", "%2B"), sha256=sha256)
    monkeypatch.setitem(presets.PRESETS, name, served)
    assert scorer(datasets[768], name).sha256 == sha256
    path.unlink()
    assert scorer(datasets[768], name).source == f"{name} (sac+logos+ava1-l14-linearMSE.pth)"
    kept = tmp_path / "cache" / "heads" / path.name
    kept.write_bytes(kept.read_bytes() + b"more")
    with pytest.raises(ModelError, match=f"has sha256 .*, not {sha256}: delete it"):
        scorer(datasets[768], name)


def test_without_a_network_it_says_where_to_put_the_file(datasets: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "why_unreachable", lambda _: "no route")
    with pytest.raises(ModelError, match=r"network is not reached .*or give its path: --head s=laion-nsfw-b32=PATH"):
        scorer(datasets[512], "laion-nsfw-b32")


def save(tensors: Mapping[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(dict(tensors), path)
    return path


LAYERS = (nn.Linear(4, 3), nn.Linear(3, 5, bias=False), nn.Linear(5, 2))


def named(*names: str) -> dict[str, Tensor]:
    return {
        f"{name}{key}": value
        for name, layer in zip(names, LAYERS, strict=True)
        for key, value in layer.state_dict().items()
    }


@pytest.mark.parametrize(
    "tensors",
    [
        named("layers.2.", "layers.10.", "layers.11."),  # numbers are numbers
        named("module.fc1.", "module.fc2.", "module.fc3."),
        named("hidden.", "inner.", "classifier."),
        {"epoch": 3, "state_dict": named("net.0.", "net.3.", "net.6.")},
        {name: tensor.half() for name, tensor in named("a.", "b.", "c.").items()},
    ],
)
@pytest.mark.parametrize("between", ["relu", "none", "gelu"])
def test_layers_are_recognised_whatever_they_are_called(
    tensors: Any, between: str, datasets: Any, tmp_path: Path
) -> None:
    activation = {"relu": torch.relu, "none": lambda x: x, "gelu": nn.functional.gelu}[between]
    suffix = ".pt" if "state_dict" in tensors else ".safetensors"
    path, vectors = tmp_path / f"head{suffix}", unit_vectors(1, 20)
    if suffix == ".pt":
        torch.save(tensors, path)
    else:
        save(tensors, path)
    x = torch.from_numpy(vectors)
    with torch.inference_mode():
        wanted = torch.tanh(LAYERS[2](activation(LAYERS[1](activation(LAYERS[0](x))))))
    found = scorer(datasets[4], path, activations=[f"s={between}+tanh"])
    assert list(found.types) == ["s_0", "s_1"]
    np.testing.assert_allclose(values(found, vectors), wanted, atol=3e-3 if "a.bias" in tensors else 1e-6)


def test_a_head_may_lie_in_an_object_store(datasets: Any, memory: MemoryFileSystem) -> None:
    torch.save(LAYERS[0].state_dict(), file := io.BytesIO())
    memory.pipe_file("/heads/one.pt", file.getvalue())
    found = scorer(datasets[4], "memory://heads/one.pt")
    assert (found.source, found.layout, list(found.types)) == ("one.pt", "4-3", ["s_0", "s_1", "s_2"])
    with pytest.raises(ModelError, match=r"memory://heads/gone.pt: cannot be read"):
        scorer(datasets[4], "memory://heads/gone.pt")


def test_by_default_there_is_relu_between_layers_and_nothing_at_the_end(datasets: Any, tmp_path: Path) -> None:
    path = save(named("0.", "2.", "4."), tmp_path / "mlp.pt")
    found, vectors = scorer(datasets[4], path), unit_vectors(1, 20)
    assert found.layout == "4-3-5-2, relu between"
    with torch.inference_mode():
        wanted = nn.Sequential(LAYERS[0], nn.ReLU(), LAYERS[1], nn.ReLU(), LAYERS[2])(torch.from_numpy(vectors))
    np.testing.assert_allclose(values(found, vectors), wanted, atol=1e-6)


class Evil:
    def __reduce__(self) -> Any:
        return exec, ("pass",)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "an empty file"),
        (b"nothing of the kind", "not a checkpoint"),
        ({"weight": torch.zeros(4)}, r"holds no linear layer .* but weight \[4\]"),
        ({"weight": torch.zeros(1, 6)}, "reads embeddings of 6 numbers"),
        ({"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(1, 5)}, "layers do not follow each other"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(3)}, r"the bias of the layer has shape \[3\], not \[2\]"),
        ({"0.weight": torch.zeros(3, 4), "1.running_mean": torch.zeros(3)}, r"holds 1.running_mean \[3\], which is of"),
        ({"weight": torch.zeros(1, 4), "mean": torch.zeros(4)}, "has mean, but neither variance nor std"),
        (
            {"weight": torch.zeros(1, 4), "mean": torch.zeros(3), "std": torch.ones(3)},
            r"mean and variance have shape \[3\], but its",
        ),
        ({"weight": torch.zeros(1, 4), "more": Evil()}, r"refusing to unpickle code \(builtins.exec\)"),
        ([1, 2], "holds a list, not a state dict"),
    ],
)
def test_what_is_no_head_is_refused_in_one_line_and_not_run(
    content: Any, complaint: str, datasets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ModelError, match=complaint) as raised:
        scorer(datasets[4], path)
    assert str(raised.value).startswith(f"--head s={path}: ") and "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""


def test_a_file_of_other_layers_is_not_the_preset(datasets: Any, tmp_path: Path) -> None:
    path = save(nn.Linear(768, 1).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(ModelError, match="its layers are 768-1, not those of laion-aesthetic-l14"):
        scorer(datasets[768], f"laion-aesthetic-l14={path}")


def test_the_mean_and_deviation_count_whatever_their_names() -> None:
    tensors = {
        "weight": torch.ones(1, 2),
        "scaler.mean": torch.tensor([[1.0, 2.0]]),
        "scaler.std": torch.tensor([2.0, 4]),
    }
    head = head_tensors(tensors).head("none", "none")
    assert head(np.array([[3.0, 6.0]], np.float32)).tolist() == [[2.0]]

"""Every broken or foreign file gives one line, and no file runs code."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.model import CLIP
from clipmill.clipmodel.weights import load, save
from safetensors.torch import load_file, save_file
from weights_kit import error_of

pytestmark = pytest.mark.usefixtures("variants")


class Code:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "torchscript"])
def test_a_pickle_with_code_is_refused_and_does_not_run(model: CLIP, archive: Path, form: str, tmp_path: Path) -> None:
    path, ran = tmp_path / "model.pt", tmp_path / "ran"
    payload = {**model.state_dict(), "code": Code(ran)}
    if form == "bare":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    elif form == "torchscript":
        with zipfile.ZipFile(archive) as good, zipfile.ZipFile(path, "w") as bad:
            for name in good.namelist():
                code = pickle.dumps(Code(ran), protocol=2)
                bad.writestr(name, code if name.endswith("/data.pkl") else good.read(name))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    assert "refusing to unpickle code (" in error_of(f"S/16={path}")
    assert not ran.exists()
    with path.open("rb") as file:  # the file was one that would have
        if form == "bare":
            pickle.load(file)
            assert ran.exists()


def test_a_pickled_module_is_refused(model: CLIP, tmp_path: Path) -> None:
    torch.save(model, tmp_path / "model.pt")
    assert "refusing to unpickle code (clipmill.clipmodel.model.CLIP)" in error_of(f"S/16={tmp_path / 'model.pt'}")


@pytest.mark.parametrize("form", ["zip", "legacy", "torchscript", "safetensors", "ours"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_says_so(model: CLIP, archive: Path, form: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / ("model.safetensors" if form in ("safetensors", "ours") else "model.pt")
    if form == "torchscript":
        shutil.copy(archive, path)
    elif form == "safetensors":
        save_file(model.state_dict(), path)
    elif form == "ours":
        save(model, path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    message = error_of(f"S/16={path}")
    assert str(path) in message
    assert ("truncated" in message) if kept else ("an empty file" in message)


@pytest.mark.parametrize("form", ["zip", "torchscript"])
def test_a_tampered_archive_is_noticed(model: CLIP, archive: Path, form: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    if form == "zip":
        torch.save(model.state_dict(), path)
    else:
        shutil.copy(archive, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(model.visual.proj.numpy().tobytes()[:64])] ^= 1
    path.write_bytes(raw)
    assert "damaged" in error_of(f"S/16={path}")


def lie(path: Path, **values: Any) -> None:
    """Change the file's clipmill header."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["clipmill"])
    for key, value in values.items():
        where = header["config"]
        *parents, last = key.split("__")
        for parent in parents:
            where = where[parent]
        where[last] = value
    save_file(load_file(path), path, metadata={"clipmill": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"embed_dim": 65}, "its header describes"),
        ({"vision__layers": 10**12}, "its header describes a ViT of 1000000000000 layers"),
        ({"vision__head_width": 0}, "header is not understood"),
        ({"text__heads": "many"}, "header is not understood"),
        ({"vision__head_width": 1000}, "header is not understood"),
        ({"activation": "swish"}, "unknown activation"),
        ({"novelty": 1}, "made by a newer clipmill?"),
        ({"preprocess__mean": None}, "header is not understood"),
    ],
)
def test_a_header_that_lies_is_refused(model: CLIP, change: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(model, path)
    lie(path, **change)
    assert says in error_of(str(path))


def test_a_safetensors_header_that_is_damaged_is_refused(model: CLIP, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(model, path)
    raw = path.read_bytes()
    for broken in (raw[:8] + b"{]" + raw[10:], b"\xff" * 8 + raw[8:], os.urandom(7) + b"\x00" + raw[8:], b"x" * 500):
        path.write_bytes(broken)
        assert "truncated or damaged safetensors (" in error_of(f"S/16={path}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!doctype html><title>Sign in</title>", "not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\x80", "not a checkpoint"),
        (b"\x80\x02" + bytes(range(100, 200)), "not a checkpoint"),
        (pickle.dumps([1, 2, 3], protocol=2), "truncated or damaged"),
        (b"PK\x03\x04 and nothing like a zip", "truncated or damaged zip"),
    ],
)
def test_what_is_no_checkpoint_says_so(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    assert says in error_of(f"S/16={tmp_path / 'model.pt'}")


def test_other_things_in_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save([torch.zeros(2)], path)
    assert "holds a list, not a state dict" in error_of(str(path))
    torch.save({"fc.weight": torch.zeros(2, 2), "conv1.weight": torch.zeros(2, 2)}, path)
    assert "no CLIP model: its tensors are conv1.weight, fc.weight" in error_of(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "truncated or damaged" in error_of(str(path))
    assert "without config.json" in error_of(str(tmp_path))
    save_file({"visual.conv1.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    assert "tensor visual.conv1.weight has shape [2, 2], not one of 4 dimensions" in error_of(
        str(tmp_path / "w.safetensors")
    )


@pytest.mark.parametrize("form", ["zip", "legacy", "torchscript", "ours"])
def test_random_damage_never_gives_anything_but_a_model_or_a_line(
    model: CLIP, archive: Path, form: str, tmp_path: Path
) -> None:
    good, path = tmp_path / "good", tmp_path / "bad"
    if form == "torchscript":
        good = archive
    elif form == "ours":
        save(model, good)
    else:
        torch.save(model.state_dict(), good, _use_new_zipfile_serialization=form == "zip")
    generator, refused = random.Random(form), 0
    for _ in range(40):
        raw = bytearray(good.read_bytes())
        for _ in range(3):  # where the structure is: both ends
            place = generator.randrange(3000)
            raw[generator.choice([place, -1 - place])] = generator.randrange(256)
        path.write_bytes(raw)
        try:
            load(f"S/16={path}")
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 10

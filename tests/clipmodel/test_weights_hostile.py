"""Files made to exhaust memory, time or the stack are refused in one line, before they are read."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from clipmill.clipmodel.model import CLIP
from weights_kit import error_of

pytestmark = pytest.mark.usefixtures("variants")


def nested(metadata: str, path: Path) -> Path:
    """A safetensors file without tensors whose clipmill header is this text."""
    header = json.dumps({"__metadata__": {"clipmill": metadata}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config":' * 50_000, '{"config": {"vision": ' + "[" * 90_000])
def test_a_header_nested_without_end_is_one_line(text: str, tmp_path: Path) -> None:
    path = nested(text, tmp_path / "nested.safetensors")
    message = error_of(f"tiny={path}")
    assert message.startswith(f"{path}: its clipmill header is not understood (") and "nested too deeply" in message


def test_a_header_that_is_long_is_one_line(tmp_path: Path) -> None:
    long = json.dumps({"config": {"vision": {"layers": 1, "x" * 90_000: 1}, "preprocess": {"mean": [], "std": []}}})
    assert "is not understood (" in error_of(str(nested(long, tmp_path / "long.safetensors")))


def bomb(path: Path, archive: Path | None = None, size: int = 2 << 30) -> Path:
    """An archive of TorchScript or of PyTorch one of whose members would unpack to `size` bytes of nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bad:
        if archive:
            with zipfile.ZipFile(archive) as good:
                for name in good.namelist():
                    bad.writestr(name, good.read(name))
        root = bad.namelist()[0].split("/")[0] if archive else "archive"
        with bad.open(f"{root}/data/bomb", "w", force_zip64=True) as member:
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
        if not archive:
            bad.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
            bad.writestr("archive/version", b"3\n")
    return path


@pytest.mark.parametrize("scripted", [True, False], ids=["torchscript", "zip"])
def test_an_archive_that_unpacks_to_gigabytes_is_refused_from_its_directory(
    scripted: bool, archive: Path, tmp_path: Path
) -> None:
    path = bomb(tmp_path / "bomb.pt", archive if scripted else None)
    assert path.stat().st_size < 5_000_000
    script = f"""
import resource
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.weights import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try: load({f"tiny={path}"!r})
except ModelError as error: print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    message, grown = done.stdout.splitlines()
    assert message.startswith(f"{path}: not a checkpoint: ") and "bytes that would unpack to 2,1" in message
    assert int(grown) < 100  # megabytes


def test_a_checkpoint_that_was_compressed_is_still_read(model: CLIP, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with (
        zipfile.ZipFile(tmp_path / "model.pt") as plain,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    from clipmill.clipmodel.weights import load

    assert torch.equal(load(f"S/16={tmp_path / 'small.pt'}").model.visual.proj, model.visual.proj)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_views_that_repeat_a_number_are_refused_before_they_are_copied(
    model: CLIP, legacy: bool, tmp_path: Path
) -> None:
    path = tmp_path / "views.pt"
    tensors: dict[str, Any] = dict(model.state_dict())
    tensors["visual.conv1.weight"] = torch.zeros(1).expand(10**6, 3, 64, 64)
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    start = time.perf_counter()
    assert "bytes whose tensors would take 49,1" in error_of(str(path))
    assert time.perf_counter() - start < 5


class Folded:
    """Pickles as a scripted module that has the next one twice: 2^40 paths lead to the last."""

    def __init__(self, depth: int) -> None:
        self.inner = Folded(depth - 1) if depth else None

    def __getstate__(self) -> dict[str, Any]:
        return {"a": self.inner, "b": self.inner} if self.inner else {}


def test_modules_that_contain_one_another_many_times_over_are_refused(tmp_path: Path) -> None:
    packed = pickle.dumps(Folded(40), protocol=2).replace(b"c" + __name__.encode() + b"\nFolded\n", b"c__torch__\nF\n")
    path = tmp_path / "folded.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folded/data.pkl", packed)
        archive.writestr("folded/constants.pkl", b"")
    start = time.perf_counter()
    assert "more than 100000 modules" in error_of(f"tiny={path}")
    assert time.perf_counter() - start < 5


def test_an_archive_without_its_pickle_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "empty.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
    assert "truncated or damaged zip archive" in error_of(f"tiny={path}")


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.Popen", "importlib.import_module"])
def test_functions_that_act_are_refused_by_name_wherever_they_stand(name: str, tmp_path: Path) -> None:
    module, function = name.rsplit(".", 1)
    payload = pickle.dumps({"model": dict.fromkeys("ab")}, protocol=2)[:-1]
    payload += f"c{module}\n{function}\n(X\x01\x00\x00\x00xtR.".encode()
    path = tmp_path / "model.pt"
    torch.save({}, path)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for member in good.namelist():
            bad.writestr(member, payload if member.endswith("data.pkl") else good.read(member))
    assert f"refusing to unpickle code ({name})" in error_of(f"tiny={tmp_path / 'bad.pt'}")

"""What torch.compile makes is kept beside the weights' cache, so that a model is compiled once for each kind of GPU."""

from __future__ import annotations

import importlib
import os
import re
import threading

import torch

from ...clipmodel.download import cache_folder

_FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # torch reads it when it first compiles, and keeps Triton's cache there too


def keep_compiled(device: torch.device) -> None:
    """Give torch.compile a folder that outlives the machine's temporary files, unless the user has named one.

    A folder for each release of torch and kind of device. Within it torch itself keys each piece of code by what it
    depends on: the graph, with its shapes, batch and precision; the device's properties; the versions and settings of
    the compiler. Nothing that does not fit is ever taken from it.
    """
    if _FOLDER in os.environ:
        return
    folder = cache_folder() / "compiled" / _plain(f"torch-{torch.__version__}-{_kind(device)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # read-only, say: torch then takes its own, among the temporary files
        return
    if os.access(folder, os.W_OK):
        os.environ[_FOLDER] = str(folder)


def import_compiler() -> threading.Thread:
    """Begin to import torch's compiler: it takes seconds, in which others read weights."""
    thread = threading.Thread(target=importlib.import_module, args=("torch._inductor.compile_fx",), daemon=True)
    thread.start()
    return thread


def _kind(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _plain(text: str) -> str:
    return re.sub(r"[^\w.+]+", "-", text)

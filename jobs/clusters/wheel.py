"""clipmill as a wheel, made of the code that runs: for Ray clusters on which it is not installed.

It names no dependencies: Ray installs a wheel into a folder of its own, where pip would put another copy of everything,
gigabytes of torch among it. The cluster's own packages serve.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

_PACKAGES = ("clipmodel", "pipeline", "jobs")
_SKIP = {"__pycache__"}


def build_wheel(folder: Path) -> Path:
    """Write a wheel of this installation, editable or not, into the folder. The same code gives the same bytes."""
    version = metadata.version("clipmill")
    info = f"clipmill-{version}.dist-info"
    contents = {f"clipmill/{name}": file.read_bytes() for name, file in sorted(_sources().items())}
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: clipmill\nVersion: {version}\n".encode()
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: clipmill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/entry_points.txt"] = b"[console_scripts]\nclipmill = clipmill.jobs.cli:script\n"
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    tag = hashlib.sha256(repr(contents).encode()).hexdigest()[:12]
    path = folder / f"clipmill-{version}-0{tag}-py3-none-any.whl"  # Ray takes wheels of one name for the same
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in contents.items():
            wheel.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def _sources() -> dict[str, Path]:
    root = Path(__file__).resolve().parents[2]  # holds the three packages, whatever it is called
    return {
        file.relative_to(root).as_posix(): file
        for package in _PACKAGES
        for file in (root / package).rglob("*")
        if file.is_file() and not _SKIP.intersection(file.parts)
    }


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

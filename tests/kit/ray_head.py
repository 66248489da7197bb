"""A Ray head as operators have one: started by itself, in an environment in which clipmill is not installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Head:
    dashboard: str  # http://HOST:PORT
    metrics: str  # where Prometheus would look
    head: str  # HOST:PORT, for drivers on its machine
    client: str  # ray://HOST:PORT
    log: Path


@contextmanager
def ray_head(folder: Path, with_clipmill: bool = False, **environment: str) -> Iterator[Head]:
    """Two CPUs, and a token that whoever submits must know. with_clipmill: as the image of infra/docker has it, else as
    people's clusters are. environment: for it and its jobs."""
    python = Path(sys.executable) if with_clipmill else _environment(folder / "env")
    dashboard, metrics, gcs, client, agent = _ports(5)
    command = [
        python,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
        "--disable-usage-stats",
    ]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}"]
    # any free ports for workers: a range would hold one of the above now and then
    command += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=134217728"]
    short = tempfile.mkdtemp(prefix="ray-")  # a socket's path may not be long
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "RAY_AUTH_MODE": "token", **environment}
    # the last as in the image: without it a server for Ray Client now and then crashes as it starts
    env |= {"RAY_AUTH_TOKEN": TOKEN, "RAY_TMPDIR": short, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    env.pop("RAY_ADDRESS", None)
    log = folder / "ray.log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=env, stdout=said, stderr=said, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{dashboard}"
        _wait_for(f"{url}/api/version", log)
        yield Head(url, f"http://127.0.0.1:{metrics}/metrics", f"127.0.0.1:{gcs}", f"ray://127.0.0.1:{client}", log)
    finally:
        _end(process)
        shutil.rmtree(short, ignore_errors=True)


def _environment(folder: Path) -> Path:
    """Everything that is installed here but clipmill, which is found through an editable install's import hook."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    bases = [path for path in dict.fromkeys([sysconfig.get_path("purelib"), *sys.path]) if "site-packages" in path]
    Path(packages, "base.pth").write_text("\n".join(bases))
    pip = folder / "bin" / "pip"  # by which Ray installs wheels
    pip.write_text(f'#!/bin/sh\nexec {python} -m pip "$@"\n')
    pip.chmod(0o755)
    lacking = subprocess.run([python, "-c", "import clipmill.pipeline"], capture_output=True, text=True, check=False)
    assert "No module named 'clipmill'" in lacking.stderr
    return python


def _ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _wait_for(url: str, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not _answers(url):
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5)
    except urllib.error.HTTPError:
        return True  # it wants a token
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """All that it started; `ray stop` would end everybody's Ray."""
    started = [process, *_children(process.pid)]
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for each in started:
        with suppress(psutil.Error, ProcessLookupError):
            each.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []

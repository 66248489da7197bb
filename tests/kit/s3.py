"""An S3 server on loopback for tests: Ceph's RADOS Gateway over one disk in memory; where Ceph is not installed, moto.

Ceph is the real thing: it checks signatures and permissions, and of several writers with `If-None-Match: *` one wins.
It starts in three seconds and takes about 350 MB. Where moto may not stand in (needs.py), no server starts.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmill.pipeline.storage.paced_s3 import PacedS3
from needs import CEPH, may_skip
from s3fs import S3FileSystem

REGION = "us-east-1"


def kind() -> str:
    """The server that tests get: "ceph" or "moto". CLIPMILL_TEST_S3=moto chooses the mock where both are installed."""
    return os.environ.get("CLIPMILL_TEST_S3") or ("moto" if CEPH.is_missing else "ceph")


def forget_clients() -> None:
    """They keep to the environment in which they were made."""
    for kind in (S3FileSystem, PacedS3):
        kind.clear_instance_cache()


@dataclass(frozen=True)
class Account:
    key: str
    secret: str


@dataclass(frozen=True)
class S3Server:
    """`stranger` is another account, without rights on the owner's buckets; moto gives it all the same."""

    port: int
    is_ceph: bool
    owner: Account = Account("ownerkey", "ownersecret")
    stranger: Account = Account("strangerkey", "strangersecret")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """The variables that people set. Files with settings and a cloud's metadata service are switched off."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.owner.key,
            "AWS_SECRET_ACCESS_KEY": self.owner.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def options(self, endpoint: str | None = None, account: Account | None = None) -> dict[str, Any]:
        """The same as storage options, for Ray's workers, whose environment is another."""
        account = account or self.owner
        return {"endpoint_url": endpoint or self.endpoint, "key": account.key, "secret": account.secret}


@dataclass(frozen=True)
class Bucket:
    """A bucket that belongs to the server's owner account."""

    name: str
    server: S3Server

    @classmethod
    def fresh(cls, server: S3Server) -> Bucket:
        bucket = cls(f"test-{uuid.uuid4().hex[:12]}", server)
        bucket.storage.mkdir(bucket.name)
        return bucket

    def url(self, name: str = "") -> str:
        return f"s3://{self.name}/{name}"

    @property
    def storage(self) -> S3FileSystem:
        """Direct access to the server, past the code under test."""
        return S3FileSystem(**self.server.options(), use_listings_cache=False)

    def objects(self) -> dict[str, bytes]:
        """The bucket's objects by key."""
        names = self.storage.find(self.name)
        return {name.removeprefix(f"{self.name}/"): self.storage.cat_file(name) for name in names}

    def uploads(self) -> list[str]:
        """The keys of uploads in pieces that were neither completed nor aborted."""
        answer = self.storage.call_s3("list_multipart_uploads", Bucket=self.name)
        return [upload["Key"] for upload in answer.get("Uploads", [])]


@contextmanager
def serve(folder: Path, in_memory: bool = True) -> Iterator[S3Server]:
    """A server with its files in `folder`, which must be empty. It ends with the context, and with this process.

    in_memory: of Ceph, up to 4 GiB of objects; else a file of up to 32 GiB in the folder holds them."""
    if kind() != "ceph" and not may_skip():
        CEPH.skip()
    with ExitStack() as stack:
        yield _ceph(folder, stack, in_memory) if kind() == "ceph" else _moto(folder, stack)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _start(stack: ExitStack, command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Kept out of the terminal's Ctrl-C, so that tests that are interrupted can still clean up."""
    dies_with_us = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*dies_with_us, *command], stdout=file, stderr=file, start_new_session=True, env=environment
        )

    def stop() -> None:
        process.kill()
        process.wait()

    stack.callback(stop)


def _until(condition: Callable[[], bool], seconds: float, trouble: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{trouble}, even after {seconds:.0f} seconds")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
    except urllib.error.HTTPError:  # an answer too
        return True
    except OSError:
        return False
    return True


# --- Ceph ------------------------------------------------------------------------------------------------------------

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2}/0,v1:127.0.0.1:{v1}/0]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
osd pool default pg num = 8
mon allow pool size one = true
mon warn on pool no redundancy = false
mon pg warn min per osd = 0
paxos propose interval = 0.02
paxos min wait = 0.01
run dir = {folder}/run
admin socket =
log file = {folder}/log/$name.log
crash dir = {folder}/crash
keyring = {folder}/keyring
pid file =
[mon.a]
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 2
[osd.0]
osd data = {folder}/osd
osd objectstore = {store}
memstore device bytes = 4294967296
bluestore block size = 34359738368
osd memory target = 1073741824
osd max object name len on startup = false
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}/rgw
rgw dynamic resharding = false
rgw enable lc threads = false
rgw thread pool size = 64
"""

_CAPABILITIES = {
    "mon.": ["mon", "allow *"],
    "client.admin": ["mon", "allow *", "osd", "allow *", "mgr", "allow *"],
    "client.rgw.a": ["mon", "allow *", "osd", "allow *"],
    "osd.0": ["mon", "allow profile osd", "osd", "allow *"],
}


def _ceph(folder: Path, stack: ExitStack, in_memory: bool) -> S3Server:
    """One monitor, one disk, one gateway. The gateway makes its pools itself."""
    port, v2, v1 = _free_ports(3)
    fsid = str(uuid.uuid4())
    log = folder / "log"
    for name in ("mon", "osd", "rgw", "run", "log", "crash"):
        (folder / name).mkdir()
    store = "memstore" if in_memory else "bluestore"
    configuration = _CONFIGURATION.format(folder=folder, fsid=fsid, port=port, v2=v2, v1=v1, store=store)
    (folder / "ceph.conf").write_text(configuration)
    configured = ["-c", str(folder / "ceph.conf")]

    def run(*command: str) -> str:
        ended = subprocess.run([*command], capture_output=True, text=True, timeout=60, check=False)
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip()}")
        return ended.stdout

    keyring, monmap = str(folder / "keyring"), str(folder / "monmap")
    run("ceph-authtool", "--create-keyring", keyring)
    for entity, capabilities in _CAPABILITIES.items():
        pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
        caps = [word for daemon, rights in pairs for word in ("--cap", daemon, rights)]
        run("ceph-authtool", keyring, "--gen-key", "-n", entity, *caps)
    address = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
    run("ceph-mon", *configured, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
    _start(stack, ["ceph-mon", *configured, "-i", "a", "-f"], log / "mon.out")
    run("ceph", *configured, "osd", "new", fsid, "0")
    run("ceph-osd", *configured, "-i", "0", "--mkfs", "--osd-uuid", fsid)
    _start(stack, ["ceph-osd", *configured, "-i", "0", "-f"], log / "osd.out")
    _start(stack, ["radosgw", *configured, "-n", "client.rgw.a", "-f"], log / "rgw.out")  # waits for the disk
    _until(lambda: _answers(port), 60, "the gateway does not answer")
    server = S3Server(port, is_ceph=True)
    for name, account in (("owner", server.owner), ("stranger", server.stranger)):
        user = ["user", "create", f"--uid={name}", f"--display-name={name}"]
        run("radosgw-admin", *configured, *user, f"--access-key={account.key}", f"--secret-key={account.secret}")
    return server


# --- moto ------------------------------------------------------------------------------------------------------------


def _moto(folder: Path, stack: ExitStack) -> S3Server:
    (port,) = _free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    _start(stack, command, folder / "moto.out", {**os.environ, "TEST_SERVER_MODE": "true"})
    _until(lambda: _answers(port), 60, "moto does not answer")
    return S3Server(port, is_ceph=False)

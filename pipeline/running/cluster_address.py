"""Whether a Ray cluster answers at an address, and takes our token: known at once, where Ray itself tries for half a
minute and writes twenty lines of its own."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from ..errors import InfrastructureError, UserError

_HOST_AND_PORT = re.compile(r"(ray://)?\[?([^/\]]+?)\]?:(\d+)")
_PATIENCE = 5.0  # seconds for an answer
# calls that change nothing, of the two services that drivers connect to
_CLIENT_CALL, _HEAD_CALL = "/ray.rpc.RayletDriver/ClusterInfo", "/ray.rpc.NodeInfoGcsService/CheckAlive"


@dataclass(frozen=True)
class AuthToken:
    """What a Ray cluster may want of whoever connects to it."""

    text: str
    origin: str  # where it was found, for messages

    @classmethod
    def find(cls) -> AuthToken | None:
        """From where Ray's own tools look for it."""
        if text := os.environ.get("RAY_AUTH_TOKEN"):
            return cls(text, "RAY_AUTH_TOKEN")
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
        try:
            text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as the token of a Ray cluster: {error}") from error
        return cls(text, str(path)) if text else None

    @property
    def header(self) -> tuple[str, str]:
        return "authorization", f"Bearer {self.text}"


def token_refused(address: str, token: AuthToken | None) -> UserError:
    """What to say of a cluster that wants another token than this one, or one at all."""
    if token:
        problem = f"the Ray cluster refuses the token in {token.origin}"
    else:
        problem = (
            "the Ray cluster wants a token, and there is none in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH "
            "names or in ~/.ray/auth_token"
        )
    return UserError(f"{address}: {problem}: set RAY_AUTH_TOKEN to the output of `ray get-auth-token` on its head")


def wants_token(address: str) -> bool:
    """Whether the cluster at HOST:PORT or ray://HOST:PORT takes drivers only with a token. UserError where ours is not
    the right one; InfrastructureError where no Ray answers. Other addresses are Ray's to read."""
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None:
        return False
    scheme, host, port = match.groups()
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:  # the latter for a port over 65,535
        raise InfrastructureError(f"no Ray cluster answers at {address}: {error}") from error
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):  # Ray knows the certificates
        return False
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if _is_let_in(address, target, bool(scheme), None):
        return False
    token = AuthToken.find()
    if token is None or not _is_let_in(address, target, bool(scheme), token):
        raise token_refused(address, token)
    return True


def _is_let_in(address: str, target: str, is_client: bool, token: AuthToken | None) -> bool:
    import grpc  # Ray's own dependency

    metadata = (token.header,) if token else ()
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(_CLIENT_CALL if is_client else _HEAD_CALL)
        try:
            call(b"", timeout=_PATIENCE, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
                raise InfrastructureError(
                    f"no Ray cluster answers at {address}, but something else does: name the port of its head, "
                    "HOST:6379, or that of Ray Client, ray://HOST:10001"
                ) from error
    return True  # any other answer is one of Ray's

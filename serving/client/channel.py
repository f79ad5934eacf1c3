"""The way to a server: what a channel is opened with, in clear text or with TLS."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from types import ModuleType
from typing import Any

import grpc

from serving import wire
from serving.client.errors import InputError

DEFAULT_TARGET = "localhost:8500"
DEFAULT_TIMEOUT = 30.0

# Tensors are as long as they are; and a channel that lost its server would, left to itself, wait
# for up to two minutes before it looks again (milliseconds).
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclasses.dataclass(frozen=True)
class Tls:
    """Encryption, and who proves to be who; the files are PEM.

    Attributes:
        root_certificate: the file of whom to trust; by default gRPC's own list of authorities.
        certificate: the file of the client's certificate, for a server that asks for one.
        key: the file of the private key that belongs to it.
        server_name: the name in the server's certificate, where it is not the one in the target.
    """

    root_certificate: str | os.PathLike | None = None
    certificate: str | os.PathLike | None = None
    key: str | os.PathLike | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("a client's certificate and its private key go together")

    def credentials(self) -> grpc.ChannelCredentials:
        """gRPC's form of it.

        Raises:
            InputError: if a file can't be read.
        """
        return grpc.ssl_channel_credentials(
            _read(self.root_certificate), _read(self.key), _read(self.certificate)
        )


def open_channel(grpc_module: ModuleType, target: str, tls: Tls | None) -> Any:
    """A channel of ``grpc`` or of ``grpc.aio``; it connects when it is first used."""
    if tls is None:
        return grpc_module.insecure_channel(target, options=_OPTIONS)
    name = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return grpc_module.secure_channel(target, tls.credentials(), options=_OPTIONS + name)


def open_methods(channel: Any) -> dict[str, Any]:
    """What to call for each method with a serialised request, by the method's path.

    Made once: making one takes half as long as a call.
    """
    return {
        path: channel.unary_unary(path, response_deserializer=response.FromString)
        for path, response in wire.METHODS.items()
    }


def _read(file: str | os.PathLike | None) -> bytes | None:
    try:
        return None if file is None else pathlib.Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"can't read {file}: {error.strerror}") from None

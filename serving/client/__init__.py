"""A client of a model server that speaks TensorFlow Serving's gRPC interface, without TensorFlow.

    from serving.client import Client
    with Client("localhost:8500") as client:
        answer = client.predict("image_classification", image=pathlib.Path("seven.png"))

What an input is called, its type and its shape come from the model itself (GetModelMetadata), so
that the names of a signature are the keywords here. ``AsyncClient`` has the same methods for
asyncio. On the command line::

    python -m serving.client image_classification --image @seven.png
"""

from serving.client.asynchronous import AsyncClient
from serving.client.blocking import Client
from serving.client.channel import Tls
from serving.client.conversation import VersionStatus
from serving.client.errors import (
    BadRowError,
    DeadlineExceededError,
    InputError,
    InvalidRequestError,
    NotFoundError,
    ServingError,
    UnavailableError,
)
from serving.client.signature import Field, Signature

__all__ = [
    "AsyncClient",
    "BadRowError",
    "Client",
    "DeadlineExceededError",
    "Field",
    "InputError",
    "InvalidRequestError",
    "NotFoundError",
    "ServingError",
    "Signature",
    "Tls",
    "UnavailableError",
    "VersionStatus",
]

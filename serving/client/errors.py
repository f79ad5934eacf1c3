"""What can go wrong between a question and its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import grpc


class ServingError(Exception):
    """What the server, or the way to it, answered instead of a result.

    Attributes:
        code: the name of the gRPC status, e.g. "NOT_FOUND".
        message: the server's own text.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class InvalidRequestError(ServingError):
    """The server understood the request and refuses it: asking again changes nothing."""


class NotFoundError(ServingError):
    """No such model or version is served."""


class UnavailableError(ServingError):
    """The server can't be reached or is overloaded: asking again later may succeed."""


class DeadlineExceededError(ServingError):
    """No answer came in time."""


class InputError(ValueError):
    """A value that doesn't fit the model's signature, noticed before anything was sent."""


@contextlib.contextmanager
def as_input_error(name: str, demand: str) -> Iterator[None]:
    """Tells of what goes wrong with the value of an input in terms of that input."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: can't read {error.filename}: {error.strerror}") from None
    except (EOFError, TypeError, ValueError) as error:  # EOFError: an empty .npy file
        raise InputError(f"{name} must be {demand}: {error}") from None


class BadRowError(Exception):
    """Stands among the answers to many examples for one that was refused.

    It is not raised where it stands, so that the other examples get their answers; whoever takes it
    for an answer raises it: ``answer["labels"]``.

    Attributes:
        row: which example, counted from 0.
        reason: why: the server's refusal, or how the values don't fit the signature.
    """

    def __init__(self, row: int, reason: InvalidRequestError | InputError):
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason

    def __getitem__(self, output: Any) -> NoReturn:
        raise self


_ERRORS: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "FAILED_PRECONDITION": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError,
    "RESOURCE_EXHAUSTED": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
}


def from_status(error: grpc.RpcError) -> ServingError:
    """The error for a call that ended with a status other than OK."""
    code = error.code().name
    return _ERRORS.get(code, ServingError)(code, error.details() or "")

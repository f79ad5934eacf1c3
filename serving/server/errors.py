"""Errors that carry a gRPC status code, as absl::Status does in TensorFlow Serving."""

from __future__ import annotations

import grpc

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_MESSAGE = 1024


class StatusError(Exception):
    """A request or a configuration that can't be met.

    Attributes:
        code: the status code.
        message: the text for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


def invalid_argument(message: str) -> StatusError:
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    return StatusError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> StatusError:
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, message)


def as_status(error: Exception) -> StatusError:
    """Any exception as a status: TensorFlow's keep their code, unforeseen ones are INTERNAL."""
    if isinstance(error, StatusError):
        return error
    number = getattr(error, "error_code", None)
    if number in _CODES:  # tensorflow.errors.OpError
        return StatusError(_CODES[number], error.message)
    return StatusError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def shorten(message: str) -> str:
    """The text as gRPC sends it: long ones are cut, for they travel in a header."""
    if len(message) <= _LONGEST_MESSAGE:
        return message
    return message[:_LONGEST_MESSAGE] + "...TRUNCATED"

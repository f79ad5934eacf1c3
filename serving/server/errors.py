"""Errors that carry a gRPC status code, as absl::Status does in TensorFlow Serving."""

from __future__ import annotations

import logging

import grpc

_log = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_MESSAGE = 1024  # bytes


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
    """Any exception as a status for a client: TensorFlow's keep their code and text.

    Unforeseen ones are INTERNAL, and only the log says more: their texts and traces are about this
    program, its files and folders.
    """
    if isinstance(error, StatusError):
        return error
    number = getattr(error, "error_code", None)
    if number in _CODES:  # tensorflow.errors.OpError
        return StatusError(_CODES[number], error.message)
    _log.error("unforeseen error", exc_info=error)
    return StatusError(grpc.StatusCode.INTERNAL, "Unforeseen error; the server's log says more.")


def shorten(message: str) -> str:
    """The text as gRPC sends it: long ones are cut, for they travel in a header."""
    text = message.encode()
    if len(text) <= _LONGEST_MESSAGE:
        return message
    return text[:_LONGEST_MESSAGE].decode(errors="ignore") + "...TRUNCATED"

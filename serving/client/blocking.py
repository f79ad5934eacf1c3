"""The client whose calls return when the answer is there."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from concurrent import futures
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc

from serving.client.channel import DEFAULT_TARGET, DEFAULT_TIMEOUT, Tls, open_channel, open_methods
from serving.client.conversation import Conversation

P = ParamSpec("P")
T = TypeVar("T")


class BlockingConnection:
    """A connection whose steps have finished when they return, so that no event loop is needed."""

    def __init__(self, target: str, tls: Tls | None):
        self._channel = open_channel(grpc, target, tls)
        self._methods = open_methods(self._channel)

    async def call(self, method: str, request: bytes, timeout: float) -> Any:
        return self._methods[method](request, timeout=timeout)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextlib.asynccontextmanager
    async def side_by_side(self, limit: int) -> AsyncIterator[Callable[[Coroutine], Any]]:
        pool = futures.ThreadPoolExecutor(limit)
        try:
            yield lambda coroutine: pool.submit(finish, coroutine)
        finally:
            # Whoever leaves early doesn't wait for answers that nobody wants.
            pool.shutdown(wait=False)

    async def result(self, started: Any) -> Any:
        return started.result()

    async def close(self) -> None:
        self._channel.close()


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine over a ``BlockingConnection``, which never suspends it."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a step of a blocking connection did not block")


def _blocking(
    method: Callable[Concatenate[Conversation, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """A question as a method of ``Client``."""

    @functools.wraps(method)
    def ask(self: Client, *args: P.args, **kwargs: P.kwargs) -> T:
        return finish(method(self._conversation, *args, **kwargs))

    return ask


def _iterating(
    method: Callable[Concatenate[Conversation, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    """A question with many answers as a method of ``Client``."""

    @functools.wraps(method)
    def ask(self: Client, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        answers = method(self._conversation, *args, **kwargs)
        try:
            while True:
                yield finish(anext(answers))
        except StopAsyncIteration:
            return
        finally:
            finish(answers.aclose())

    return ask


class Client:
    """A connection to one server, safe to share between threads.

    Args:
        target: "host:port" or "unix:PATH".
        timeout: seconds that an answer may take, retries included, unless a call says otherwise.
        retry: whether to ask a server again that is UNAVAILABLE, for as long as there is time.
        tls: encryption; without it the connection is in clear text.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry: bool = True,
        tls: Tls | None = None,
    ):
        self._conversation = Conversation(BlockingConnection(target, tls), timeout, retry)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    predict = _blocking(Conversation.predict)
    predict_many = _iterating(Conversation.predict_many)
    classify = _blocking(Conversation.classify)
    regress = _blocking(Conversation.regress)
    signatures = _blocking(Conversation.signatures)
    status = _blocking(Conversation.status)
    close = _blocking(Conversation.close)

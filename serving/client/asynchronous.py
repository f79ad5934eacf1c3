"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc.aio

from serving.client.channel import DEFAULT_TARGET, DEFAULT_TIMEOUT, Tls, open_channel, open_methods
from serving.client.conversation import Conversation


class AsyncConnection:
    """A connection whose steps let others run while they wait."""

    def __init__(self, target: str, tls: Tls | None):
        self._channel = open_channel(grpc.aio, target, tls)
        self._methods = open_methods(self._channel)

    async def call(self, method: str, request: bytes, timeout: float) -> Any:
        return await self._methods[method](request, timeout=timeout)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @contextlib.asynccontextmanager
    async def side_by_side(self, limit: int) -> AsyncIterator[Callable[[Coroutine], Any]]:
        running: set[asyncio.Task] = set()

        def start(coroutine: Coroutine) -> asyncio.Task:
            task = asyncio.create_task(coroutine)
            running.add(task)
            task.add_done_callback(running.discard)  # a task holds its result
            return task

        try:
            yield start
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def result(self, started: asyncio.Task) -> Any:
        return await started

    async def close(self) -> None:
        await self._channel.close()


class AsyncClient(Conversation):
    """A connection to one server for asyncio: the methods of ``Client``, to be awaited.

    It is made inside a coroutine, whose event loop it belongs to. Files and inputs are read in that
    loop.

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
        super().__init__(AsyncConnection(target, tls), timeout, retry)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

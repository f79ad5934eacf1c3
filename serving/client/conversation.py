"""What can be asked of a server, each question written once, as a coroutine.

The client for asyncio offers the coroutines as they are; the blocking one runs the same coroutines
over a connection whose steps have finished when they return. So a coroutine here awaits nothing but
the connection's steps and other coroutines of that kind.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol

import grpc
import numpy as np

from serving import wire
from serving.client.errors import (
    BadRowError,
    InputError,
    InvalidRequestError,
    NotFoundError,
    ServingError,
    from_status,
)
from serving.client.examples import fill_input
from serving.client.many import Batch, Rows, progress_bar
from serving.client.signature import (
    Signature,
    check_names,
    choose_signature,
    prepare,
    present,
    read_outputs,
    read_signatures,
    rows,
)

DEFAULT_SIGNATURE = "serving_default"

_LOG = logging.getLogger("serving.client")


class Connection(Protocol):
    """The steps of a conversation."""

    async def call(self, method: str, request: bytes, timeout: float) -> Any:
        """Sends a serialised request; returns the response or raises grpc.RpcError."""

    async def pause(self, seconds: float) -> None:
        """Waits."""

    def side_by_side(
        self, limit: int
    ) -> contextlib.AbstractAsyncContextManager[Callable[[Coroutine], Any]]:
        """A function that starts coroutines, which end at the latest with the block.

        At most ``limit`` of them run at once; ``result`` waits for what the function returns.
        """

    async def result(self, started: Any) -> Any:
        """What a started coroutine returns or raises."""

    async def close(self) -> None:
        """Ends the connection."""


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What has become of one version of a model.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: why it could not be loaded; empty if nothing went wrong.
    """

    version: int
    state: str
    error: str


@dataclasses.dataclass(frozen=True)
class Servable:
    """A model, and which version of it; without number and label it is the newest."""

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise InputError("a version is named by its number or by its label, not by both")

    def spec(self, signature: str = "") -> Any:
        """It as a ModelSpec. An unset version is not sent: a sent one without value is 0."""
        spec = wire.ModelSpec(name=self.model, signature_name=signature)
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        return spec


class Conversation:
    """The questions; what models have told of themselves is remembered.

    Args:
        connection: the way to the server.
        timeout: seconds that an answer may take, retries included, unless a call says otherwise.
        retry: whether to ask a server again that is UNAVAILABLE, for as long as there is time.
    """

    def __init__(self, connection: Connection, timeout: float, retry: bool):
        self._connection = connection
        self._timeout = timeout
        self._retry = retry
        self._known: dict[Servable, dict[str, Signature]] = {}

    async def close(self) -> None:
        """Ends the connection; calls under way fail with CANCELLED."""
        await self._connection.close()

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        **features: Any,
    ) -> dict[str, Any]:
        """Asks a model.

        A value is an array, a number, a (nested) list of them, text, bytes, or a ``pathlib.Path``:
        the contents of that file (for a numeric input an .npy file). An input whose first axis is
        open takes a batch or, with one axis less, a single example. If only single examples are
        given, the outputs come without the axis of examples; next to a batch, a single one counts
        for every example of it.

        Args:
            model: its name on the server.
            inputs: further features, for names that are no Python keyword or stand below.
            signature: the name of the signature.
            version: a version's number; the newest by default.
            label: a version's label, instead of its number.
            timeout: seconds to wait for the answer.
            **features: the inputs by their names in the signature.

        Returns:
            the outputs by name: numpy arrays, or Python values where no axis is left. Strings are
            ``str`` where the whole output is UTF-8, else ``bytes``.

        Raises:
            InputError: if names, types or shapes don't fit the signature.
            ServingError: with the server's code and text.
        """
        servable = Servable(model, version, label)
        deadline = self._deadline(timeout)
        values = {**(inputs or {}), **features}
        remembered = servable in self._known

        async def fit() -> tuple[Signature, dict[str, np.ndarray], bool]:
            known = await self._signature(servable, signature, deadline)
            return known, *prepare(known, values)

        try:
            known, arrays, single = await fit()
        except InputError:
            # Another version may have taken over, with other inputs: what does it say?
            self._known.pop(servable, None)
            if not remembered:
                raise
            known, arrays, single = await fit()
        outputs = await self._predict(servable, signature, known, arrays, deadline)
        return present(known, outputs, single)

    async def predict_many(
        self,
        model: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        batch_size: int = 32,
        in_flight: int = 4,
        progress: bool = False,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        **features: Any,
    ) -> AsyncGenerator[dict[str, Any] | BadRowError, None]:
        """Asks a model about many examples, in batches, several of them at once.

        An input is an array, a list, an .npy file or any iterable of examples, which is read no
        further ahead than ``in_flight`` + 1 batches. A single example, with one axis less, counts
        for all, as next to a batch in ``predict``.

        A batch with an example that does not fit, or that the server refuses as INVALID_ARGUMENT,
        is asked again row by row: only the bad rows go without an answer.

        Args:
            model: its name on the server.
            inputs: further features, for names that are no Python keyword or stand below.
            batch_size: how many examples make a request.
            in_flight: how many requests are under way at once.
            progress: whether to show a progress bar on standard error.
            signature: the name of the signature.
            version: a version's number; the newest by default.
            label: a version's label, instead of its number.
            timeout: seconds to wait for the answer to one request.
            **features: the inputs by their names in the signature.

        Yields:
            for each example, in order, the outputs by name as ``predict`` returns them for a single
            one, or in their place a BadRowError, which names the row and the reason.

        Raises:
            InputError: if names don't fit the signature or the inputs are of unequal length.
            ServingError: any but INVALID_ARGUMENT.
        """
        if batch_size < 1 or in_flight < 1:
            raise InputError("batch_size and in_flight are at least 1")
        servable = Servable(model, version, label)
        self._known.pop(servable, None)  # much rests on it, so it is asked anew
        known = await self._signature(servable, signature, self._deadline(timeout))
        values = {**(inputs or {}), **features}
        check_names(known, values)
        many = Rows(known, values)
        batches = many.batches(batch_size)
        with progress_bar(progress, model, many.count) as advance:
            async with self._connection.side_by_side(in_flight) as start:

                def begin(count: int) -> list[Any]:
                    return [
                        start(self._answer_rows(servable, signature, known, batch, timeout))
                        for batch in itertools.islice(batches, count)
                    ]

                waiting = collections.deque(begin(in_flight))
                while waiting:
                    answers = await self._connection.result(waiting.popleft())
                    waiting.extend(begin(1))
                    for answer in answers:
                        yield answer
                    advance(len(answers))

    async def classify(
        self,
        model: str,
        examples: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        /,
        *,
        context: Mapping[str, Any] | None = None,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list:
        """Asks a model with a classification signature, which parses tf.Examples.

        Args:
            model: its name on the server.
            examples: dictionaries from features to numbers, text, bytes, files, or flat lists of
                them: floats, integers and bytes are a feature's three types. Or one dictionary.
            context: features that all examples have in common.
            signature: the name of the signature.
            version: a version's number; the newest by default.
            label: a version's label, instead of its number.
            timeout: seconds to wait for the answer.

        Returns:
            for each example a list of (label, score) pairs; for one dictionary that list alone.

        Raises:
            InputError: if a value is nothing that a feature can hold.
            ServingError: with the server's code and text.
        """
        request = wire.ClassificationRequest(
            model_spec=Servable(model, version, label).spec(signature)
        )
        single = fill_input(request.input, examples, context)
        response = await self._ask(
            "PredictionService/Classify", request.SerializeToString(), self._deadline(timeout)
        )
        answers = [
            [(entry.label, entry.score) for entry in example.classes]
            for example in response.result.classifications
        ]
        return answers[0] if single else answers

    async def regress(
        self,
        model: str,
        examples: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        /,
        *,
        context: Mapping[str, Any] | None = None,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> np.ndarray | float:
        """Asks a model with a regression signature; the arguments are those of ``classify``.

        Returns:
            a float32 value for each example; for one dictionary a float.

        Raises:
            InputError: if a value is nothing that a feature can hold.
            ServingError: with the server's code and text.
        """
        request = wire.RegressionRequest(model_spec=Servable(model, version, label).spec(signature))
        single = fill_input(request.input, examples, context)
        response = await self._ask(
            "PredictionService/Regress", request.SerializeToString(), self._deadline(timeout)
        )
        answers = [example.value for example in response.result.regressions]
        return answers[0] if single else np.array(answers, np.float32)

    async def signatures(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Signature]:
        """What a model can be asked, by the signatures' names; asked of the server once."""
        return await self._signatures(Servable(model, version, label), self._deadline(timeout))

    async def status(
        self,
        model: str,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> list[VersionStatus]:
        """The state of each version that the server has met, the newest first."""
        request = wire.GetModelStatusRequest(model_spec=Servable(model, version).spec())
        response = await self._ask(
            "ModelService/GetModelStatus", request.SerializeToString(), self._deadline(timeout)
        )
        return [
            VersionStatus(
                entry.version,
                wire.MODEL_STATES.get(entry.state, str(entry.state)),
                entry.status.error_message,
            )
            for entry in response.model_version_status
        ]

    async def _signatures(self, servable: Servable, deadline: float) -> dict[str, Signature]:
        if servable not in self._known:
            request = wire.GetModelMetadataRequest(
                model_spec=servable.spec(), metadata_field=["signature_def"]
            )
            response = await self._ask(
                "PredictionService/GetModelMetadata", request.SerializeToString(), deadline
            )
            self._known[servable] = read_signatures(response)
        return self._known[servable]

    async def _signature(self, servable: Servable, name: str, deadline: float) -> Signature:
        return choose_signature(servable.model, await self._signatures(servable, deadline), name)

    async def _predict(
        self,
        servable: Servable,
        name: str,
        known: Signature,
        arrays: Mapping[str, np.ndarray],
        deadline: float,
    ) -> dict[str, np.ndarray]:
        inputs = {key: (known.inputs[key].dtype, array) for key, array in arrays.items()}
        request = wire.predict_request(servable.spec(name), inputs)
        try:
            return read_outputs(await self._ask("PredictionService/Predict", request, deadline))
        except (InvalidRequestError, NotFoundError):
            # Another version may have taken over, with other inputs: look again next time.
            self._known.pop(servable, None)
            raise

    async def _answer_rows(
        self,
        servable: Servable,
        name: str,
        known: Signature,
        batch: Batch,
        timeout: float | None,
    ) -> list[dict[str, Any] | BadRowError]:
        """The answer to each row of a batch, asked together if possible, else one by one."""
        try:
            arrays, _ = prepare(known, batch.inputs, batches=batch.rows)
            outputs = await self._predict(servable, name, known, arrays, self._deadline(timeout))
            return list(rows(known, outputs, batch.size))
        except (InputError, InvalidRequestError) as error:
            if isinstance(error, ServingError) and error.code != "INVALID_ARGUMENT":
                raise
            if batch.size == 1:
                return [BadRowError(batch.start, error)]
        return [
            answer
            for row in batch.split()
            for answer in await self._answer_rows(servable, name, known, row, timeout)
        ]

    async def _ask(self, method: str, request: bytes, deadline: float) -> Any:
        """Sends a serialised request, again and again while the server is UNAVAILABLE."""
        waits = pauses()
        told = False
        while True:
            try:
                return await self._connection.call(
                    f"/tensorflow.serving.{method}", request, max(deadline - time.monotonic(), 0)
                )
            except grpc.RpcError as status:
                error = from_status(status)
            pause, left = next(waits), deadline - time.monotonic()
            if error.code != "UNAVAILABLE" or not self._retry or left <= pause:
                raise error
            if not told:
                told = True
                _LOG.info("%s; asking again for %.0f s", error, left)
            await self._connection.pause(pause)

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)


def pauses() -> Iterator[float]:
    """Seconds between attempts: a tenth, doubled up to a second, each give or take a fifth.

    The last is so that the clients of a server that went away don't return all at once.
    """
    seconds = 0.1
    while True:
        yield seconds * random.uniform(0.8, 1.2)
        seconds = min(2 * seconds, 1.0)

"""`AsyncClient`: every verb of a Crossfade server as a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, cast

import httpx

from crossfade.client import verbs
from crossfade.client.calls import Call, is_loopback, pause_before_retry, principal_header, unreachable
from crossfade.client.registration import PackOptions, Progress, registration, rehearsal
from crossfade.client.tensors import infer
from crossfade.core.tensors import Array, Tensors
from crossfade.registry.packaging import Draft, pack
from crossfade.registry.requests import Rehearsal
from crossfade.registry.versions import Version
from crossfade.serving.predictor import Predictor, PredictorInfo

P = ParamSpec("P")
T = TypeVar("T")


class _Verb(Generic[P, T]):
    """A coroutine method of `AsyncClient` made from the description of a call."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __get__(self, client: AsyncClient, owner: type[AsyncClient]) -> Callable[P, Coroutine[Any, Any, T]]:
        build = self._build
        if client is None:
            return cast("Callable[P, Coroutine[Any, Any, T]]", build)

        @wraps(build)
        async def verb(*args: P.args, **kwargs: P.kwargs) -> T:
            return await client.send(build(*args, **kwargs))

        return verb


class AsyncClient:
    """The asynchronous twin of `crossfade.client.Client`: the same verbs with the same arguments, awaited.

    Example:
        >>> async with AsyncClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
        ...     await client.predict("flight_delay@champion", flights, probabilities=True)
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        timeout: float = 130.0,
        transport: httpx.AsyncBaseTransport | None = None,
        principal: str | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(timeout, connect=5.0),
            transport=transport,
            headers=principal_header(principal),
            trust_env=not is_loopback(base_url),
        )

    models = _Verb(verbs.models)
    model = _Verb(verbs.model)
    versions = _Verb(verbs.versions)
    version = _Verb(verbs.version)
    file = _Verb(verbs.file)
    compare = _Verb(verbs.compare)
    propose = _Verb(verbs.propose)
    check_compatibility = _Verb(verbs.check_compatibility)
    publish = _Verb(verbs.publish)
    transition = _Verb(verbs.transition)
    deprecate = _Verb(verbs.deprecate)
    delete = _Verb(verbs.delete)
    verify = _Verb(verbs.verify)
    stage_history = _Verb(verbs.stage_history)
    alias_history = _Verb(verbs.alias_history)
    move_alias = _Verb(verbs.move_alias)
    remove_alias = _Verb(verbs.remove_alias)
    rollback = _Verb(verbs.rollback)
    invalidate_answers = _Verb(verbs.invalidate_answers)
    cache_status = _Verb(verbs.cache_status)
    collect_garbage = _Verb(verbs.collect_garbage)
    status = _Verb(verbs.status)

    async def register(
        self,
        name: str,
        model: object,
        *,
        version: str | None = None,
        progress: Progress | None = None,
        **options: Unpack[PackOptions],
    ) -> Version:
        """Pack a model here, send what the server does not have yet, and publish the version.

        Args:
            name: The model.
            model: A fitted model, or the path of a file.
            version: Its semver; by default the server proposes one from the change of the signature.
            progress: Called with (bytes sent, bytes in all).
            options: How to pack it: see `crossfade.registry.packaging.pack`.

        Raises:
            CrossfadeError: The model cannot be packed, or the server refuses it.
        """
        draft = await asyncio.to_thread(pack, model, **options)
        return await self.register_draft(name, draft, version=version, progress=progress)

    async def register_draft(
        self, name: str, draft: Draft, *, version: str | None = None, progress: Progress | None = None
    ) -> Version:
        """Register what `crossfade.registry.packaging.pack` made."""
        return await self._follow(registration(draft, name, version, progress))

    async def rehearse_draft(self, name: str, draft: Draft, *, version: str | None = None) -> Rehearsal:
        """Check whether a draft could be registered, without sending its files."""
        return await self._follow(rehearsal(draft, name, version))

    async def predict(self, ref: str, inputs: object, *, probabilities: bool = False) -> Array:
        """Predict rows with the version that `ref` means now.

        Args:
            ref: Any spelling of a reference.
            inputs: A pandas or polars frame, a numpy array, a dict of arrays, or a list of row dicts.
            probabilities: Return the probabilities of the classes instead of labels.

        Raises:
            SignatureMismatchError: The inputs do not fit.
            NotServedError: The version is not ready on the server.
        """
        details = await self.version(ref)
        signature = details.manifest.signature
        loop = asyncio.get_running_loop()

        def answer(tensors: Tensors, wanted: frozenset[str]) -> Tensors:
            call = infer(details.version, signature, tensors, wanted)
            return asyncio.run_coroutine_threadsafe(self.send(call), loop).result()

        predictor = Predictor(PredictorInfo(details.version, signature, details.card), answer)
        # conversion may take long for big frames: on a thread it does not hold up other tasks
        return await asyncio.to_thread(predictor.predict, inputs, probabilities=probabilities)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def send(self, call: Call[T]) -> T:
        """Make a call; the way to verbs with `crossfade.client.verbs.dry_run`.

        Raises:
            ServerUnreachableError: Nobody answers.
            CrossfadeError: The server refuses.
        """
        attempt = 1
        while True:
            outcome = await self._attempt(call)
            pause = pause_before_retry(call, attempt, outcome)
            if pause is None:
                break
            await asyncio.sleep(pause)
            attempt += 1
        if isinstance(outcome, httpx.TransportError):
            raise unreachable(self._http.base_url, outcome) from outcome
        return call.finish(outcome)

    async def _attempt(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        content = None if call.body is None else _without_blocking(call.pieces())
        try:
            return await self._http.request(call.method, call.path, content=content, **call.options())
        except httpx.TransportError as error:
            return error

    async def _follow(self, steps: Generator[Call[Any], Any, T]) -> T:
        try:
            call = next(steps)
            while True:
                call = steps.send(await self.send(call))
        except StopIteration as end:
            return cast("T", end.value)


async def _without_blocking(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a file on another thread, so that the event loop goes on."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece

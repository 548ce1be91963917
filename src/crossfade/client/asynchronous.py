"""`AsyncClient`: every verb of a Crossfade server as a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, cast

import httpx

from crossfade.client import config_verbs, safety_verbs, verbs
from crossfade.client.asking import Prediction, Who, asking
from crossfade.client.calls import (
    PIECE_BYTES,
    Call,
    Progress,
    is_loopback,
    pause_before_retry,
    principal_header,
    refusal,
    unreachable,
)
from crossfade.client.downloading import Download, file_of, result_of
from crossfade.client.followed import ConfigOptions, FollowedConfig, ReadAnswer, Steps, followed_config
from crossfade.client.predicting import KnownSignatures, prediction
from crossfade.client.predictor import AsyncPredictor
from crossfade.client.registration import PackOptions, registration, rehearsal
from crossfade.client.submission import JobOptions, submission
from crossfade.client.tensors import infer
from crossfade.core.tensors import Array, Tensors
from crossfade.errors import CrossfadeError
from crossfade.jobs.records import Job
from crossfade.registry.packaging import Draft, pack
from crossfade.registry.requests import Rehearsal
from crossfade.registry.versions import Version
from crossfade.serving.predictor import PredictorInfo

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
        self._known = KnownSignatures()
        self._following: set[asyncio.Task[None]] = set()

    models = _Verb(verbs.models)
    model = _Verb(verbs.model)
    versions = _Verb(verbs.versions)
    version = _Verb(verbs.version)
    file = _Verb(verbs.file)
    compare = _Verb(verbs.compare)
    propose = _Verb(verbs.propose)
    check_compatibility = _Verb(verbs.check_compatibility)
    publish = _Verb(verbs.publish)
    register_ensemble = _Verb(verbs.register_ensemble)
    transition = _Verb(verbs.transition)
    deprecate = _Verb(verbs.deprecate)
    delete = _Verb(verbs.delete)
    verify = _Verb(verbs.verify)
    stage_history = _Verb(verbs.stage_history)
    history = _Verb(verbs.history)
    alias_history = _Verb(verbs.alias_history)
    move_alias = _Verb(verbs.move_alias)
    remove_alias = _Verb(verbs.remove_alias)
    rollback = _Verb(verbs.rollback)
    jobs = _Verb(verbs.jobs)
    job = _Verb(verbs.job)
    cancel_job = _Verb(verbs.cancel_job)
    job_result = _Verb(verbs.job_result)
    create_experiment = _Verb(verbs.create_experiment)
    amend_experiment = _Verb(verbs.amend_experiment)
    experiments = _Verb(verbs.experiments)
    experiment = _Verb(verbs.experiment)
    experiment_history = _Verb(verbs.experiment_history)
    start_experiment = _Verb(verbs.start_experiment)
    pause_experiment = _Verb(verbs.pause_experiment)
    stop_experiment = _Verb(verbs.stop_experiment)
    reweight_experiment = _Verb(verbs.reweight_experiment)
    analyze_experiment = _Verb(verbs.analyze_experiment)
    decide_experiment = _Verb(verbs.decide_experiment)
    experiment_events = _Verb(verbs.experiment_events)
    alerts = _Verb(verbs.alerts)
    alert_rules = _Verb(verbs.alert_rules)
    prometheus_rules = _Verb(verbs.prometheus_rules)
    silences = _Verb(verbs.silences)
    silence = _Verb(verbs.silence)
    end_silence = _Verb(verbs.end_silence)
    try_channels = _Verb(verbs.try_channels)
    bandit = _Verb(verbs.bandit)
    create_layer = _Verb(verbs.create_layer)
    layers = _Verb(verbs.layers)
    create_rollout = _Verb(verbs.create_rollout)
    forecast_rollout = _Verb(verbs.forecast_rollout)
    plans = _Verb(verbs.plans)
    rollouts = _Verb(verbs.rollouts)
    rollout = _Verb(verbs.rollout)
    rollout_history = _Verb(verbs.rollout_history)
    pause_rollout = _Verb(verbs.pause_rollout)
    resume_rollout = _Verb(verbs.resume_rollout)
    promote_rollout = _Verb(verbs.promote_rollout)
    abort_rollout = _Verb(verbs.abort_rollout)
    roll_back_rollout = _Verb(verbs.roll_back_rollout)
    retry_rollout = _Verb(verbs.retry_rollout)
    deploy = _Verb(verbs.deploy)
    deployments = _Verb(verbs.deployments)
    deployment = _Verb(verbs.deployment)
    deployment_health = _Verb(verbs.deployment_health)
    undeploy = _Verb(verbs.undeploy)
    record_outcomes = _Verb(verbs.record_outcomes)
    safety_status = _Verb(safety_verbs.safety_status)
    safety_policies = _Verb(safety_verbs.safety_policies)
    safety_policy = _Verb(safety_verbs.safety_policy)
    put_safety_policy = _Verb(safety_verbs.put_safety_policy)
    remove_safety_policy = _Verb(safety_verbs.remove_safety_policy)
    check_safety = _Verb(safety_verbs.check_safety)
    override_safety = _Verb(safety_verbs.override_safety)
    end_override = _Verb(safety_verbs.end_override)
    overrides = _Verb(safety_verbs.overrides)
    violations = _Verb(safety_verbs.violations)
    begin_emergency = _Verb(safety_verbs.begin_emergency)
    end_emergency = _Verb(safety_verbs.end_emergency)
    configs = _Verb(config_verbs.configs)
    config_status = _Verb(config_verbs.config_status)
    config_versions = _Verb(config_verbs.config_versions)
    config_version = _Verb(config_verbs.config_version)
    draft_config = _Verb(config_verbs.draft_config)
    validate_config = _Verb(config_verbs.validate_config)
    config_diff = _Verb(config_verbs.config_diff)
    config_impact = _Verb(config_verbs.config_impact)
    approve_config = _Verb(config_verbs.approve_config)
    activate_config = _Verb(config_verbs.activate_config)
    deploy_config = _Verb(config_verbs.deploy_config)
    roll_back_config = _Verb(config_verbs.roll_back_config)
    read_config = _Verb(config_verbs.read_config)
    config_drift = _Verb(config_verbs.config_drift)
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

    async def load(self, ref: str, *, replay: bool = False) -> AsyncPredictor:
        """Return a predictor for the version that `ref` means now; the model runs on the server.

        It predicts until this client is closed.

        Args:
            ref: Any spelling of a reference.
            replay: What it asks was asked before: it makes way for whoever waits for an answer, and is not captured.

        Raises:
            NotFoundError: There is no such version.
        """
        details = await self.version(ref)
        signature = details.manifest.signature

        async def answer(tensors: Tensors, wanted: frozenset[str]) -> Tensors:
            return (await self.send(infer(details.version.ref, signature, tensors, wanted, replay=replay))).outputs

        return AsyncPredictor(PredictorInfo(details.version, signature, details.card), answer)

    async def predict(self, ref: str, inputs: object, *, probabilities: bool = False, **who: Unpack[Who]) -> Array:
        """Predict rows with the version that `ref` means now. The registry is not asked, so it may be away.

        Args:
            ref: Any spelling of a reference.
            inputs: A pandas or polars frame, a numpy array, a dict of arrays, or a list of row dicts.
            probabilities: Return the probabilities of the classes instead of labels.
            who: `unit_id`, `context`, `experiment`: in whose name, as for `ask`.

        Raises:
            SignatureMismatchError: The inputs do not fit.
            NotServedError: The version is not ready on the server.
        """
        if who:
            return (await self.ask(ref, inputs, probabilities=probabilities, **who)).wanted
        return await self._follow(prediction(self._known, ref, inputs, probabilities=probabilities))

    async def ask(self, ref: str, inputs: object, *, probabilities: bool = False, **who: Unpack[Who]) -> Prediction:
        """Predict rows in somebody's name, and learn who answered, why, and the `decision_id` that outcomes name.

        Args:
            ref: Any spelling of a reference; experiments decide about requests to the champion.
            inputs: As for `predict`.
            probabilities: Ask for the probabilities of the classes, too.
            who: `unit_id`, `context`, `experiment`: see `crossfade.client.asking.Who`.

        Raises:
            SignatureMismatchError: The inputs do not fit.
            MalformedRequestError: Inputs or context are nothing that JSON can say.
            NotServedError: The version is not ready on the server.

        Example:
            >>> answer = await client.ask("churn", rows, unit_id="user-1", context={"country": "DE"})  # doctest: +SKIP
            >>> answer.experiment.variant, answer.experiment.decision_id  # doctest: +SKIP
            ('new', '01a21cf3-...')
        """
        return await self._follow(asking(self._known, ref, inputs, probabilities=probabilities, **who))

    async def download(
        self, ref: str, path: str, target: str | PathLike[str], *, progress: Progress | None = None
    ) -> Path:
        """Write one file of a version to disk, piece by piece; it appears when it is whole and as registered.

        Args:
            ref: Any spelling of a reference.
            path: One of the files in its manifest, or `manifest.json`.
            target: Where the file shall be; what is there is replaced.
            progress: Called with (bytes written, bytes in all).

        Raises:
            NotFoundError: The version has no such file.
            CorruptBlobError: What arrived is not what was registered; nothing is left behind.
        """
        details = await self.version(ref)
        download = Download(file_of(details, path), Path(target), progress)
        return await self._download(verbs.file(details.version.ref, path), download, Path(target))

    async def submit_job(
        self, ref: str, rows: str | PathLike[str], *, progress: Progress | None = None, **options: Unpack[JobOptions]
    ) -> Job:
        """Send a file, unless the server has it, and have it predicted by the version that `ref` means now.

        Args:
            ref: Any spelling of a reference; it is pinned to one version for all rows.
            rows: A CSV, JSON lines, Parquet or Arrow file.
            progress: Called with (bytes sent, bytes in all).
            options: `format` (default: by the name of the file), `output`, `probabilities`, `keep`, `chunk_rows`, `id`.

        Raises:
            MalformedRequestError: The name of the file does not tell its format.
            CrossfadeError: The server refuses.
        """
        return await self._follow(submission(ref, Path(rows), progress, options))

    async def download_result(self, job: str, target: str | PathLike[str], *, progress: Progress | None = None) -> Path:
        """Write the answers of a batch job to disk, piece by piece; the file appears when it is whole.

        Raises:
            JobConflictError: The job has not succeeded, or its result was let go of.
            CorruptBlobError: What arrived is not what the server made; nothing is left behind.
        """
        download = Download(result_of(await self.job(job)), Path(target), progress)
        return await self._download(verbs.job_result(job), download, Path(target))

    async def export_experiment(self, name: str, target: str | PathLike[str], *, reward: str = "") -> Path:
        """Write the events of an experiment to a Parquet file, piece by piece; the file appears when it is whole.

        Args:
            name: The experiment.
            target: Where the file shall be; what is there is replaced.
            reward: Name of an outcome: then each row is a decision with what it earned.
        """
        download = Download(None, Path(target), None)
        return await self._download(verbs.experiment_events(name, reward=reward), download, Path(target))

    async def config(self, name: str, *, follow: bool = True, **options: Unpack[ConfigOptions]) -> FollowedConfig:
        """Return the document of a config, which stays on the newest version until it or this client is closed.

        Args:
            name: The config.
            follow: Whether a task keeps it on the newest version.
            options: `unit`, `context`, `client`, `cache`: see `crossfade.client.followed.ConfigOptions`.

        Raises:
            NotFoundError: There is no such config, or no version of it is active.
            ServerUnreachableError: Nobody answers, and nothing is kept.
        """
        config = followed_config(name, str(self._http.base_url), options)
        await asyncio.to_thread(config.begin, await self._outcome(config.first()))
        if follow:
            task = asyncio.create_task(
                self._keep_following(config.steps(self._http.timeout.read)), name=f"crossfade config {name}"
            )
            config.stop_with(task.cancel)
            self._following.add(task)
            task.add_done_callback(self._following.discard)
        return config

    async def close(self) -> None:
        """Close the connections; configs that are followed stay as they are."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
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
        return call.finish(await self._persist(call, lambda: self._attempt(call)))

    async def _persist(
        self, call: Call[Any], attempt: Callable[[], Awaitable[httpx.Response | httpx.TransportError]]
    ) -> httpx.Response:
        number = 1
        while True:
            outcome = await attempt()
            pause = pause_before_retry(call, number, outcome)
            if pause is None:
                break
            await asyncio.sleep(pause)
            number += 1
        if isinstance(outcome, httpx.TransportError):
            raise unreachable(self._http.base_url, outcome) from outcome
        return outcome

    async def _outcome(self, call: Call[ReadAnswer]) -> ReadAnswer | CrossfadeError:
        try:
            return await self.send(call)
        except CrossfadeError as error:
            return error

    async def _keep_following(self, steps: Steps) -> None:
        step = next(steps)
        while True:
            if isinstance(step, float):
                await asyncio.sleep(step)
                step = steps.send(None)
            else:  # a disk may be slow, and listeners may be
                step = await asyncio.to_thread(steps.send, await self._outcome(step))

    async def _attempt(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        content = None if call.body is None else _without_blocking(call.pieces())
        try:
            return await self._http.request(call.method, call.path, content=content, **call.options())
        except httpx.TransportError as error:
            return error

    async def _download(self, call: Call[Any], download: Download, target: Path) -> Path:
        response = await self._persist(call, lambda: self._receive(call, download))
        if not response.is_success:
            raise refusal(response)
        return target

    async def _receive(self, call: Call[Any], download: Download) -> httpx.Response | httpx.TransportError:
        try:
            async with self._http.stream(call.method, call.path, **call.options()) as response:
                if not response.is_success:
                    await response.aread()
                    return response
                with download:
                    async for piece in response.aiter_bytes(PIECE_BYTES):
                        await asyncio.to_thread(download.write, piece)
                return response
        except httpx.TransportError as error:
            return error

    async def _follow(self, steps: Generator[Call[Any], Any, T]) -> T:
        """Make the calls of a generator; it runs on a thread, because converting big inputs takes long."""
        turn: Callable[[], Call[Any]] = partial(next, steps)
        while True:
            call = await asyncio.to_thread(_advance, turn)
            if isinstance(call, _Done):
                return cast("T", call.value)
            try:
                turn = partial(steps.send, await self.send(call))
            except CrossfadeError as error:
                turn = partial(steps.throw, error)


@dataclass(frozen=True)
class _Done:
    """What a generator returned, because a thread cannot hand `StopIteration` on."""

    value: object


def _advance(turn: Callable[[], Call[Any]]) -> Call[Any] | _Done:
    try:
        return turn()
    except StopIteration as end:
        return _Done(end.value)


async def _without_blocking(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a file on another thread, so that the event loop goes on."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece

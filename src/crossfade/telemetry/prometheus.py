"""`PrometheusClient`: numbers of one moment from a Prometheus server, or a clear word that there are none.

A condition on a number must not be met, nor fail, because the number is missing. So what a server can answer is told
apart: numbers, no series, several of them, a sample that is too old, NaN, infinity; and, as errors, a question that
makes no sense and a server that gives no usable answer.

Source: Prometheus HTTP API, `/api/v1/query` (https://prometheus.io/docs/prometheus/latest/querying/api/).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from crossfade.core.breaker import Breaker, BreakerState
from crossfade.core.clock import Clock, utc_now
from crossfade.core.exchange import Answer, ExchangeError, exchange
from crossfade.core.wording import in_one_line
from crossfade.errors import InvalidQueryError, PrometheusUnavailableError, SettingsError
from crossfade.settings import TelemetrySettings

MAX_ANSWER_BYTES = 2**20
MAX_SAMPLES = 10_000
MAX_QUERY = 10_000
"""Characters."""
_FAILURES = 3
_REST_SECONDS = 10.0
_ASKED_WRONGLY = {400, 422}
_PROBLEM = 300


class Sample(NamedTuple):
    """One series at one moment.

    Attributes:
        labels: Of the series; none of a scalar.
        value: Maybe NaN or infinite.
        timestamp: Seconds since 1970.
    """

    labels: dict[str, str]
    value: float
    timestamp: float


class Outcome(StrEnum):
    """What a question for one number has led to."""

    VALUE = "value"
    """A number."""
    EMPTY = "empty"
    """There is no such series, or it has no sample that is young enough."""
    SEVERAL = "several"
    """There are several series, so there is no one number."""
    STALE = "stale"
    """The sample is older than allowed."""
    NOT_A_NUMBER = "not_a_number"
    """NaN: such as a ratio of nothing to nothing."""
    INFINITE = "infinite"
    """Such as a ratio of something to nothing."""


class Reading(NamedTuple):
    """The answer to a question for one number.

    Attributes:
        outcome: What there is.
        value: The number; None unless there is one.
        samples: How many series answered.
    """

    outcome: Outcome
    value: float | None
    samples: int


class _Series(msgspec.Struct):
    value: tuple[float, str]
    metric: dict[str, str] = {}


class _Data(msgspec.Struct):
    result_type: Literal["matrix", "vector", "scalar", "string"] = msgspec.field(name="resultType")
    result: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class _Body(msgspec.Struct):
    status: Literal["success", "error"]
    data: _Data | None = None
    error: str = ""
    error_type: str = msgspec.field(default="", name="errorType")


class PrometheusClient:
    """Asks one server. Its methods may be called from any thread.

    Args:
        url: Of the server; a path is kept (`https://host/prometheus`).
        token: Sent as a bearer token; empty sends none.
        timeout: Seconds for a whole question.
        max_age: Seconds; for `read`, older samples are stale.
        clock: What time it is.
        monotonic: For the circuit breaker.

    Raises:
        SettingsError: The URL is none of `http` or `https`.

    Example:
        >>> client = PrometheusClient("http://localhost:9090")
        >>> client.read("sum(rate(crossfade_requests_total[5m]))").outcome  # doctest: +SKIP
        <Outcome.VALUE: 'value'>
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        timeout: float = 5.0,
        max_age: float = 120.0,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = _checked(url) + "/api/v1/query"
        self._headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout = timeout
        self._max_age = max_age
        self._clock = clock
        self._breaker = Breaker(failures=_FAILURES, rest_seconds=_REST_SECONDS, monotonic=monotonic)
        self._lock = threading.Lock()
        self._problem = ""

    @property
    def resting(self) -> bool:
        """Whether the server has failed so often that it is left alone for a while."""
        return self._breaker.state is not BreakerState.CLOSED

    def query(self, promql: str, at: datetime | None = None) -> list[Sample]:
        """Return every series that a question is answered with; none is an empty list.

        A range inside of the question (`rate(x[5m])`) still sees samples as old as the range.

        Args:
            promql: Whose answer is an instant vector or a scalar.
            at: The moment that is asked about; default is now.

        Raises:
            InvalidQueryError: The server cannot make sense of it, or the answer is a matrix, a string, a histogram.
            PrometheusUnavailableError: It does not answer in time, its answer is no answer, or it is left alone for a
                few seconds because it has failed three times in a row.
        """
        if not promql.strip() or len(promql) > MAX_QUERY or "\0" in promql:
            raise InvalidQueryError(problem=f"it is empty, or longer than {MAX_QUERY} characters")
        moment = (at or self._clock()).timestamp()
        form = {"query": promql, "time": f"{moment:.3f}", "timeout": f"{self._timeout:g}s"}
        with self._lock:
            if not self._breaker.allows():
                problem = f"it has failed several times, and is left alone for a while; lastly: {self._problem}"
                raise PrometheusUnavailableError(problem=problem)
        try:
            samples = _samples(self._ask(urlencode(form, errors="replace").encode()))
        except InvalidQueryError:
            self._succeeded()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        self._succeeded()
        return samples

    def read(self, promql: str, at: datetime | None = None) -> Reading:
        """Return the one number that a question is answered with, or why there is none.

        Prometheus answers with samples of the last five minutes as if they were of now. For a question that is a plain
        series, their real time is asked for, too; what is computed from series is as fresh as the ranges in it.

        Raises:
            InvalidQueryError, PrometheusUnavailableError: As for `query`.
        """
        moment = at or self._clock()
        samples = self.query(promql, moment)
        if len(samples) != 1:
            return Reading(Outcome.SEVERAL if samples else Outcome.EMPTY, None, len(samples))
        value = samples[0].value
        if not abs(moment.timestamp() - self._measured_at(promql, moment, samples[0])) <= self._max_age:
            outcome = Outcome.STALE
        elif math.isnan(value):
            outcome = Outcome.NOT_A_NUMBER
        else:
            outcome = Outcome.INFINITE if math.isinf(value) else Outcome.VALUE
        return Reading(outcome, value if outcome is Outcome.VALUE else None, 1)

    def _measured_at(self, promql: str, moment: datetime, sample: Sample) -> float:
        try:
            found = self.query(f"timestamp({promql}\n)", moment)  # the line ends a comment in it
        except InvalidQueryError:  # of a scalar
            return sample.timestamp
        same = len(found) == 1 and math.isfinite(found[0].value)
        return min(found[0].value, sample.timestamp) if same else sample.timestamp

    def _ask(self, form: bytes) -> _Data:
        try:
            answer = exchange(
                "POST",
                self._url,
                headers=self._headers,
                body=form,
                seconds=self._timeout,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise PrometheusUnavailableError(problem=str(error)) from error
        body = _body(answer)
        if answer.status in _ASKED_WRONGLY and body is not None and body.error_type in {"bad_data", "execution"}:
            raise InvalidQueryError(problem=in_one_line(body.error, _PROBLEM))
        if answer.status != 200 or body is None or body.status != "success" or body.data is None:
            raise PrometheusUnavailableError(problem=_words_of(answer.status, body))
        return body.data

    def _succeeded(self) -> None:
        with self._lock:
            self._breaker.succeed()

    def _failed(self, error: BaseException) -> None:
        with self._lock:
            self._breaker.fail()
            said = error.facts["problem"] if isinstance(error, PrometheusUnavailableError) else type(error).__name__
            self._problem = str(said)


def open_prometheus(settings: TelemetrySettings) -> PrometheusClient | None:
    """Return a client of the server that the settings name; None when they name none.

    Raises:
        SettingsError: Its URL is none.
    """
    if not settings.prometheus_url:
        return None
    return PrometheusClient(
        settings.prometheus_url,
        token=settings.prometheus_token.get_secret_value(),
        timeout=settings.prometheus_timeout_seconds,
        max_age=settings.prometheus_max_age_seconds,
    )


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or "?" in url or "#" in url or "@" in url:
        raise SettingsError(field="telemetry.prometheus_url", problem="write it like `http://localhost:9090`")
    return url.rstrip("/")


def _body(answer: Answer) -> _Body | None:
    try:
        return msgspec.json.decode(answer.body, type=_Body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _words_of(status: int, body: _Body | None) -> str:
    """Say what is wrong with an answer that holds no numbers."""
    if body is not None and body.error:
        return f"it answered {status}: {in_one_line(body.error, _PROBLEM)}"
    if status == 200:
        return "it answered 200, but with no answer of Prometheus; maybe a proxy or something else has its address"
    return f"it answered {status}"


def _samples(data: _Data) -> list[Sample]:
    try:
        if data.result_type == "scalar":
            at, text = msgspec.json.decode(data.result, type=tuple[float, str])
            return [Sample({}, _number(text), at)]
        if data.result_type == "vector":
            found = msgspec.json.decode(data.result, type=list[Any])
            if any("histogram" in each for each in found):
                raise InvalidQueryError(problem="the answer holds native histograms; ask for `histogram_quantile(...)`")
            series = msgspec.convert(found[: MAX_SAMPLES + 1], list[_Series])
            if len(series) > MAX_SAMPLES:
                raise InvalidQueryError(problem=f"more than {MAX_SAMPLES} series answer; aggregate them")
            return [Sample(each.metric, _number(each.value[1]), each.value[0]) for each in series]
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise PrometheusUnavailableError(problem="its answer has another shape than it should") from error
    raise InvalidQueryError(problem=f"the answer is a {data.result_type}")


def _number(text: str) -> float:
    """Return a number as Prometheus spells it; Python would also take `1_0`, blanks and `nan`."""
    if text in {"NaN", "+Inf", "-Inf"}:
        return float(text)
    value = float(text)
    if not math.isfinite(value) or "_" in text or text != text.strip():
        raise ValueError(text)
    return value

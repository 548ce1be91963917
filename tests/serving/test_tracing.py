"""Traces: the caller's is honoured, hostile ones are nothing, and no prediction ever waits for a collector."""

import logging
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.serving import tracing
from crossfade.serving.tracing import Trace, TraceContext, Tracer, parse_traceparent
from tests.traffic.support import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(tracing, "SEND_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (VALID, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"cc-{TRACE}-{SPAN}-01-", True),
    ],
)
def test_a_valid_traceparent_is_taken(header, sampled):
    assert parse_traceparent(header.encode()) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        VALID.upper(),
        VALID + "-more",
        VALID + "-",
        VALID + " ",
        f" {VALID}",
        VALID[:-1],
        VALID + "1",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"{VALID},{VALID}",
        f"{VALID}\n",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 10_000,
        f"cc-{TRACE}-{SPAN}-01-\x00",
    ],
)
def test_an_invalid_traceparent_is_as_good_as_none(header):
    assert parse_traceparent(header.encode()) is None


def test_a_state_that_is_too_long_is_not_handed_on():
    assert parse_traceparent(VALID.encode(), b"a=" + b"x" * 510).state == "a=" + "x" * 510
    assert parse_traceparent(VALID.encode(), b"a=" + b"x" * 511).state == ""


@given(st.binary(max_size=300) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}"))
@example(b"\xff" * 55)
def test_whatever_is_sent_is_valid_or_nothing(value):
    found = parse_traceparent(value)
    if found is not None:
        assert value[3:35].decode() == found.trace_id != "0" * 32
        assert value[36:52].decode() == found.span_id != "0" * 16
        assert not value.startswith(b"ff")


# --- who is traced -------------------------------------------------------------------------------------------------


@pytest.fixture
def tracer_of():
    """Makes tracers, and closes them."""
    made = []

    def make(send, ratio=1.0):
        made.append(Tracer(ratio, send))
        return made[-1]

    yield make
    for tracer in made:
        tracer.close()


def test_the_caller_decides_where_there_is_one(tracer_of):
    never, always = tracer_of(lambda _: True, 0.0), tracer_of(lambda _: True)
    for tracer in (never, always):
        assert tracer.begin(TraceContext(TRACE, SPAN, sampled=False), 1.0) is None
        trace = tracer.begin(TraceContext(TRACE, SPAN, sampled=True), 1.0)
        assert trace.trace_id == TRACE
        assert trace.span_id != SPAN
    assert never.begin(None, 1.0) is None
    assert always.begin(None, 1.0) is not None


def test_a_share_of_the_others_is_traced_each_with_ids_of_its_own(tracer_of):
    tracer = tracer_of(lambda _: True, 0.25)
    traces = [trace for _ in range(4000) if (trace := tracer.begin(None, 1.0))]
    assert 800 < len(traces) < 1200
    assert len({trace.trace_id for trace in traces}) == len({trace.span_id for trace in traces}) == len(traces)
    assert {len(trace.trace_id) for trace in traces} == {32}


# --- how traces leave ----------------------------------------------------------------------------------------------


def test_what_ended_is_sent_in_batches_and_counted(tracer_of, monkeypatch):
    monkeypatch.setattr(tracing, "BATCH", 4)
    sent = []
    tracer = tracer_of(lambda batch: sent.append(list(batch)) or True)
    traces = [Trace(None, 1.0) for _ in range(10)]
    for trace in traces:
        tracer.end(trace)
    eventually(lambda: tracer.sent["sent"] == 10)
    assert [trace for batch in sent for trace in batch] == traces
    assert max(map(len, sent)) <= 4
    assert all(trace.ended_at > 0 for trace in traces)


def test_a_collector_that_hangs_costs_traces_and_no_time(tracer_of, monkeypatch):
    monkeypatch.setattr(tracing, "MAX_WAITING", 100)
    monkeypatch.setattr(tracing, "BATCH", 10)
    gate, asked = threading.Event(), threading.Event()

    def hang(batch):
        asked.set()
        return gate.wait(30)

    tracer = tracer_of(hang)
    tracer.end(Trace(None, 1.0))
    asked.wait(10)
    for _ in range(1000):
        tracer.end(Trace(None, 1.0))  # it would hang here
    assert tracer.sent == {"sent": 0, "failed": 0, "dropped": 900}
    gate.set()
    eventually(lambda: tracer.sent["sent"] == 101)


@pytest.mark.parametrize("failing", ["says no", "raises"])
def test_a_collector_that_fails_is_said_once_and_again_when_it_is_back(tracer_of, caplog, failing):
    caplog.set_level(logging.INFO)
    works = []

    def send(_):
        if not works and failing == "raises":
            raise OSError("nobody there")
        return bool(works)

    tracer = tracer_of(send)
    for number in range(1, 4):
        tracer.end(Trace(None, 1.0))
        eventually(lambda number=number: tracer.sent["failed"] == number)
    works.append(True)
    tracer.end(Trace(None, 1.0))
    eventually(lambda: tracer.sent["sent"] == 1)
    said = [record.getMessage() for record in caplog.records if "collector" in record.getMessage()]
    assert said == ["the collector does not take traces; they are lost", "the collector takes traces again"]


def test_closing_sends_what_waits(monkeypatch):
    monkeypatch.setattr(tracing, "SEND_SECONDS", 60)
    sent = []
    tracer = Tracer(1.0, lambda batch: sent.extend(batch) or True)
    trace = Trace(None, 1.0)
    tracer.end(trace)
    tracer.close()
    assert sent == [trace]


def test_closing_does_not_wait_for_a_collector_that_hangs(monkeypatch):
    monkeypatch.setattr(tracing, "_END_SECONDS", 0.05)
    gate = threading.Event()
    tracer = Tracer(1.0, lambda _: gate.wait(30))
    tracer.end(Trace(None, 1.0))
    tracer.close()
    assert not gate.is_set()
    gate.set()

"""What travels between server and model process, and what becomes of anything else."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import CrossfadeError, LoadFailedError, MemberSlowError, PredictionError, SignatureMismatchError
from crossfade.serving.frames import encode_frame
from crossfade.serving.isolation import messages
from crossfade.serving.isolation.messages import (
    Answered,
    Ask,
    Crowded,
    Failed,
    Loaded,
    Region,
    Started,
    decode_reply,
    decode_request,
    encode,
    error_of,
    failure_of,
)
from crossfade.serving.isolation.region import Region as Memory
from crossfade.serving.isolation.region import sealed_bytes

FRAME = encode_frame({"x": np.array([1.0])})


@pytest.mark.parametrize(
    "reply",
    [Started(("seccomp",)), Loaded(("numpy",)), Answered(FRAME), Crowded(7), Failed("x", {"a": 1.5, "b": None})],
)
def test_replies_come_back(reply):
    assert decode_reply(encode(reply)) == reply


@pytest.mark.parametrize("request_", [Ask(("predict",), FRAME), Ask((), b"", 12), Region()])
def test_requests_come_back(request_):
    assert decode_request(encode(request_)) == request_


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        reply = decode_reply(data)
    except ValueError:
        return
    assert isinstance(reply, messages.Message)


@given(
    st.text(max_size=30),
    st.dictionaries(st.text(max_size=80), st.none() | st.text() | st.integers() | st.floats() | st.booleans()),
)
def test_any_failure_is_an_error_about_this_version(code, facts):
    error = error_of(Failed(code, facts), "m:1.0.0")
    assert isinstance(error, CrossfadeError)
    assert error.facts["ref"] == "m:1.0.0" or "ref" in facts


def test_an_ensemble_may_say_which_member_it_was():
    slow = MemberSlowError(member="moody:1.0.0", budget_seconds=0.3)
    error = error_of(failure_of(slow, "m:1.0.0"), "m:1.0.0")
    assert (str(error), error.http_status) == (str(slow), 503)
    failed = PredictionError(ref="moody:1.0.0", problem="no")
    assert str(error_of(failure_of(failed, "m:1.0.0"), "m:1.0.0")) == str(failed)
    assert error_of(Failed("prediction_failed", {"ref": "../x", "problem": "no"}), "m:1.0.0").facts["ref"] == "m:1.0.0"


@pytest.mark.parametrize(
    "error",
    [
        PredictionError(ref="m:1.0.0", problem="no"),
        LoadFailedError(ref="m:1.0.0", problem="damaged"),
        SignatureMismatchError(ref="m:1.0.0", field="x", expected="FP64", given="text"),
    ],
)
def test_known_errors_come_back_as_they_were(error):
    again = error_of(decode_reply(encode(failure_of(error, "m:1.0.0"))), "m:1.0.0")
    assert (type(again), str(again)) == (type(error), str(error))


def test_text_that_is_no_text_can_be_said():
    failed = failure_of(ValueError("\ud800" * 5_000), "m:1.0.0")
    assert len(decode_reply(encode(failed)).facts["problem"]) <= 2_000


def test_a_region_cannot_be_shrunk_and_holds_what_it_says():
    region = Memory.create(10)
    region.write(b"0123456789")
    assert region.read(10) == b"0123456789"
    for size in (-1, region.size + 1):
        with pytest.raises(ValueError, match="holds no"):
            region.read(size)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(region.fd, 1)
    region.close()


def test_sealed_bytes_cannot_be_changed():
    fd = sealed_bytes([b"abc", b"", b"def"])
    assert os.pread(fd, 10, 0) == b"abcdef"
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(fd, b"x", 0)
    os.close(fd)

"""What a call sends, and when it is sent again."""

import httpx
import msgspec
import pytest

from crossfade import errors
from crossfade.client import calls, verbs
from crossfade.client.calls import ATTEMPTS, Call, pause_before_retry, ref_path, segment
from crossfade.core.identity import ModelRef

REQUEST = httpx.Request("GET", "http://localhost/x")
REPEATABLE = verbs.status()
ONCE = verbs.rollback("tiny")


def response(status, **headers):
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("ref", "path"),
    [
        ("tiny", "tiny@champion"),
        ("tiny:v1.0.0", "tiny:1.0.0"),
        ("tiny@challenger", "tiny@challenger"),
        ("models:/tiny/3", "tiny:3"),
        ("models:/tiny/Production", "tiny:production"),
        (ModelRef("tiny", version="1.0.0-rc.1"), "tiny:1.0.0-rc.1"),
    ],
)
def test_every_reference_is_one_segment(ref, path):
    assert ref_path(ref) == path
    assert "/" not in ref_path(ref)
    assert ModelRef.parse(ref_path(ref)) == (ModelRef.parse(ref) if isinstance(ref, str) else ref)


@pytest.mark.parametrize("ref", ["", "Not A Name", "a b", "../x", "tiny:1.2.3.4@x"])
def test_what_is_no_reference_is_not_sent(ref):
    with pytest.raises(errors.InvalidRefError):
        ref_path(ref)


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_a_segment_is_never_a_dot(text):
    with pytest.raises(errors.MalformedRequestError):
        segment(text)


def test_segments_are_quoted():
    assert segment("a/b?c#d%2e") == "a%2Fb%3Fc%23d%252e"
    assert "..%2F" not in verbs.file("tiny:1.0.0", "model/weights.bin").path


def test_a_query_leaves_out_what_is_not_given():
    call = verbs.versions("tiny", stage="", prefix="1.", limit=5)
    assert call.options()["params"] == {"prefix": "1.", "limit": "5"}
    assert verbs.dry_run(ONCE).options()["params"] == {"dry_run": "true"}
    assert verbs.models(limit=0).options()["params"] == {"limit": "0"}


def test_a_struct_is_sent_as_json():
    call = verbs.move_alias("tiny", "champion", "1.0.0", reason="why")
    assert call.options()["headers"]["content-type"] == "application/json"
    document = {"version": "1.0.0", "expected": None, "reason": "why", "override_latch": False}
    assert msgspec.json.decode(b"".join(call.pieces())) == document


def test_a_file_is_sent_in_pieces_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "PIECE_BYTES", 4)
    path = tmp_path / "blob"
    path.write_bytes(b"0123456789")
    counted = []
    call = verbs.put_blob("0" * 64, path, holder="h", sent=counted.append)
    assert call.options()["headers"]["content-length"] == "10"
    assert list(call.pieces()) == [b"0123", b"4567", b"89"]
    assert counted == [4, 8, 10]
    assert b"".join(call.pieces()) == b"0123456789", "a call can be sent again"


def test_bytes_are_sent_as_they_are():
    call = verbs.put_blob("0" * 64, b"abc", holder="h")
    assert list(call.pieces()) == [b"abc"]
    assert call.options()["headers"] == {"content-type": "application/octet-stream", "content-length": "3"}


def test_a_call_without_body_has_no_headers():
    assert REPEATABLE.options()["headers"] == {}


# --- again? --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [REPEATABLE, ONCE])
@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_what_was_never_sent_is_sent_again(call, failure):
    pauses = [pause_before_retry(call, attempt, failure) for attempt in range(1, ATTEMPTS + 1)]
    assert pauses[-1] is None
    assert all(pause is not None and pause < 1 for pause in pauses[:-1])


@pytest.mark.parametrize("failure", [httpx.ReadError("a"), httpx.RemoteProtocolError("b"), httpx.WriteError("c")])
def test_what_may_have_arrived_is_sent_again_only_when_repeatable(failure):
    assert pause_before_retry(REPEATABLE, 1, failure) is not None
    assert pause_before_retry(ONCE, 1, failure) is None


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("slow"), httpx.WriteTimeout("slow"), httpx.PoolTimeout("slow")])
def test_a_timeout_is_final(failure):
    assert pause_before_retry(REPEATABLE, 1, failure) is None


@pytest.mark.parametrize(
    ("call", "answer", "pause"),
    [
        (REPEATABLE, response(503, retry_after="1"), 1.0),
        (REPEATABLE, response(503, retry_after="3600"), 5.0),
        (REPEATABLE, response(503), None),
        (REPEATABLE, response(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (REPEATABLE, response(500, retry_after="1"), None),
        (REPEATABLE, response(200), None),
        (ONCE, response(503, retry_after="1"), None),
    ],
)
def test_an_answer_decides_itself_whether_to_ask_again(call, answer, pause):
    assert pause_before_retry(call, 1, answer) == pause


def test_verbs_that_count_are_not_repeatable():
    assert not verbs.rollback("tiny").repeatable
    assert not verbs.delete("tiny:1.0.0").repeatable
    assert not verbs.transition("tiny:1.0.0", "staging").repeatable
    assert not verbs.move_alias("tiny", "champion", "1.0.0", expected="0.9.0").repeatable
    assert verbs.move_alias("tiny", "champion", "1.0.0").repeatable
    assert verbs.dry_run(verbs.rollback("tiny")).repeatable


# --- answers -------------------------------------------------------------------------------------------------------


def test_an_answer_that_is_not_ours_says_so():
    answer = httpx.Response(200, content=b"<html>login</html>", request=REQUEST)
    with pytest.raises(errors.ServerUnreachableError, match="not Crossfade's"):
        REPEATABLE.finish(answer)


def test_a_file_is_answered_as_bytes():
    answer = httpx.Response(200, content=b"\x00\x01", request=REQUEST)
    assert verbs.file("tiny:1.0.0", "model.onnx").finish(answer) == b"\x00\x01"


def test_a_user_without_a_name_is_local(monkeypatch):
    def nameless():
        raise KeyError("uid not found")

    monkeypatch.setattr(calls, "getuser", nameless)
    assert calls.principal_header(None) == {"x-principal": "local"}
    assert calls.principal_header("Jürg Müller") == {"x-principal": "J%C3%BCrg M%C3%BCller"}


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost", True),
        ("http://[::1]:8000", True),
        ("http://models.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_no_proxy_stands_before_this_machine(url, here):
    assert calls.is_loopback(url) is here


def test_a_call_is_data():
    assert Call("GET", "/x", bytes) == Call("GET", "/x", bytes)

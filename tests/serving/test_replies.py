"""The same request a moment later: the same bytes, and never another one's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.serving import replies as module
from crossfade.serving.replies import MAX_BYTES, Replies, Reply

SECRET = b"s" * 32
REPLY = Reply(b'{"outputs":[]}', None, 1)


class Answers:
    """Stands for one generation of one version: nothing but who it is counts."""


@pytest.fixture
def answers():
    return Answers()


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still unless a test moves it."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def kept(clock):
    return Replies(SECRET, 10_000, 1.0)


def test_the_same_request_gets_the_same_answer(kept, answers):
    assert kept.find(kept.question(answers, False, b"", b"body")) is None
    kept.remember(kept.question(answers, False, b"", b"body"), REPLY)
    assert kept.find(kept.question(answers, False, b"", b"body")) is REPLY


def test_for_a_second(kept, answers, clock):
    question = kept.question(answers, False, b"", b"body")
    kept.remember(question, REPLY)
    clock.now += 0.9
    assert kept.find(question) is REPLY
    clock.now += 0.2
    assert kept.find(question) is None
    clock.now -= 1.0
    assert kept.find(question) is None, "what was too old once is gone"


def test_being_asked_does_not_make_it_younger(kept, answers, clock):
    question = kept.question(answers, False, b"", b"body")
    kept.remember(question, REPLY)
    for _ in range(9):
        clock.now += 0.1
        assert kept.find(question) is REPLY
    clock.now += 0.2
    assert kept.find(question) is None


Part = st.binary(max_size=6) | st.sampled_from([b"1:", b"0:", b"{}", b"12"])
Asked = st.tuples(st.sampled_from([0, 1]), st.booleans(), Part, Part)


@given(st.lists(Asked, min_size=2, max_size=30))
def test_never_the_answer_to_anything_else(asked):
    """Heads and bodies that run into each other, other versions, and answers in another's stead included."""
    versions = [Answers(), Answers()]
    kept, expected = Replies(SECRET, 10**6, 60.0), {}
    for number, (version, fallback, head, body) in enumerate(asked):
        reply = Reply(b"%d" % number, None, 1)
        kept.remember(kept.question(versions[version], fallback, head, body), reply)
        expected[version, fallback, head, body] = reply
    for (version, fallback, head, body), reply in expected.items():
        assert kept.find(kept.question(versions[version], fallback, head, body)) is reply


def test_a_digest_says_nothing_without_the_secret(answers):
    digests = {Replies(secret, 1000, 1.0).question(answers, False, b"", b"x")[2] for secret in (SECRET, b"t" * 32)}
    assert len(digests) == 2


def test_what_was_used_least_recently_makes_room(kept, answers):
    questions = [kept.question(answers, False, b"", b"%d" % number) for number in range(30)]
    for question in questions:
        kept.remember(question, REPLY)
        kept.find(questions[0])
    assert kept.find(questions[0]) is REPLY
    assert kept.find(questions[1]) is None
    assert kept.find(questions[-1]) is REPLY
    assert kept._bytes <= 10_000
    assert len(kept._kept) == 10_000 // (len(REPLY.body) + module._OVERHEAD_BYTES)


def test_remembering_again_counts_once(kept, answers):
    question = kept.question(answers, False, b"", b"body")
    for _ in range(100):
        kept.remember(question, REPLY)
    assert kept._bytes == len(REPLY.body) + module._OVERHEAD_BYTES


def test_long_answers_are_not_remembered(kept, answers):
    question = kept.question(answers, False, b"", b"body")
    kept.remember(question, Reply(b"x" * (MAX_BYTES + 1), None, 1))
    assert kept.find(question) is None

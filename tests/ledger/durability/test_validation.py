import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidOutcomesError, TooManyOutcomesError
from crossfade.ledger.events import Outcome
from crossfade.ledger.records import Outcomes, decode_record
from crossfade.ledger.store import sound
from crossfade.ledger.validation import DAY_US, MAX_OUTCOMES, encode_outcomes

NOW = 1_800_000_000_000_000


def outcome(**changes):
    return Outcome(**{"id": "a", "at_us": NOW, "name": "n", "value": 1.0, "decision": "d"} | changes)


def refused(*outcomes):
    with pytest.raises(InvalidOutcomesError) as caught:
        encode_outcomes(outcomes, NOW, 400)
    return caught.value.facts["index"], caught.value.facts["problem"]


def test_a_good_batch_is_a_record():
    batch = [outcome(), outcome(id="b", decision="", experiment="e", unit="u")]
    assert decode_record(encode_outcomes(batch, NOW, 400)) == Outcomes(batch)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": ""}, "its `id` is empty"),
        ({"id": "x" * 65}, "its `id` has 65 characters"),
        ({"id": "a\0b"}, "its `id` has characters that cannot be shown"),
        ({"id": "a\nb"}, "its `id` has characters that cannot be shown"),
        ({"id": "\ud800"}, "cannot be written"),
        ({"id": 7}, "cannot be written"),
        ({"name": ""}, "its `name` is empty"),
        ({"name": "x" * 65}, "its `name` has 65 characters"),
        ({"value": float("nan")}, "its value is nan"),
        ({"value": float("-inf")}, "its value is -inf"),
        ({"value": True}, "cannot be written"),
        ({"value": None}, "cannot be written"),
        ({"value": 10**400}, "cannot be written"),
        ({"value": "1"}, "cannot be written"),
        ({"at_us": NOW + DAY_US + 1}, "more than a day from now"),
        ({"at_us": NOW - 400 * DAY_US - 1}, "more than 400 days ago"),
        ({"at_us": 0}, "more than 400 days ago"),
        ({"at_us": 2**70}, "cannot be written"),
        ({"at_us": 1.5}, "cannot be written"),
        ({"decision": ""}, "either `decision`, or"),
        ({"experiment": "e", "unit": "u"}, "either `decision`, or"),
        ({"decision": "", "experiment": "e"}, "either `decision`, or"),
        ({"decision": "", "unit": "u"}, "either `decision`, or"),
        ({"decision": "x" * 65}, "its `decision` has 65"),
        ({"decision": "", "experiment": "x" * 65, "unit": "u"}, "its `experiment` has 65"),
        ({"decision": "", "experiment": "e", "unit": "x" * 513}, "its `unit` has 513"),
    ],
)
def test_the_first_bad_outcome_is_named(changes, problem):
    index, said = refused(outcome(), outcome(id="b"), outcome(**changes), outcome(id=""))
    assert index == 2
    assert problem in said


@pytest.mark.parametrize("at_us", [NOW + DAY_US, NOW - 400 * DAY_US, NOW])
def test_the_edges_of_time_are_taken(at_us):
    encode_outcomes([outcome(at_us=at_us)], NOW, 400)


def test_a_clock_that_jumps_back_refuses_what_it_took_before():
    encode_outcomes([outcome(at_us=NOW)], NOW, 400)
    with pytest.raises(InvalidOutcomesError, match="by the clock of this server"):
        encode_outcomes([outcome(at_us=NOW)], NOW - 2 * DAY_US, 400)


def test_what_is_older_than_what_is_kept_is_refused():
    """The database may have forgotten it, and would count it a second time."""
    with pytest.raises(InvalidOutcomesError, match="more than 7 days ago"):
        encode_outcomes([outcome(at_us=NOW - 8 * DAY_US)], NOW, 7)


def test_too_many_are_refused():
    with pytest.raises(TooManyOutcomesError, match="10001"):
        encode_outcomes([outcome()] * (MAX_OUTCOMES + 1), NOW, 400)
    encode_outcomes([outcome()] * MAX_OUTCOMES, NOW, 400)


@pytest.mark.parametrize(
    "changes",
    [{"name": "m"}, {"value": 2.0}, {"at_us": NOW - 1}, {"decision": "e"}],
    ids=lambda changes: next(iter(changes)),
)
def test_of_two_that_share_an_id_and_say_different_things_none_is_taken(changes):
    problem = "it has the id of outcome 1 and says something else, and an id is one outcome"
    batch = [outcome(id="b"), outcome(), outcome(id="c"), outcome(**changes), outcome()]
    assert refused(*batch) == (3, problem)


def test_the_same_outcome_twice_is_one():
    encode_outcomes([outcome(), outcome(id="b"), outcome()], NOW, 400)


def test_something_that_is_no_outcome_is_refused():
    assert refused(outcome(), ("a", "b"))[0] == 1
    assert refused(object())[0] == 0


THINGS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70) | st.binary(max_size=3)
WHATEVER = st.builds(Outcome, THINGS, THINGS, THINGS, THINGS, THINGS, THINGS, THINGS)


@given(st.lists(WHATEVER | st.builds(outcome, id=st.text(min_size=1, max_size=70)), max_size=5))
def test_a_batch_is_taken_whole_and_readable_or_refused(batch):
    payload = refusal = None
    try:
        payload = encode_outcomes(batch, NOW, 400)
    except InvalidOutcomesError as error:
        refusal = error.facts
    if payload is None:
        assert 0 <= refusal["index"] < len(batch)
        assert refusal["problem"]
    else:
        record = decode_record(payload)
        assert len(record.events) == len(batch)
        assert all(map(sound, record.events))

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.ledger.events import Exposure, Outcome, ShadowAnswer
from crossfade.ledger.records import Began, Ended, Exposures, Outcomes, decode_record, encode_record, salvage
from tests.ledger.durability.streams import an_exposure, an_outcome

TEXTS = st.text(max_size=20).filter(str.isprintable)
NUMBERS = st.floats(allow_nan=False)
EXPOSURES = st.builds(
    Exposure,
    TEXTS,
    st.integers(0, 2**53),
    TEXTS,
    st.integers(0, 2**53),
    TEXTS,
    TEXTS,
    NUMBERS,
    score=st.none() | NUMBERS,
    error=st.booleans(),
    dimensions=st.dictionaries(TEXTS, TEXTS, max_size=3),
    context=st.dictionaries(TEXTS, NUMBERS, max_size=3),
    shadows=st.lists(st.builds(ShadowAnswer, TEXTS, TEXTS, st.none() | NUMBERS), max_size=2).map(tuple),
)
OUTCOMES = st.builds(Outcome, TEXTS, st.integers(-(2**60), 2**60), TEXTS, NUMBERS, TEXTS, TEXTS, TEXTS)


@given(st.lists(EXPOSURES, max_size=4))
def test_exposures_come_back(events):
    assert decode_record(encode_record(Exposures(events))) == Exposures(events)


@given(st.lists(OUTCOMES, max_size=4))
def test_outcomes_come_back(events):
    assert decode_record(encode_record(Outcomes(events))) == Outcomes(events)


def test_the_ends_come_back():
    for record in (Began({"late": 7}), Ended()):
        assert decode_record(encode_record(record)) == record


def test_scalars_of_numpy_are_numbers():
    record = Exposures([an_exposure(score=np.float32(0.5), propensity=np.float64(0.25), error=np.bool_(True))])
    (read,) = decode_record(encode_record(record)).events
    assert (read.score, read.propensity, read.error) == (0.5, 0.25, True)


@pytest.mark.parametrize("score", [object(), 1j, np.arange(2)])
def test_other_things_cannot_be_written(score):
    with pytest.raises((TypeError, ValueError)):
        encode_record(Exposures([an_exposure(score=score)]))


@given(st.binary(max_size=200))
def test_anything_else_is_no_record(content):
    try:
        decode_record(content)
    except msgspec.DecodeError:
        exposures, outcomes, unread = salvage(content)
        assert exposures or outcomes or unread


def test_events_beside_an_unreadable_one_are_salvaged():
    good = an_outcome(1)
    payload = msgspec.msgpack.encode([2, [good, ["only an id"], an_outcome(2)]])
    with pytest.raises(msgspec.DecodeError):
        decode_record(payload)
    exposures, outcomes, unread = salvage(payload)
    assert (exposures, [each.id for each in outcomes], unread) == ([], ["outcome-1", "outcome-2"], 1)


def test_an_exposure_of_a_later_release_is_read_as_far_as_it_is_known():
    """A release adds fields at the end; one that does not know them leaves them out."""
    event = an_exposure()
    payload = msgspec.msgpack.encode([1, [[*msgspec.structs.astuple(event), "new"]]])
    assert decode_record(payload) == Exposures([event])

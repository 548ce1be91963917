from hypothesis import given
from hypothesis import strategies as st

from crossfade.ledger.events import ShadowAnswer
from crossfade.ledger.mending import encodable, keepable_unit, mended
from crossfade.ledger.records import Exposures, decode_record, encode_record
from crossfade.ledger.store import MAX_UNIT, storable
from tests.ledger.durability.streams import an_exposure

ANY_TEXT = st.text(st.characters(), max_size=30) | st.text(min_size=500, max_size=600)


def test_an_ordinary_one_stays_itself():
    event = an_exposure(score=0.5, context={"age": 1.0}, shadows=(ShadowAnswer("t", "1.0.0", 0.25, 0.1),))
    assert mended(event) is event


@given(ANY_TEXT, st.floats() | st.none(), st.dictionaries(st.text(max_size=5), st.floats(), max_size=3))
def test_whatever_a_client_sends_can_be_kept(unit, score, context):
    event = an_exposure(unit=unit, score=score, context=context, shadows=(ShadowAnswer("t", "1", score),))
    kept = mended(event)
    assert kept is not None
    assert storable(kept)
    assert mended(kept) == kept
    assert set(kept.context) <= set(context)


@given(st.text(st.characters(categories=None), max_size=20), st.text(st.characters(categories=None), max_size=5))
def test_any_text_can_be_written(unit, name):
    event = encodable(an_exposure(unit=unit, dimensions={name: unit}, context={name: 1.0}))
    assert decode_record(encode_record(Exposures([event]))) == Exposures([event])


@given(st.lists(st.text(min_size=510, max_size=520), min_size=2, max_size=4, unique=True))
def test_long_units_stay_different_and_the_same(units):
    kept = [keepable_unit(unit) for unit in units]
    assert len(set(kept)) == len(units)
    assert kept == [keepable_unit(unit) for unit in units]
    assert all(len(unit) <= MAX_UNIT for unit in kept)


def test_what_is_ours_and_cannot_be_kept_is_not_mended():
    assert mended(an_exposure(variant="x" * 65)) is None
    assert mended(an_exposure(propensity=float("nan"))) is None

"""Equal content, equal bytes, equal digest."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.clock import utc_now
from crossfade.core.hashing import canonical_json, is_digest, sha256

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.binary())
def test_sha256_agrees_with_hashlib(data):
    assert sha256(data) == hashlib.sha256(data).hexdigest()
    assert is_digest(sha256(data))


@pytest.mark.parametrize("text", ["", "e3b0", "E" * 64, "g" * 64, "0" * 63 + "\n", "0" * 65, "../" + "0" * 61])
def test_not_a_digest(text):
    assert not is_digest(text)


@given(documents)
def test_canonical_json_is_json(document):
    assert json.loads(canonical_json(document)) == document


@given(st.dictionaries(st.text(), st.integers(-5, 5)))
def test_the_order_of_keys_does_not_matter(document):
    assert canonical_json(dict(reversed(document.items()))) == canonical_json(document)


def test_what_json_cannot_hold_is_an_error():
    with pytest.raises(TypeError):
        canonical_json({"x": object()})


def test_the_clock_is_aware():
    assert utc_now().utcoffset().total_seconds() == 0

"""Words that come from outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.wording import in_one_line


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("as it is, ü and 漢", "as it is, ü and 漢"),
        ("bad\0 thing", "bad  thing"),
        ("half \ud800 a pair", "half   a pair"),
        ("two\r\nlines", "two  lines"),
        ("\x1b[2Jgone", " [2Jgone"),
        ("", ""),
    ],
)
def test_what_cannot_be_stored_or_shown_is_a_blank(said, kept):
    assert in_one_line(said) == kept


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_becomes_a_line(text):
    line = in_one_line(text, 20)
    assert len(line) <= 20
    assert line.isprintable()
    assert line.encode().decode() == line

"""Every error: one code, a sentence and a hint that render from the facts its class names."""

import copy
import pickle
import string

import pytest

from crossfade import errors


def every(kind=errors.CrossfadeError):
    for child in kind.__subclasses__():
        yield child
        yield from every(child)


LEAVES = [kind for kind in every() if not kind.__subclasses__()]
FAMILIES = {
    errors.InvalidInputError: (422, 2),
    errors.NotFoundError: (404, 3),
    errors.ConflictError: (409, 4),
    errors.DeniedError: (403, 5),
    errors.UnsafeError: (412, 6),
    errors.UnavailableError: (503, 7),
}


def facts_of(kind):
    templates = (kind.sentence, kind.hint_template)
    return {name: name.upper() for text in templates for _, name, _, _ in string.Formatter().parse(text) if name}


def test_codes_are_unique():
    codes = [kind.code for kind in every()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_every_error_renders(kind):
    error = kind(**facts_of(kind))
    assert str(error) == error.message
    assert "{" not in error.message + error.hint
    assert error.hint, "an error without a hint leaves the user alone"
    family = next(f for f in FAMILIES if isinstance(error, f))
    assert error.exit_code == FAMILIES[family][1]
    # a quota is the one refusal of the server that the caller alone is the reason for; that a model fails on what its
    # signature allows is the one failure of a version that an input brings about
    if kind not in {errors.QuotaExceededError, errors.PredictionError}:
        assert error.http_status // 100 == FAMILIES[family][0] // 100


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_every_error_survives_copying(kind):
    error = kind(**facts_of(kind))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (str(twin), twin.hint, twin.facts) == (str(error), error.hint, error.facts)


def test_text_that_is_no_unicode_can_be_told():
    error = errors.InvalidNameError(name="\ud800ä", kind="model")
    assert (error.facts["name"], error.message) == ("?ä", "`?ä` is not a valid model name")


def test_the_tree_in_the_docstring_is_complete():
    missing = [kind.__name__ for kind in every() if kind.__name__ not in (errors.__doc__ or "")]
    assert missing == []


def test_facts_with_braces_are_only_data():
    assert "{evil}" in str(errors.InvalidRefError(ref="{evil}"))


def test_a_missing_fact_is_a_bug_that_shows():
    with pytest.raises(KeyError):
        errors.InvalidRefError()

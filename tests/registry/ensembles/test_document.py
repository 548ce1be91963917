"""What a specification may say, and what a stored document must look like."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidEnsembleError
from crossfade.registry.ensembles.document import EnsembleDocument, EnsembleSpec, Member, Part, is_nested

A, B = Member("a:1.0.0"), Member("b:1.0.0")
NAN, INFINITY = float("nan"), float("inf")


def refused(spec):
    with pytest.raises(InvalidEnsembleError) as caught:
        spec.check()
    assert "crossfade models ensemble" in caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("weight", [0.0, -1.0, NAN, INFINITY, -INFINITY, 1e-10, 1e10])
def test_weights_are_positive_and_finite(weight):
    assert "weight" in refused(EnsembleSpec("average", (A, Member("b:1.0.0", weight=weight))))


@pytest.mark.parametrize("budget", [0.0, -1.0, NAN, INFINITY, 1e-6, 601.0])
def test_budgets_are_times(budget):
    assert "budget" in refused(EnsembleSpec("first", (A, Member("b:1.0.0", budget_seconds=budget))))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.2, 0.3), (5.0, 1e9), (1e-9, 1.0)])
def test_weights_need_not_sum_to_anything(weights):
    EnsembleSpec("average", tuple(Member(f"m:1.0.{i}", weight=w) for i, w in enumerate(weights))).check()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (EnsembleSpec("average", ()), "0 members"),
        (EnsembleSpec("average", tuple(Member(f"m:1.0.{i}") for i in range(17))), "17 members"),
        (EnsembleSpec("hard_vote", (A, B, A)), "twice"),
        (EnsembleSpec("stack", (A, B)), "needs a stacker"),
        (EnsembleSpec("average", (A, B), "c:1.0.0"), "no other method has one"),
        (EnsembleSpec("first", (A, Member("b:1.0.0", weight=2.0))), "weights mean nothing"),
        (EnsembleSpec("stack", (A, Member("b:1.0.0", weight=2.0)), "c:1.0.0"), "weights mean nothing"),
        (EnsembleSpec("stack", (A, Member("b:1.0.0", on_failure="drop")), "c:1.0.0"), "substitute one"),
        (EnsembleSpec("first", (Member("b:1.0.0", on_failure="drop"), A)), "leads to the next member"),
        (EnsembleSpec("first", (A, Member("b:1.0.0", on_failure="drop"))), "only a constant"),
        (
            EnsembleSpec("first", (A, Member("b:1.0.0", on_failure="substitute", substitute="c:1.0.0"))),
            "only a constant",
        ),
        (EnsembleSpec("average", (A, Member("b:1.0.0", on_failure="substitute"))), "either a substitute or a constant"),
        (EnsembleSpec("average", (A, Member("b:1.0.0", constant=1.0))), "either a substitute or a constant"),
        (EnsembleSpec("average", (A, Member("b:1.0.0", substitute="a:1.0.0"))), "either a substitute or a constant"),
        (
            EnsembleSpec("average", (Member("b:1.0.0", on_failure="substitute", substitute="a:1.0.0", constant=1.0),)),
            "either a substitute or a constant",
        ),
        (
            EnsembleSpec("average", (Member("b:1.0.0", on_failure="substitute", substitute="b:1.0.0"),)),
            "cannot stand in for itself",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(spec, problem):
    assert problem in refused(spec)


@pytest.mark.parametrize(
    ("constant", "problem"),
    [
        (NAN, "not finite"),
        ([1.0, [INFINITY]], "not finite"),
        ({"predict": NAN}, "not finite"),
        ("x" * 70_000, "more than"),
        (object(), "no specification"),
        (2**70, "no JSON"),
    ],
)
def test_constants_are_small_finite_json(constant, problem):
    assert problem in refused(EnsembleSpec("average", (Member("a:1.0.0", on_failure="substitute", constant=constant),)))


@pytest.mark.parametrize(
    "spec",
    [
        EnsembleSpec("median", (A,)),
        EnsembleSpec("average", ("a:1.0.0",)),
        EnsembleSpec("average", (Member("a:1.0.0", weight="heavy"),)),
        EnsembleSpec("average", (Member("a:1.0.0", on_failure="cry"),)),
        EnsembleSpec("average", (Member(7),)),
        EnsembleSpec("average", "a:1.0.0"),
        EnsembleSpec("average", None),
    ],
)
def test_what_was_written_in_python_is_checked_like_what_was_sent(spec):
    assert "no specification" in refused(spec)


def test_everybody_who_takes_part_is_named_once():
    member = Member("a:1.0.0", on_failure="substitute", substitute="c:1.0.0")
    again = Member("b:1.0.0", on_failure="substitute", substitute="a:1.0.0")
    assert EnsembleSpec("stack", (member, again), "s:1.0.0").refs() == ("a:1.0.0", "b:1.0.0", "c:1.0.0", "s:1.0.0")


def document(*members, method="average", **changes):
    spec = EnsembleSpec(method, members)
    return EnsembleDocument(spec, tuple(Part(ref, "0" * 64) for ref in spec.refs()), **changes)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=16))
def test_weights_survive_exactly_and_equal_documents_are_equal_bytes(weights):
    kept = document(*(Member(f"m:1.0.{i}", weight=weight) for i, weight in enumerate(weights)))
    assert EnsembleDocument.decode(kept.encode()) == kept
    assert EnsembleDocument.decode(kept.encode()).encode() == kept.encode()


def test_a_document_says_no_more_than_it_must():
    assert json.loads(document(A).encode()) == {
        "spec": {"method": "average", "members": [{"ref": "a:1.0.0"}]},
        "parts": [{"ref": "a:1.0.0", "digest": "0" * 64}],
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"spec":{"method":"mean","members":[]},"parts":[]}',
        document(A, format=2).encode(),
        document().encode(),
        document(A).encode().replace(b'"digest"', b'"other"'),
        document(A).encode().replace(b"0" * 64, b"0" * 63),
        document(A).encode().replace(b'"ref":"a:1.0.0"', b'"ref":"b:1.0.0"', 1),
        document(A).encode().replace(b'{"ref"', b'{"weight":-1,"ref"', 1),
        document(A).encode().replace(b'{"ref"', b'{"surprise":1,"ref"', 1),
        EnsembleDocument(EnsembleSpec("average", (A,)), ()).encode(),
    ],
)
def test_a_damaged_document_is_refused(content):
    with pytest.raises(InvalidEnsembleError):
        EnsembleDocument.decode(content)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(content):
    with suppress(InvalidEnsembleError):
        EnsembleDocument.decode(content)


def test_an_ensemble_of_ensembles_is_seen_from_its_files():
    assert is_nested(iter(["ensemble.json", "members/0/ensemble.json"]))
    assert not is_nested(iter(["ensemble.json", "members/0/model.skops"]))

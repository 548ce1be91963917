"""The policy converges from anywhere, keeps answering on its way, and repeats itself."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.serving.policy import Load, Refit, SlotView, Unload, next_action
from crossfade.serving.slots import State
from crossfade.traffic.deployed import Deployed
from crossfade.traffic.snapshot import Aspired, Role

FREE = 1_000


def wish(version, role=Role.ACTIVE, digest=None, size=10):
    return Aspired(version, digest or f"digest of {version}", size, role)


def slot(version, state=State.READY, name="m", digest=None, size=10, retry_at=0.0):
    return SlotView(name, version, digest or f"digest of {version}", state, size, retry_at)


def decide(slots, *wishes, free=FREE, now=100.0):
    return next_action(slots, {"m": wishes} if wishes else {}, free, now)


# --- by example ---


def test_what_is_wished_is_loaded_most_urgent_first():
    wishes = {
        "a": (wish("1", Role.WARM),),
        "b": (wish("1", Role.CANDIDATE),),
        "c": (wish("1"),),
        "d": (wish("1"),),
    }
    assert next_action((), wishes, FREE, 0) == Load("c", wish("1"))
    slots = [slot("1", name="c"), slot("1", name="d")]
    assert next_action(slots, wishes, FREE, 0) == Load("b", wish("1", Role.CANDIDATE))


def test_nothing_is_done_when_all_is_well():
    assert decide([slot("1"), slot("2")], wish("2"), wish("1", Role.WARM)) is None


@pytest.mark.parametrize("state", [State.NEW, State.LOADING, State.WARMING])
def test_one_thing_at_a_time(state):
    assert decide([slot("1", state)], wish("1"), wish("2")) is None


def test_the_new_version_comes_before_the_old_one_goes():
    assert decide([slot("1")], wish("2")) == Load("m", wish("2"))
    assert decide([slot("1"), slot("2")], wish("2")) == Unload("m", "1")


@pytest.mark.parametrize("state", [State.FAILED, State.LOADING])
def test_the_old_version_stays_while_the_new_one_is_not_ready(state):
    assert decide([slot("1"), slot("2", state, retry_at=1e9)], wish("2")) is None


def test_the_old_version_stays_while_any_alias_waits():
    slots = [slot("1"), slot("2"), slot("3", State.FAILED, retry_at=1e9)]
    assert decide(slots, wish("2"), wish("3")) is None


def test_without_aliases_a_ready_candidate_is_enough():
    assert decide([slot("1"), slot("2")], wish("2", Role.CANDIDATE)) == Unload("m", "1")
    assert decide([slot("1")], wish("2", Role.CANDIDATE), free=0) == Load("m", wish("2", Role.CANDIDATE))


def test_what_nobody_wishes_for_is_unloaded():
    assert decide([slot("1")]) == Unload("m", "1")
    assert decide([slot("1", State.FAILED)]) == Unload("m", "1")
    assert decide([slot("1", State.DRAINING)]) is None


def test_a_failed_version_is_tried_again_after_its_pause():
    assert decide([slot("1", State.FAILED, retry_at=101)], wish("1")) is None
    assert decide([slot("1", State.FAILED, retry_at=99)], wish("1")) == Load("m", wish("1"))


def test_a_version_that_was_registered_anew_replaces_its_namesake():
    assert decide([slot("1", digest="old")], wish("1")) == Unload("m", "1")
    assert decide([slot("1", State.DRAINING, digest="old")], wish("1")) is None
    assert decide([slot("1", State.FAILED, digest="old", retry_at=1e9)], wish("1")) == Unload("m", "1")


# --- memory ---


def test_warm_versions_make_room_for_an_urgent_one():
    slots = [slot("1"), slot("2")]
    wishes = (wish("2"), wish("3", Role.CANDIDATE, size=15), wish("1", Role.WARM))
    assert decide(slots, *wishes, free=5) == Unload("m", "1")
    assert decide([slot("1", State.DRAINING), slot("2")], *wishes, free=5) is None


def test_superfluous_versions_make_room_before_warm_ones():
    slots = [slot("0"), slot("1"), slot("2")]
    wishes = (wish("2"), wish("3", Role.CANDIDATE, size=15), wish("1", Role.WARM))
    assert decide(slots, *wishes, free=5) == Unload("m", "0")


def test_what_answers_is_never_evicted():
    assert decide([slot("1"), slot("2")], wish("1"), wish("2"), wish("3", size=15), free=0) == Load(
        "m", wish("3", size=15)
    ), "the loader refuses it, with the reason"


def test_no_warm_version_is_sacrificed_in_vain():
    wishes = (wish("2"), wish("3", Role.CANDIDATE, size=500), wish("1", Role.WARM))
    assert decide([slot("1"), slot("2")], *wishes, free=5) == Load("m", wishes[1])


def test_a_warm_version_that_does_not_fit_is_left_out():
    assert decide([slot("2")], wish("2"), wish("1", Role.WARM, size=50), free=10) is None
    fits = wish("0", Role.WARM, size=5)
    assert decide([slot("2")], wish("2"), wish("1", Role.WARM, size=50), fits, free=10) == Load("m", fits)


def test_stopgaps_are_not_evicted_for_another_model():
    slots = [slot("1"), slot("2", State.FAILED, retry_at=1e9)]
    wishes = {"m": (wish("2"), wish("1", Role.WARM)), "n": (wish("1", size=50),)}
    assert next_action(slots, wishes, 5, 100) == Load("n", wishes["n"][0])


# --- in general ---

NAMES = ["a", "b"]
VERSIONS = ["1", "2", "3", "4"]


@st.composite
def worlds(draw):
    """What is there, what is wished, which versions are broken, and how much memory there is."""
    aspired = {}
    for name in NAMES:
        chosen = draw(st.lists(st.sampled_from(VERSIONS), unique=True, max_size=3))
        wishes = [
            wish(v, draw(st.sampled_from(list(Role))), draw(st.sampled_from([None, "anew"])), draw(st.integers(1, 9)))
            for v in chosen
        ]
        if wishes:
            aspired[name] = tuple(sorted(wishes, key=lambda w: w.role))
    slots = [
        slot(version, draw(st.sampled_from([*list(State)[3:6], State.FAILED])), name=name)
        for name in NAMES
        for version in draw(st.lists(st.sampled_from(VERSIONS), unique=True, max_size=3))
    ]
    broken = draw(st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS))))
    return slots, aspired, broken, draw(st.integers(0, 80))


def act(slots, action, broken, limit):
    """Do what the policy says; a load takes what was estimated, unless it is broken or there is no room."""
    others = [s for s in slots if (s.name, s.version) != (action.name, getattr(action, "version", None))]
    if isinstance(action, Unload):
        found = next(s for s in slots if (s.name, s.version) == (action.name, action.version))
        assert found.state in {State.READY, State.FAILED}
        return [*others, msgspec.structs.replace(found, state=State.DRAINING)] if found.state is State.READY else others
    new = action.aspired
    others = [s for s in slots if (s.name, s.version) != (action.name, new.version)]
    assert len(others) == len(slots) or any(
        s.state is State.FAILED and (s.name, s.version) == (action.name, new.version) for s in slots
    )
    fails = (action.name, new.version) in broken or sum(s.size_bytes for s in others) + new.size_bytes > limit
    if fails:
        return [*others, slot(new.version, State.FAILED, action.name, new.manifest_digest, 0, retry_at=1e9)]
    return [*others, slot(new.version, State.READY, action.name, new.manifest_digest, new.size_bytes)]


def answers(slots, name, wishes):
    """Versions of a model that can answer for what it is now."""
    digests = {w.version: w.manifest_digest for w in wishes}
    ready = [s for s in slots if s.name == name and s.state is State.READY]
    return {s.version for s in ready if digests.get(s.version, s.digest) == s.digest}


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_it_converges_and_never_takes_the_last_answer_away(world):
    slots, aspired, broken, limit = world
    for _ in range(200):
        free = limit - sum(s.size_bytes for s in slots)
        action = next_action(slots, aspired, free, 100.0)
        assert action == next_action(list(reversed(slots)), aspired, free, 100.0), "order does not matter"
        if action is None:
            leaving = [s for s in slots if s.state in {State.DRAINING, State.UNLOADING, State.GONE}]
            if not leaving:
                break
            slots = [s for s in slots if s not in leaving]
            continue
        before = slots
        slots = act(slots, action, broken, limit)
        if isinstance(action, Unload):
            check_unload(before, slots, aspired.get(action.name, ()), action)
    else:
        pytest.fail("no end in sight")
    check_end(slots, aspired, broken, limit)


def check_unload(before, after, wishes, action):
    active = {w.version for w in wishes if w.role is Role.ACTIVE}
    digests = {w.version: w.manifest_digest for w in wishes}
    (unloaded,) = (s for s in before if (s.name, s.version) == (action.name, action.version))
    if digests.get(action.version, unloaded.digest) != unloaded.digest:
        return  # its version was registered anew, so nobody may ask it any more
    was_ready = action.version in answers(before, action.name, wishes)
    assert not (was_ready and action.version in active), "what answers is never evicted"
    if was_ready and active:
        assert active <= answers(after, action.name, wishes), "stopgaps stay until they are not needed"


def check_end(slots, aspired, broken, limit):
    ready = {(s.name, s.version) for s in slots if s.state is State.READY}
    for name, wishes in aspired.items():
        for w in wishes:
            failed = any((s.name, s.version) == (name, w.version) and s.state is State.FAILED for s in slots)
            if w.role is not Role.WARM:
                assert (name, w.version) in ready or failed
        active = {(name, w.version) for w in wishes if w.role is Role.ACTIVE}
        wished = {(name, w.version) for w in wishes}
        if active and active <= ready:
            assert {key for key in ready if key[0] == name} <= wished
    assert {name for name, _ in ready} <= set(aspired), "nothing is left of what nobody wishes for"


# --- how versions run ---

TERMS = Deployed("d", 1)


def deployed(version, terms, role=Role.ACTIVE):
    return msgspec.structs.replace(wish(version, role), deployments=() if terms is None else (terms,))


def running(version, terms=None, refused=None, refit_at=0.0):
    return msgspec.structs.replace(slot(version), terms=terms, refused=refused, refit_at=refit_at)


def test_what_runs_otherwise_than_it_shall_is_changed_while_it_answers():
    assert decide([running("1")], deployed("1", TERMS)) == Refit("m", deployed("1", TERMS))
    assert decide([running("1", TERMS)], deployed("1", None)) == Refit("m", deployed("1", None))
    assert decide([running("1", TERMS)], deployed("1", TERMS)) is None


def test_what_is_missing_comes_first_and_what_is_superfluous_last():
    slots = [running("1"), running("0")]
    assert decide(slots, deployed("1", TERMS), wish("2")) == Load("m", wish("2"))
    assert decide(slots, deployed("1", TERMS)) == Refit("m", deployed("1", TERMS))
    assert decide([running("1", TERMS), running("0")], deployed("1", TERMS)) == Unload("m", "0")


def test_what_could_not_be_changed_rests_unless_something_else_is_wanted():
    other = Deployed("d", 2)
    resting = running("1", refused=TERMS, refit_at=101)
    assert decide([resting], deployed("1", TERMS)) is None
    assert decide([resting], deployed("1", other)) == Refit("m", deployed("1", other))
    assert decide([running("1", refused=TERMS, refit_at=99)], deployed("1", TERMS)) is not None

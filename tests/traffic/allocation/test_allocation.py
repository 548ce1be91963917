"""Allocations and layers are values: every change is a new one, checked, and nobody moves who need not."""

import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.errors import ExperimentNotFoundError, InvalidAllocationError, LayerFullError, UnknownHashError
from crossfade.traffic.allocation.allocation import HOLDOUT, Allocation, Layer
from crossfade.traffic.allocation.allocations import Allocations, AllocationsSpec
from crossfade.traffic.allocation.hashing import SLOTS
from crossfade.traffic.allocation.specs import LayerSpec, RampStep
from tests.traffic.allocation.support import NOW, spec, variants


def moved(before, after):
    names = [*before.owners.names, *[None] * (256 - len(before.owners.names))]
    other = [*after.owners.names, *[None] * (256 - len(after.owners.names))]
    pairs = zip(before.owners.table(), after.owners.table(), strict=True)
    return {(names[a], other[b]) for a, b in pairs if names[a] != other[b]}


# ------------------------------------------------------------------------------------------------------ one experiment


def test_coverage_grows_without_moving_anybody():
    small = Allocation.create(spec(coverage=0.02))
    large = small.revise(coverage=0.5)
    assert moved(small, large) == {(None, "control"), (None, "treatment")}
    assert large.owners.counts() == {"control": 4096, "treatment": 4096}
    assert (small.revision, large.revision) == (1, 2)
    assert large.spec.coverage == 0.5


def test_weights_change_by_transfers():
    before = Allocation.create(spec(weights={"a": 0.8, "b": 0.1, "c": 0.1}))
    after = before.revise({"a": 0.6, "b": 0.2, "c": 0.2})
    assert moved(before, after) == {("a", "b"), ("a", "c")}
    assert [variant.weight for variant in after.spec.variants] == [0.6, 0.2, 0.2]


def test_a_revision_changes_nothing_that_is_there():
    before = Allocation.create(spec(coverage=0.5))
    stored = msgspec.json.encode(before)
    before.revise({"control": 0.1, "treatment": 0.9}, coverage=0.9)
    assert msgspec.json.encode(before) == stored
    with pytest.raises(AttributeError):
        before.revision = 7


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"control": 1.0}, "the weight of `treatment` is missing"),
        ({"control": 0.5, "treatmnt": 0.5}, "did you mean `treatment`"),
        ({"control": 0.5, "treatment": 0.5, "zzz": 0.0}, "there are control, treatment"),
        ({"control": 0.5, "treatment": 0.6}, "sum to 1.1"),
        ({"control": float("nan"), "treatment": 0.6}, "nan"),
        ({"control": "0.5", "treatment": 0.5}, "no specification"),
        ({5: 0.5, "treatment": 0.5}, "no variant `5`"),
    ],
)
def test_wrong_weights_are_refused(weights, problem):
    with pytest.raises(InvalidAllocationError, match=problem):
        Allocation.create(spec()).revise(weights)


def test_variants_come_and_go():
    two = Allocation.create(spec())
    three = two.amend(msgspec.structs.replace(two.spec, variants=variants(control=0.4, treatment=0.4, third=0.2)))
    assert moved(two, three) == {("control", "third"), ("treatment", "third")}
    back = three.amend(msgspec.structs.replace(three.spec, variants=variants(control=0.4, third=0.6)))
    assert moved(three, back) == {("treatment", "third")}
    assert back.owners.names == ("control", "third")


@pytest.mark.parametrize("change", [{"salt": "new"}, {"layer": "x"}, {"name": "other"}, {"sticky": False}])
def test_what_draws_the_units_stays(change):
    allocation = Allocation.create(spec())
    with pytest.raises(InvalidAllocationError, match="begin another experiment"):
        allocation.amend(msgspec.structs.replace(allocation.spec, **change))


def test_a_ramp_is_taken_step_by_step():
    steps = tuple(RampStep(NOW + timedelta(hours=n), coverage) for n, coverage in ((1, 0.1), (2, 0.5), (3, 1.0)))
    base = Allocation.create(spec(coverage=0.01, ramp=steps))
    assert base.at(NOW) is base
    at = {hours: base.at(NOW + timedelta(hours=hours)) for hours in (1, 2, 2.5, 99)}
    assert [allocation.spec.coverage for allocation in at.values()] == [0.1, 0.5, 0.5, 1.0]
    assert [allocation.revision for allocation in at.values()] == [2, 3, 3, 4]
    assert at[99].spec.ramp == ()
    # looking late leads to where looking often leads
    assert at[1].at(NOW + timedelta(hours=2)).at(NOW + timedelta(hours=3)) == at[99]


def test_reweighting_in_the_middle_of_a_ramp_keeps_the_rest_of_it():
    steps = (RampStep(NOW, 0.1), RampStep(NOW + timedelta(hours=1), 0.5))
    now = Allocation.create(spec(coverage=0.01, ramp=steps)).at(NOW)
    changed = now.revise({"control": 0.2, "treatment": 0.8})
    assert changed.spec.coverage == 0.1
    assert changed.at(NOW + timedelta(hours=2)).owners.counts() == {"control": 1638, "treatment": 6554}


def test_propensities_are_those_of_the_slots():
    allocation = Allocation.create(spec(weights={"a": 1 / 3, "b": 2 / 3}, coverage=0.1))
    counts = allocation.owners.counts()
    assert allocation.propensities() == {name: count / sum(counts.values()) for name, count in counts.items()}
    assert sum(allocation.propensities().values()) == pytest.approx(1)
    assert Allocation.create(spec(coverage=0.0)).propensities() == {"control": 0.0, "treatment": 0.0}


# -------------------------------------------------------------------------------------------------------------- layers


def test_a_layer_keeps_units_and_takes_none_from_others():
    layer = Layer.create(LayerSpec("checkout", holdout=0.1)).place("one", 0.3)
    more = layer.place("two", 0.5)
    assert more.owners.counts() == {HOLDOUT: 1638, "one": 4916, "two": 8192}
    gone = more.remove("one").place("three", 0.3)
    assert gone.owners.counts()["two"] == 8192
    assert moved(more, gone) == {(None, "three"), ("one", "three"), ("one", None)}
    assert gone.remove("nobody").owners == gone.owners


def test_a_full_layer_says_how_much_is_left():
    layer = Layer.create(LayerSpec("checkout", holdout=0.1)).place("one", 0.6)
    with pytest.raises(LayerFullError, match="has 30 % of its units left, and `two` wants 50 %"):
        layer.place("two", 0.5)
    assert layer.place("two", 0.3).owners.counts()["two"] > 4900


def test_shares_of_a_third_fill_a_layer():
    layer = Layer.create(LayerSpec("checkout"))
    for name in ("one", "two", "three"):
        layer = layer.place(name, 1 / 3)
    assert sum(layer.owners.counts().values()) == SLOTS


def test_a_layer_has_room_for_254_experiments():
    layer = Layer.create(LayerSpec("checkout"))
    for number in range(254):
        layer = layer.place(f"e{number}", 1 / 300)
    with pytest.raises(InvalidAllocationError, match="256 owners"):
        layer.place("one-more", 1 / 300)


# ---------------------------------------------------------------------------------------------------------- everything


def whole():
    return Allocations.of(
        AllocationsSpec(
            layers=(LayerSpec("all", holdout=0.05), LayerSpec("checkout", holdout=0.1, root="all")),
            experiments=(
                spec("one", layer="checkout", share=0.4),
                spec("two", layer="checkout", share=0.4, coverage=0.5),
                spec("alone"),
            ),
        )
    )


def test_state_survives_storage_byte_by_byte():
    allocations = whole().revise("two", {"control": 0.3, "treatment": 0.7}, at=NOW).remove("one")
    stored = allocations.encode()
    again = Allocations.decode(stored)
    assert again == allocations
    assert again.encode() == stored
    assert again.layer("checkout").owners.table() == allocations.layer("checkout").owners.table()


def test_changes_leave_what_was_there():
    before = whole()
    stored = before.encode()
    before.revise("one", coverage=0.1, at=NOW).remove("two").place(spec("new", layer="checkout", share=0.1))
    assert before.encode() == stored


STEPS = tuple(RampStep(NOW + timedelta(hours=n), coverage) for n, coverage in ((1, 0.3), (2, 0.6)))


@pytest.mark.parametrize("hours", [0, 1, 1.5, 2, 9])
def test_a_change_starts_from_where_the_ramp_is(hours):
    moment = NOW + timedelta(hours=hours)
    state = Allocations().place(spec(coverage=0.1, weights={"a": 0.3, "b": 0.7}, ramp=STEPS))
    seen = state.experiment("late").at(moment)
    changed = state.revise("late", {"a": 0.5, "b": 0.5}, at=moment).experiment("late")
    assert changed.spec.coverage == seen.spec.coverage
    assert moved(seen, changed) == {("b", "a"), ("b", None), (None, "a")} & moved(seen, changed)
    assert changed.owners.counts()["b"] < seen.owners.counts()["b"]


def test_asking_again_for_what_was_asked_for_moves_nobody():
    wanted = spec(coverage=0.1, ramp=STEPS)
    state = Allocations().place(wanted)
    moment = NOW + timedelta(hours=1.5)
    again = state.amend(wanted, at=moment).experiment("late")
    assert again.owners == state.experiment("late").at(moment).owners
    assert again.spec.ramp == STEPS[1:]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.05, 0.3, 1.0]), min_size=3, max_size=3),
    st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_no_slot_leaves_a_variant_that_does_not_shrink_whatever_a_ramp_and_people_do(coverages, changes):
    """A ramp goes its way while people change weights and coverage in between, in the order of time."""
    ramp = tuple(RampStep(NOW + timedelta(hours=n), coverage) for n, coverage in enumerate(coverages, start=1))
    state = Allocations().place(spec(coverage=0.1, ramp=ramp))
    seen, was_at = state.experiment("late"), NOW
    for number, (coverage, weight) in enumerate(changes):
        for moment in (was_at + timedelta(minutes=50), was_at + timedelta(minutes=51)):
            now = state.experiment("late").at(moment)
            keeps = {name for name, share in now.spec.shares().items() if share >= seen.spec.shares()[name]}
            assert not {was for was, _ in moved(seen, now)} & keeps
            seen, was_at = now, moment
            weights = {"control": weight, "treatment": 1 - weight}
            state = state.revise("late", weights, coverage=coverage if number % 2 else None, at=moment)
    assert Allocations.decode(state.encode()) == state


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from([0.0, 0.1, 0.25, 1 / 3])), max_size=12))
def test_whatever_a_layer_does_for_one_experiment_costs_the_others_nothing(steps):
    layer = Layer.create(LayerSpec("checkout", holdout=0.1))
    for name, share in steps:
        try:
            after = layer.place(name, share) if share else layer.remove(name)
        except LayerFullError:
            continue
        assert {was for was, _ in moved(layer, after)} <= {None, name}
        assert after.owners.names[0] == HOLDOUT
        layer = after
    layer.check()


def test_an_experiment_can_take_more_of_its_layer():
    before = whole()
    two = before.experiment("two").spec
    after = before.amend(msgspec.structs.replace(two, share=0.5), at=NOW)
    assert after.layer("checkout").owners.share("two") == 0.5
    with pytest.raises(LayerFullError):
        before.amend(msgspec.structs.replace(two, share=0.51), at=NOW)


def test_a_change_that_leaves_the_share_leaves_the_layer():
    before = whole()
    after = before.amend(msgspec.structs.replace(before.experiment("two").spec, coverage=1.0), at=NOW)
    assert after.layers == before.layers
    assert after.experiment("two").owners.counts() == {"control": 8192, "treatment": 8192}


def test_names_that_are_not_there():
    allocations = whole()
    for call in (lambda: allocations.experiment("onee"), lambda: allocations.revise("onee", coverage=1.0, at=NOW)):
        with pytest.raises(ExperimentNotFoundError) as refused:
            call()
        assert refused.value.hint.startswith("did you mean `one`?")
    with pytest.raises(InvalidAllocationError, match="did you mean `checkout`"):
        allocations.place(spec("new", layer="chekout"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda a: a.place(spec("alone")), "another experiment of this name"),
        (lambda a: a.add_layer(LayerSpec("all")), "another layer of this name"),
        (lambda a: a.place(spec("new", salt="alone")), "two draw their units by this salt"),
        (lambda a: a.place(spec("new", salt="layer/all")), "two draw their units by this salt"),
        (lambda a: a.add_layer(LayerSpec("new", salt="one")), "two draw their units by this salt"),
        (lambda a: a.add_layer(LayerSpec("new", root="nowhere")), "its root is no layer"),
        (lambda a: a.add_layer(LayerSpec("new", root="checkout")), "has a root itself"),
        (lambda a: a.add_layer(LayerSpec("new", root="all", unit="session")), "draws by another unit"),
    ],
)
def test_what_cannot_be_beside_the_rest_is_refused(change, problem):
    with pytest.raises(InvalidAllocationError, match=problem):
        change(whole())


def damage(**paths):
    document = json.loads(whole().encode())
    for path, value in paths.items():
        *keys, last = [int(key) if key.isdigit() else key for key in path.split("__")]
        target = document
        for key in keys:
            target = target[key]
        target[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"layers": [], "experiments": [], "more": 1}',
        damage(experiments__0__owners__runs=[[SLOTS, 0]]),
        damage(experiments__0__owners__names=["treatment", "other"]),
        damage(experiments__0__owners__shares=[0.4, 0.6]),
        damage(experiments__0__spec__coverage=0.5),
        damage(experiments__0__spec__layer="nowhere"),
        damage(experiments__0__spec__share=0.1),
        damage(layers__1__owners__names=["one", HOLDOUT, "two"]),
        damage(layers__1__owners__names=[HOLDOUT, "one", "three"]),
        damage(experiments=[]),
        damage(layers__1__spec__holdout=0.2),
    ],
)
def test_damaged_state_is_refused(stored):
    with pytest.raises(InvalidAllocationError):
        Allocations.decode(stored)


def test_state_of_another_hash_is_refused():
    with pytest.raises(UnknownHashError, match="`xxh3-v2`"):
        Allocations.decode(damage(experiments__2__spec__hash="xxh3-v2"))
    with pytest.raises(UnknownHashError):
        Allocations.decode(damage(layers__0__spec__hash="md5"))

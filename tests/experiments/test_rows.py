"""Experiments as rows tell them: what one says of the others on its model."""

from crossfade.traffic.allocation.specs import LayerSpec
from tests.experiments.life import open_store, plan
from tests.traffic.support import Clock


def test_an_experiment_says_behind_whom_it_is(registry):
    clock = Clock()
    store = open_store(registry, clock)
    store.create_layer(LayerSpec("shared"))
    for name in ("first", "second"):
        store.create(plan(name))
    for name in ("third", "fourth"):
        store.create(plan(name, layer="shared", share=0.5))
    assert store.find("second").behind == ()
    for name in ("second", "first", "third", "fourth"):
        clock.advance(1)
        started = store.start(name)
    assert started.behind == ("second", "first")
    assert {each.name: each.behind for each in store.list().items} == {
        "second": (),
        "first": ("second",),
        "third": ("second", "first"),
        "fourth": ("second", "first"),
    }
    store.stop("second", reason="enough")
    assert store.find("second").behind == ()
    assert store.find("first").behind == ()

"""A document that cannot be changed: it reads like any other, and a copy of it can be changed."""

import copy
import json
import pickle

import msgspec
import pytest

from crossfade.client.frozen import frozen

PLAIN = {"limits": {"card": 25, "hosts": ["a", {"b": None}]}, "on": True}


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.__setitem__("limits", 1),
        lambda it: it["limits"].update(card=9),
        lambda it: it["limits"].pop("card"),
        lambda it: it["limits"].setdefault("new", 1),
        lambda it: it["limits"]["hosts"].append("c"),
        lambda it: it["limits"]["hosts"].sort(),
        lambda it: it["limits"]["hosts"][1].clear(),
        lambda it: it.__ior__({"on": False}),
        lambda it: it["limits"]["hosts"].__iadd__(["c"]),
        lambda it: it.__delitem__("on"),
        lambda it: it["limits"]["hosts"].__delitem__(0),
    ],
)
def test_nothing_of_it_can_be_changed(change):
    value = frozen(PLAIN)
    with pytest.raises(TypeError, match="deepcopy"):
        change(value)
    assert value == PLAIN


def test_it_is_read_like_any_other():
    value = frozen(PLAIN)
    assert value == PLAIN
    assert isinstance(value["limits"]["hosts"], list)
    assert json.loads(json.dumps(value)) == PLAIN
    assert msgspec.json.decode(msgspec.json.encode(value)) == PLAIN
    assert {**value, "on": False}["on"] is False
    assert [*value["limits"]["hosts"], "c"][-1] == "c"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_can_be_changed(copied):
    value = frozen(PLAIN)
    made = copied(value)
    made["limits"]["hosts"][1]["b"] = 1
    made["limits"]["card"] = 2
    assert value == PLAIN

"""Which flavor takes what."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier

from crossfade.errors import CodeNotAllowedError, UnknownFlavorError
from crossfade.registry.flavors import backends
from crossfade.registry.flavors.port import Trust, TrustPolicy

OURS = [name for name, target in backends.FLAVORS.items() if target.startswith("crossfade.")]
"""Without those that other tests have added."""


def test_every_flavor_has_its_name_and_a_tier():
    for name in OURS:
        flavor = backends.flavor_named(name)
        assert flavor.name == name
        assert flavor.trust in Trust
        assert flavor.packages


def test_formats_that_run_code_are_tried_last():
    tiers = [backends.flavor_named(name).trust for name in OURS]
    code = tiers.index(Trust.CODE)
    assert all(tier is Trust.CODE for tier in tiers[code:])


def test_a_model_goes_to_its_own_format():
    assert backends.flavor_for(XGBClassifier()).name == "xgboost"
    assert backends.flavor_for(make_pipeline(LogisticRegression())).name == "sklearn"


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "m.bin"])
def test_a_pickle_is_recognised_in_order_to_be_refused(name):
    flavor = backends.flavor_for_file(name, b"\x80\x04\x95")
    assert flavor.name == "code"
    with pytest.raises(CodeNotAllowedError):
        flavor.inspect({name: b"\x80\x04\x95"}, TrustPolicy())


def test_the_unknown_is_named():
    with pytest.raises(UnknownFlavorError, match="`h5`") as caught:
        backends.flavor_named("h5")
    assert "onnx" in caught.value.hint
    with pytest.raises(UnknownFlavorError, match=r"numpy\.ndarray"):
        backends.flavor_for(np.ones(3))
    with pytest.raises(UnknownFlavorError, match=r"model\.h5"):
        backends.flavor_for_file("model.h5", b"\x89HDF")


def test_an_installed_package_adds_a_flavor_but_replaces_none(monkeypatch):
    points = [
        EntryPoint("mine", "crossfade.registry.flavors.code:Code", backends.GROUP),
        EntryPoint("onnx", "nowhere:Nothing", backends.GROUP),
    ]
    monkeypatch.setattr(backends, "entry_points", lambda group: points if group == backends.GROUP else [])
    backends._targets.cache_clear()
    try:
        assert backends.flavor_named("mine").name == "code"
        assert backends.flavor_named("onnx").name == "onnx"
    finally:
        backends._targets.cache_clear()

"""Multiple testing: against reference cases, statsmodels, scipy, and by its promises."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats import multiplicity
from tests.methods.stats.support import document

METHODS = {
    "bh": (multiplicity.benjamini_hochberg, "fdr_bh", {}),
    "by": (multiplicity.benjamini_yekutieli, "fdr_by", {}),
    "hochberg_bonferroni": (multiplicity.hochberg, "simes-hochberg", {}),
    "hochberg_sidak": (multiplicity.hochberg, None, {"step": "sidak"}),
    "holm_bonferroni": (multiplicity.holm, "holm", {}),
    "holm_sidak": (multiplicity.holm, "holm-sidak", {"step": "sidak"}),
    "bonferroni": (multiplicity.bonferroni, "bonferroni", {}),
}
P_VALUES = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "bonferroni"])
def test_reference_cases(name):
    case = document("stats/multiplicity.json")
    method, _, options = METHODS[name]
    assert method(case["pvalues"], **options) == pytest.approx(case["adjusted"][name], abs=1e-9)


@pytest.mark.parametrize("name", [name for name, (_, theirs, _) in METHODS.items() if theirs])
@settings(max_examples=30)
@given(p_values=arrays(np.float64, st.integers(1, 30), elements=st.floats(1e-12, 0.999)))
def test_statsmodels_agrees(name, p_values):
    method, theirs, options = METHODS[name]
    assert method(p_values, **options) == pytest.approx(multipletests(p_values, method=theirs)[1], abs=1e-9)


@settings(max_examples=30)
@given(p_values=P_VALUES)
def test_scipy_agrees(p_values):
    for method, name in ((multiplicity.benjamini_hochberg, "bh"), (multiplicity.benjamini_yekutieli, "by")):
        assert method(p_values) == pytest.approx(false_discovery_control(p_values, method=name), abs=1e-9)


@given(p_values=P_VALUES)
def test_sharper_methods_are_never_larger(p_values):
    assert (multiplicity.holm(p_values) <= multiplicity.bonferroni(p_values) + 1e-12).all()
    assert (multiplicity.hochberg(p_values) <= multiplicity.holm(p_values) + 1e-12).all()
    assert (multiplicity.benjamini_hochberg(p_values) <= multiplicity.hochberg(p_values) + 1e-12).all()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_order_and_length_do_not_matter(name):
    method, _, options = METHODS[name]
    assert method([], **options).size == 0
    assert method([0.04], **options) == pytest.approx([0.04])
    assert method([0.2, 0.01, 0.9], **options) == pytest.approx(method([0.9, 0.01, 0.2], **options)[[2, 1, 0]])
    for wrong in ([1.1], [-0.1], [math.nan]):
        with pytest.raises(InvalidAnalysisError):
            method(wrong, **options)


def test_e_values_by_hand():
    # m = 4, alpha 0.05: the k-th largest needs 80 / k
    evidence = np.log([81.0, 30.0, 27.0, 1.0])
    assert multiplicity.e_benjamini_hochberg(evidence).tolist() == [True, True, True, False]
    assert multiplicity.e_benjamini_hochberg(np.log([79.0, 30.0, 20.0, 1.0])).tolist() == [False] * 4
    assert multiplicity.e_benjamini_hochberg([]).size == 0
    assert multiplicity.e_benjamini_hochberg([math.inf, -math.inf]).tolist() == [True, False]
    with pytest.raises(InvalidAnalysisError):
        multiplicity.e_benjamini_hochberg([math.nan])


@given(evidence=arrays(np.float64, st.integers(1, 20), elements=st.floats(-50, 50)), alpha=st.floats(0.001, 0.5))
def test_e_values_reject_what_their_p_values_would(evidence, alpha):
    """Min(1, 1/e) is a p-value; under e-BH exactly the same are rejected as by BH on these."""
    p_values = np.minimum(1.0, np.exp(-evidence))
    adjusted = multiplicity.benjamini_hochberg(p_values)
    rejected = multiplicity.e_benjamini_hochberg(evidence, alpha)
    clear = np.abs(adjusted / alpha - 1) > 1e-9
    assert (rejected == (adjusted <= alpha))[clear].all()

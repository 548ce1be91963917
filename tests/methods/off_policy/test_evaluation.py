"""Evaluating on real logs and made ones; what is refused, what one is warned of, and the report."""

import collections
import csv
import gzip
import json
import math

import msgspec
import numpy as np
import pytest

from crossfade.errors import InvalidAnalysisError, InvalidDecisionLogError, InvalidPolicyError
from crossfade.methods.off_policy.evaluation import evaluate
from crossfade.methods.off_policy.log import Log, numbered
from crossfade.methods.off_policy.report import TITLES, PolicyReport, PolicyValue
from crossfade.methods.off_policy.support import effective_size, refusal, warnings
from crossfade.methods.off_policy.target import Target
from crossfade.methods.stats.values import NotEstimable
from tests.calibration.policies import decisions
from tests.methods.stats.support import CASES, document


@pytest.fixture(scope="module")
def zozotown():
    """The log of a random policy, and what the policy of the other log would do there."""
    if not (CASES / "ope").exists():
        pytest.skip("reference cases are not here: ../shared/cases/ope")
    logs = []
    for name in ("random", "bts"):
        with gzip.open(CASES / "ope" / f"obd_men_{name}.csv.gz", "rt") as lines:
            logs.append(list(csv.DictReader(lines)))
    uniform, other = logs
    shown = collections.Counter((row["position"], row["item_id"]) for row in other)
    times = collections.Counter(row["position"] for row in other)
    items = sorted({row["item_id"] for row in uniform + other})
    table = [[shown[row["position"], item] / times[row["position"]] for item in items] for row in uniform]
    log = Log.of(
        [row["item_id"] for row in uniform],
        [float(row["click"]) for row in uniform],
        [float(row["propensity_score"]) for row in uniform],
        cells=[row["position"] for row in uniform],
    )
    return log, Target.each(log, items, np.array(table)), other


def test_real_logs(zozotown):
    log, target, _ = zozotown
    facts = document("ope/obd_facts.json")["facts"]
    expected, rows = facts["men_ips_bts_from_random"], facts["men_random"]
    report = evaluate(log, target)
    assert (report.rows, report.actions) == (rows["rows"], rows["items"])
    assert report.logged.value == pytest.approx(rows["ctr"])
    assert report.value("ips").value == pytest.approx(expected["ipw"], abs=1e-12)
    assert report.value("snips").value == pytest.approx(expected["snipw"], abs=1e-12)
    assert report.effective_size == pytest.approx(expected["ess"], rel=1e-9)
    assert report.mean_importance == pytest.approx(expected["mean_weight"], rel=1e-12)
    assert report.warnings == ()
    for method in TITLES:
        if method != "logged":
            found = report.value(method)
            assert found.lower < expected["on_policy_ctr"] < found.upper


def test_the_other_real_log(zozotown):
    _, _, other = zozotown
    facts = document("ope/obd_facts.json")["facts"]["men_bts"]
    propensities = np.array([float(row["propensity_score"]) for row in other])
    log = Log.of([row["item_id"] for row in other], [float(row["click"]) for row in other], propensities)
    assert propensities.mean() == pytest.approx(facts["mean_pscore"])
    assert propensities.min() == facts["min_pscore"]
    uniform = Target.fixed(log, dict.fromkeys(log.names, 1 / len(log.names)))
    report = evaluate(log, uniform)
    assert report.mean_importance == pytest.approx(1, abs=0.35)
    assert report.effective_size < 1000


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.fixture
def plain():
    random = np.random.default_rng(0)
    actions = random.choice(["a", "b"], p=[0.8, 0.2], size=2_000)
    rewards = (random.random(2_000) < np.where(actions == "a", 0.1, 0.2)).astype(float)
    return Log.of(actions.tolist(), rewards, np.where(actions == "a", 0.8, 0.2))


def test_a_policy_that_does_what_the_log_never_did(plain):
    report = evaluate(plain, Target.fixed(plain, {"a": 0.5, "b": 0.3, "new": 0.2}))
    assert report.values == {}
    assert "`new` (20.0%), which the log never did" in report.refusal.reason
    assert report.value("snips") is report.refusal
    assert report.logged.value == pytest.approx(plain.rewards.mean())
    assert evaluate(plain, Target.fixed(plain, {"a": 0.5, "b": 0.5, "new": 0.0})).refusal is None
    table = np.tile([0.5, 0.49, 0.01], (plain.count, 1))
    assert "`c`" in evaluate(plain, Target.each(plain, ["a", "b", "c"], table)).refusal.reason


def test_a_policy_that_never_does_what_the_log_did(plain):
    report = evaluate(plain, Target.logged(plain, np.zeros(plain.count)))
    assert report.effective_size == 0
    assert "never do what the log did" in report.refusal.reason


def test_too_few_rows_that_count(plain):
    few = plain.part(0, 300)
    report = evaluate(few, Target.fixed(few, {"b": 1.0}))
    assert report.effective_size < 100
    assert "count effectively, and 100 are needed" in report.refusal.reason
    assert evaluate(few, Target.fixed(few, {"b": 1.0}), least=20).refusal is None


def test_many_missing_actions_are_told_briefly(plain):
    names = {f"n{number}": 0.1 for number in range(10)}
    assert "and 7 more" in refusal(np.ones(3), Target.fixed(plain, names)).reason


def test_a_log_without_one_of_its_actions_by_half(plain):
    """Actions of a part are those of the part."""
    only = plain.part(0, 1)
    assert only.names == (plain.names[plain.actions[0]],)
    assert only.count == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"actions": [], "rewards": [], "propensities": []}, "no rows"),
        ({"rewards": [1.0]}, "2 actions have 1 rewards"),
        ({"rewards": [1.0, math.nan]}, "row 2 has no reward"),
        ({"rewards": [math.inf, math.nan]}, "row 1 and 1 more have no reward"),
        ({"rewards": [1.0, 1e101]}, "row 2"),
        ({"propensities": [0.5, 0.0]}, "row 2 has a propensity"),
        ({"propensities": [0.5, -0.1]}, "row 2 has a propensity"),
        ({"propensities": [0.5, 1e-300]}, "row 2 has a propensity"),
        ({"propensities": [1.01, 0.5]}, "row 1 has a propensity"),
        ({"propensities": [math.nan, 0.5]}, "row 1 has a propensity"),
        ({"propensities": [0.5]}, "1 propensities"),
        ({"cells": ["x"]}, "1 cells"),
        ({"features": np.zeros((1, 2))}, "1 features"),
        ({"features": np.array([[0.0, 1.0], [0.0, math.nan]])}, "row 2 has a feature"),
        ({"features": np.array([[0.0, math.inf], [0.0, 0.0]])}, "row 1 has a feature"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_logs_that_cannot_be_used_are_refused(columns, words):
    good = {"actions": ["a", "b"], "rewards": [0.0, 1.0], "propensities": [0.5, 0.5]}
    with pytest.raises(InvalidDecisionLogError) as caught:
        Log.of(**good | columns)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "weights", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": math.nan, "b": 0.5}, {}, {"a": math.inf, "b": 0.0}], ids=str
)
def test_weights_that_are_no_policy_are_refused(plain, weights):
    with pytest.raises(InvalidPolicyError):
        Target.fixed(plain, weights)


def test_probabilities_that_are_no_policy_are_refused(plain):
    good = np.full((plain.count, 2), 0.5)
    for bad in (good * 1.1, np.where(good > 0, math.nan, good), np.tile([-0.5, 1.5], (plain.count, 1))):
        with pytest.raises(InvalidPolicyError):
            Target.each(plain, ["a", "b"], bad)
    for shape in (good[:5], good[:, :1]):
        with pytest.raises(InvalidDecisionLogError):
            Target.each(plain, ["a", "b"], shape)
    for column in (good[:, 0][:5], np.full(plain.count, 1.2), np.full(plain.count, math.nan)):
        with pytest.raises(InvalidDecisionLogError):
            Target.logged(plain, column)


@pytest.mark.parametrize(
    "options", [{"alpha": 0.0}, {"alpha": math.nan}, {"clip": 0.0}, {"clip": math.nan}, {"least": 1.0}], ids=str
)
def test_options_out_of_range_are_refused(plain, options):
    with pytest.raises(InvalidAnalysisError):
        evaluate(plain, Target.fixed(plain, {"a": 1.0}), **options)


def test_cells_and_features_together_are_refused(plain):
    both = Log(plain.names, plain.actions, plain.rewards, plain.propensities, plain.actions, np.zeros((plain.count, 1)))
    with pytest.raises(InvalidDecisionLogError, match="both"):
        evaluate(both, Target.fixed(both, {"a": 1.0}))


# --- what one is warned of -----------------------------------------------------------------------------------------


def test_propensities_that_actions_were_not_drawn_by(plain):
    wrong = Log(plain.names, plain.actions, plain.rewards, np.full(plain.count, 0.5))
    [warning] = evaluate(wrong, Target.fixed(wrong, {"a": 1.0})).warnings
    assert "importance is 1.59 on average, and should be 1" in warning
    assert evaluate(plain, Target.fixed(plain, {"a": 1.0})).warnings == ()


def test_one_row_that_decides():
    importance = np.concatenate([np.full(500, 0.9), [60.0]])
    assert any("one row has 12%" in each for each in warnings(importance))
    assert warnings(np.ones(10)) == ()


def test_effective_size():
    assert effective_size(np.full(10, 3.0)) == pytest.approx(10)
    assert effective_size(np.array([1e200, 1e200])) == pytest.approx(2)
    assert effective_size(np.zeros(5)) == 0


# --- what is found -------------------------------------------------------------------------------------------------


def test_all_methods_agree_where_there_is_no_context(plain):
    report = evaluate(plain, Target.fixed(plain, {"a": 0.3, "b": 0.7}))
    means = {name: plain.rewards[plain.actions == place].mean() for place, name in enumerate(plain.names)}
    exact = 0.3 * means["a"] + 0.7 * means["b"]
    assert report.value("snips").value == pytest.approx(exact, abs=0.002)
    assert report.value("dm").value == pytest.approx(exact, abs=0.001)
    assert report.value("dr").value == pytest.approx(exact, abs=0.001)
    error = math.sqrt(
        sum(
            weight**2 * means[name] * (1 - means[name]) / (plain.actions == place).sum()
            for place, name, weight in ((plain.names.index("a"), "a", 0.3), (plain.names.index("b"), "b", 0.7))
        )
    )
    assert report.value("dm").standard_error == pytest.approx(error, rel=0.03)
    assert report.value("dr").standard_error == pytest.approx(error, rel=0.05)


def test_gains_are_known_better_than_values(plain):
    same = evaluate(plain, Target.logged(plain, plain.propensities)).value("ips")
    assert (same.gain, same.gain_lower, same.gain_upper) == pytest.approx((0, 0, 0), abs=1e-12)
    near = evaluate(plain, Target.fixed(plain, {"a": 0.75, "b": 0.25})).value("snips")
    assert near.gain_upper - near.gain_lower < near.upper - near.lower
    assert near.gain == pytest.approx(near.value - plain.rewards.mean())


def test_what_only_the_logged_action_says(plain):
    report = evaluate(plain, Target.logged(plain, np.where(plain.actions == 0, 0.5, 0.5)))
    assert isinstance(report.value("snips"), PolicyValue)
    assert isinstance(report.value("dr"), NotEstimable)
    assert isinstance(report.value("dm"), NotEstimable)


def test_too_many_predictions_are_not_made(plain, monkeypatch):
    monkeypatch.setattr("crossfade.methods.off_policy.evaluation.MOST_PREDICTIONS", 3_999)
    report = evaluate(plain, Target.fixed(plain, {"a": 0.5, "b": 0.5}))
    assert "2 actions in 2,000 rows" in report.value("dr").reason
    assert isinstance(report.value("snips"), PolicyValue)


def test_more_certain_intervals_are_wider(plain):
    target = Target.fixed(plain, {"a": 0.5, "b": 0.5})
    half = [evaluate(plain, target, alpha=alpha).value("dr") for alpha in (0.2, 0.05, 0.01)]
    widths = [each.upper - each.lower for each in half]
    assert widths == sorted(widths)


def test_the_same_log_gives_the_same_figures():
    log, target, _, _ = decisions(np.random.default_rng(5), 500)
    assert evaluate(log, target) == evaluate(log, target)


def test_a_million_rows_of_few_actions():
    random = np.random.default_rng(0)
    actions = random.integers(3, size=1_000_000)
    log = Log(("a", "b", "c"), actions, random.random(1_000_000), np.full(1_000_000, 1 / 3), actions % 2)
    report = evaluate(log, Target.fixed(log, {"a": 0.2, "b": 0.3, "c": 0.5}))
    assert report.value("dr").value == pytest.approx(0.5, abs=0.01)


# --- the report ----------------------------------------------------------------------------------------------------


@pytest.fixture
def report(plain):
    return evaluate(plain, Target.fixed(plain, {"a": 0.3, "b": 0.7}))


def test_the_report_is_json(report):
    assert msgspec.json.decode(msgspec.json.encode(report), type=PolicyReport) == report
    assert set(json.loads(msgspec.json.encode(report))["values"]) == {"ips", "clipped_ips", "snips", "dm", "dr"}


def test_the_report_is_rows(report, plain):
    rows = report.to_dicts()
    assert [row["method"] for row in rows] == ["logged", "ips", "clipped_ips", "snips", "dm", "dr"]
    assert len({tuple(row) for row in rows}) == 1
    partly = evaluate(plain, Target.logged(plain, np.full(plain.count, 0.5))).to_dicts()
    assert partly[-1]["value"] is None
    assert "not taken" in partly[-1]["reason"]


def test_the_report_is_a_page(report, plain):
    page = report.to_markdown()
    lines = page.splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 6
    assert sum(line.startswith("| ") for line in lines) == 7
    assert "2,000 rows of 2 actions" in page
    refused = evaluate(plain, Target.fixed(plain, {"c": 1.0})).to_markdown()
    assert "Not estimable: the policy would take `c`" in refused
    assert "Careful: " in refused  # importance is 0 on average


def test_numbers_by_order_of_appearance():
    names, places = numbered(["b", "a", "b", (1, 2)])
    assert names == ["b", "a", (1, 2)]
    assert places.tolist() == [0, 1, 0, 2]

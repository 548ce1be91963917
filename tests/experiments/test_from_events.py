"""From exposures and outcomes through the ledger to a report, against numbers computed from the events."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.question import Question
from crossfade.ledger.events import ShadowAnswer
from crossfade.ledger.metrics import MetricSpec
from crossfade.settings import Settings
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from tests.ledger.support import START, Ledger, exposure, outcome

BEGUN = datetime.fromtimestamp(START / 1e6, UTC)
NOW = BEGUN + timedelta(days=4)
FIXED = AnalysisSpec(method="fixed", planned_seconds=3 * 86_400.0)
DAY = 86_400


@pytest.fixture
def ledger(tmp_path):
    database = open_database(Settings(home=tmp_path).database_url)
    migrate(database)
    yield Ledger(database)
    database.close()


def asked(*metrics, variants=("control", "treatment"), analysis=FIXED, **more):
    return Question("flights", variants, metrics, analysis=analysis, started_at=BEGUN, **more)


def test_everything_that_units_did(ledger):
    random = np.random.default_rng(5)
    metrics = (
        MetricSpec("spent", covariate="spent_before"),
        MetricSpec("came_back", kind="proportion"),
        MetricSpec("errors", kind="ratio", outcome="error", direction="down", role="guardrail", margin=1.0),
        MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5, direction="down", role="secondary"),
    )
    ledger.declare(*metrics, dimensions=("cabin",))
    rows, events = {"control": [], "treatment": []}, []
    for number in range(600):
        variant = ("control", "treatment")[number % 2]
        at, unit, before = number * 3 * DAY / 600, f"unit-{number}", float(random.gamma(3.0, 1.0))
        spent, back = before + float(random.normal(1.0, 0.5)), bool(random.random() < 0.3)
        latency = random.lognormal(0.0, 0.3, 2).tolist()
        failed = (random.random(2) < 0.1).tolist()
        rows[variant].append((spent, before, back, sum(failed), *latency))
        events.append(outcome("spent_before", before, at - 60, of=unit))
        cabin = {"cabin": ("economy", "business")[number % 4 // 2]}
        events += [
            exposure(
                unit, at + 5 * place, variant, latency_seconds=latency[place], error=failed[place], dimensions=cabin
            )
            for place in (0, 1)
        ]
        events.append(outcome("spent", spent, at + 100, of=unit))
        if back:
            events.append(outcome("came_back", 1.0, at + 200, of=unit))
    ledger.ship(*events)
    report = analyze(ledger.evidence(), asked(*metrics, dimensions=("cabin",)), NOW)
    arrays = {name: np.array(each, dtype=float) for name, each in rows.items()}

    adjusted = report.comparison("spent", "treatment")
    assert adjusted.variance_reduction > 0.8
    means = {name: each[:, 0].mean() for name, each in arrays.items()}
    assert adjusted.treatment.value - adjusted.control.value == pytest.approx(means["treatment"] - means["control"])

    back = report.comparison("came_back", "treatment").absolute
    table = [[each[:, 2].sum(), len(each) - each[:, 2].sum()] for each in arrays.values()]
    assert back.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-6)

    errors = report.comparison("errors", "treatment")
    assert errors.control.value == pytest.approx(arrays["control"][:, 3].sum() / 600)
    assert errors.non_inferiority is not None

    slow = report.comparison("slow", "treatment")
    assert slow.treatment.value == pytest.approx(np.median(arrays["treatment"][:, 4:]), rel=0.02)
    assert {each.value for each in report.segments} == {"economy", "business"}
    assert dict(report.health.units) == {"control": 300, "treatment": 300}


def test_losses_of_a_shadow_are_paired(ledger):
    random = np.random.default_rng(6)
    loss = MetricSpec("late", loss="squared", direction="down")
    ratio = MetricSpec("late_each", kind="ratio", outcome="late", loss="squared", direction="down")
    back = MetricSpec("came_back", kind="proportion")
    ledger.declare(loss, ratio, back, shadows=("challenger",))
    events, own, other = [], [], []
    for number in range(300):
        truth, first, second = float(random.random() < 0.3), *random.random(2).tolist()
        shadow = ShadowAnswer("challenger", "2.0.0", second)
        seen = exposure(f"unit-{number}", number * 3 * DAY / 300, score=first, propensity=1.0, shadows=(shadow,))
        events += [seen, outcome("late", truth, number * 3 * DAY / 300 + 60, of=seen)]
        own.append((first - truth) ** 2)
        other.append((second - truth) ** 2)
    ledger.ship(*events)
    question = asked(loss, ratio, back, variants=("control",), shadows=("challenger",))
    report = analyze(ledger.evidence(), question, NOW)
    expected = stats.ttest_rel(other, own)
    for name in ("late", "late_each"):  # one value of each unit, so both are the same
        found = report.comparison(name, "challenger")
        assert found.paired
        assert found.absolute.effect == pytest.approx(np.mean(other) - np.mean(own))
        assert found.absolute.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert "nobody saw" in report.comparison("came_back", "challenger").absolute.reason


def test_a_change_of_weights(ledger):
    random = np.random.default_rng(7)
    metric = MetricSpec("spent")
    ledger.declare(metric)
    events, rows = [], []
    for revision, share in ((1, 0.1), (2, 0.5)):
        here = {"control": [], "treatment": []}
        for number in range(400):
            variant = "treatment" if number < 400 * share else "control"
            at = (revision - 1) * DAY + number
            weight = share if variant == "treatment" else 1 - share
            unit, spent = f"{revision}-{number}", float(random.normal(10.0 * revision, 1.0))
            events.append(exposure(unit, at, variant, revision=revision, propensity=weight))
            events.append(outcome("spent", spent, at + 10, of=unit))
            here[variant].append(spent)
        rows.append(here)
    ledger.ship(*events)
    report = analyze(ledger.evidence(), asked(metric), NOW)
    (made,) = report.comparisons
    within = [np.mean(each["treatment"]) - np.mean(each["control"]) for each in rows]
    assert made.absolute.effect == pytest.approx(np.mean(within))
    assert made.treatment.value - made.control.value > 3
    assert not [problem for problem in report.health.problems if problem.code == "sample_ratio"]


def test_a_unit_that_was_seen_in_two_variants_counts_nowhere(ledger):
    ledger.declare(MetricSpec("spent"))
    events = [exposure(f"unit-{number}", number, ("control", "treatment")[number % 2]) for number in range(300)]
    events += [
        exposure(f"unit-{number}", 1000 + number, ("control", "treatment")[1 - number % 2]) for number in range(10)
    ]
    ledger.ship(*events)
    report = analyze(ledger.evidence(), asked(MetricSpec("spent")), NOW - timedelta(days=3.5))
    assert sum(count for _, count in report.health.units) == 290
    assert "multiple_exposures" in report.decision.blocked_by
    assert report.decision.action == "review"

"""Impact: what a version would change: its text, the units that read it, the answers of models, row by row."""

from contextlib import contextmanager

import numpy as np
import pytest
from sqlalchemy import insert

from crossfade.configs import impact as module
from crossfade.configs.impact import Impact
from crossfade.configs.spec import AffectedSpec, ConfigSpec, ReplaySpec
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import ConfigNotFoundError, ConfigVersionNotFoundError, ModelNotFoundError, PredictionError
from crossfade.registry.versions import Version
from crossfade.serving.capture_files import Captured, Origin, write_file
from crossfade.serving.predictor import Predictor, PredictorInfo
from crossfade.storage.tables import exposures
from crossfade.traffic.allocation.segments import Segment
from tests.configs.support import make_active

SIGNATURE = Signature(
    (TensorSpec("amount", "FP64", (-1,)), TensorSpec("limit", "FP64", (-1,))),
    (TensorSpec("blocked", "BOOL", (-1,)), TensorSpec("over", "FP64", (-1,))),
)
SPEC = ConfigSpec(replays=(ReplaySpec("cards@champion", {"limit": "/limits/card"}),))
ROWS = [{"amount": float(amount)} for amount in (10, 20, 30, 40)]


def answer(tensors, wanted):
    """A function in a model's clothes: which amounts are over the limit; it cannot judge 13."""
    if (tensors["amount"] == 13).any():
        raise PredictionError(ref="cards:1.0.0", problem="13 brings bad luck")
    over = tensors["amount"] - tensors["limit"]
    return {name: value for name, value in {"blocked": over > 0, "over": over}.items() if name in wanted}


@contextmanager
def open_cards(ref):
    if not ref.startswith("cards"):
        raise ModelNotFoundError(name=ref)
    version = Version("cards", "1.0.0", 1, "d" * 64, "code", "registered", 1, {}, {}, "", None, "ann")
    yield Predictor(PredictorInfo(version, SIGNATURE), answer)


@pytest.fixture
def impact(configs, database, tmp_path, clock):
    return Impact(configs._store, database, tmp_path / "captures", open_cards, clock)


@pytest.fixture
def raised(configs):
    """A config whose limit would be raised from 15 to 35."""
    make_active(configs, document={"limits": {"card": 15}}, spec=SPEC)
    configs.draft("limits", {"limits": {"card": 35}})
    return configs


def capture(folder, *amounts, **fields):
    specs = (TensorSpec("amount", "FP64", (-1,)),)
    origin = Origin("cards", "1.0.0", "d" * 64, fields.get("inputs", specs), ())
    inputs = {spec.name: np.array(amounts, dtype=float) for spec in origin.inputs}
    return write_file(folder / "captures", origin, [Captured("r", 1, inputs, {})], lambda data: "")


# --- text ---


def test_what_would_change_in_the_text(impact, raised):
    report = impact.assess("limits", 2, rows=ROWS)
    assert (report.number, report.against, report.changed, report.affected) == (2, 1, 1, None)
    assert [each.words for each in report.changes] == ["/limits/card: 15 -> 35"]
    with pytest.raises(ConfigVersionNotFoundError):
        impact.assess("limits", 9)
    with pytest.raises(ConfigVersionNotFoundError):
        impact.assess("limits", 2, against=9)
    with pytest.raises(ConfigNotFoundError):
        impact.assess("nothing", 1)


def test_the_first_version_changes_everything_and_replays_nothing(impact, configs):
    configs.draft("limits", {"limits": {"card": 15}}, spec=SPEC)
    report = impact.assess("limits", 1, rows=ROWS)
    assert (report.against, report.changed, report.replays) == (None, 1, ())


def test_a_report_names_so_many_changes_and_counts_all(impact, configs):
    configs.draft("limits", {f"key-{number}": number for number in range(1000)})
    report = impact.assess("limits", 1)
    assert (report.changed, len(report.changes)) == (1000, module.MAX_CHANGES)


# --- units ---


def expose(database, clock, unit, *, country="AT", model="cards", days_ago=0.0):
    at = int((clock.now.timestamp() - days_ago * 86_400) * 1e6)
    row = {"id": f"{unit}-{country}-{at}", "at_us": at, "experiment": "e", "revision": 1, "variant": "v", "unit": unit}
    row |= {"propensity": 1.0, "model": model, "version": "1.0.0", "latency_seconds": 0.1, "error": False}
    row |= {"fallback": False, "dimensions": f'{{"country": "{country}"}}', "context": "{}", "shadows": "[]"}
    with database.write() as connection:
        connection.execute(insert(exposures).values(row))


@pytest.mark.parametrize(
    ("affects", "units", "seen"),
    [
        (AffectedSpec(), 4, 5),
        (AffectedSpec(model="cards"), 3, 4),
        (AffectedSpec(days=1), 4, 4),
        (AffectedSpec(Segment({"country": "AT"})), 2, 3),
        (AffectedSpec(Segment({"country": "AT"}), model="loans"), 0, 0),
    ],
)
def test_units_that_read_it_are_counted(impact, configs, database, clock, affects, units, seen):
    for unit, options in {"a": {}, "b": {}, "c": {"country": "DE"}, "d": {"country": "DE", "model": "loans"}}.items():
        expose(database, clock, unit, **options)
    expose(database, clock, "a", days_ago=2)
    expose(database, clock, "late", days_ago=8)
    configs.draft("limits", {}, spec=ConfigSpec(affects=affects))
    found = impact.assess("limits", 1).affected
    assert (found.units, found.exposures, found.days, found.complete) == (units, seen, affects.days, True)


def test_of_very_many_exposures_the_newest_are_looked_at(impact, configs, database, clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_EXPOSURES", 3)
    for number in range(5):
        expose(database, clock, f"u-{number}")
    configs.draft("limits", {}, spec=ConfigSpec(affects=AffectedSpec(Segment({"country": "AT"}))))
    found = impact.assess("limits", 1).affected
    assert (found.units, found.complete) == (3, False)


# --- answers ---


def test_answers_before_and_after_on_rows_that_were_given(impact, raised):
    (found,) = impact.assess("limits", 2, rows=ROWS).replays
    assert (found.model, found.source, found.rows, found.different, found.problem) == ("cards:1.0.0", "rows", 4, 4, "")
    assert (found.outputs["blocked"].equal, found.outputs["blocked"].rows) == (2, 4)
    assert [(each.before, each.after, each.rows) for each in found.outputs["blocked"].changes] == [(True, False, 2)]
    assert found.outputs["over"].mean_absolute == pytest.approx(20.0)


def test_answers_on_predictions_that_were_captured(impact, raised, tmp_path):
    capture(tmp_path, 10, 20, 30, 40)
    (found,) = impact.assess("limits", 2).replays
    assert (found.source, found.rows, found.outputs["blocked"].equal) == ("captures", 4, 2)
    assert impact.assess("limits", 2, limit=3).replays[0].rows == 3


def test_captures_that_lack_an_input_are_left_out(impact, raised, tmp_path):
    capture(tmp_path, 1, inputs=(TensorSpec("other", "FP64", (-1,)),))
    (found,) = impact.assess("limits", 2).replays
    assert (found.rows, found.problem.startswith("the request cannot be read: no predictions were captured")) == (
        0,
        True,
    )


def test_equal_within_a_tolerance(impact, configs):
    spec = ConfigSpec(replays=(ReplaySpec("cards", {"limit": "/limits/card"}, tolerance=1e-3),))
    make_active(configs, document={"limits": {"card": 15}}, spec=spec)
    configs.draft("limits", {"limits": {"card": 15.000001}})
    assert impact.assess("limits", 2, rows=ROWS).replays[0].different == 0


def test_rows_without_an_answer_are_counted_on_both_sides(impact, raised):
    (found,) = impact.assess("limits", 2, rows=[{"amount": 13.0}, *ROWS]).replays
    assert (found.rows, found.failed_before, found.failed_after, found.different) == (5, 1, 1, 4)
    assert "bad luck" in found.problem


def test_a_document_that_has_every_input_needs_no_rows(impact, configs):
    everything = ConfigSpec(replays=(ReplaySpec("cards", {"limit": "/limit", "amount": "/amount"}),))
    make_active(configs, document={"limit": 5, "amount": 7}, spec=everything)
    configs.draft("limits", {"limit": 9, "amount": 7})
    (found,) = impact.assess("limits", 2).replays
    assert (found.source, found.rows, found.different) == ("document", 1, 1)
    assert impact.assess("limits", 2, rows=[{}, {}]).replays[0].rows == 2


@pytest.mark.parametrize(
    ("replay", "document", "problem"),
    [
        (ReplaySpec("cards", {"limit": "/limits/none"}), {"limits": {"card": 1}}, "a document has nothing at"),
        (ReplaySpec("cards", {"limits": "/limits/card"}), {"limits": {"card": 1}}, "has no input `limits`"),
        (ReplaySpec("cards", {"limit": "/limits"}), {"limits": {"card": 1}}, "input `limit`"),
        (ReplaySpec("cards", {"limit": "/limits/card"}), {"limits": {"card": "many"}}, "input `limit`"),
        (ReplaySpec("cards", {"limit": "/limits/card"}), {"limits": {"card": None}}, "input `limit`"),
        (ReplaySpec("cards", {"limit": "/limits/card"}), {"limits": {"card": [1, 2]}}, "input `limit`"),
    ],
    ids=range(6),
)
def test_a_replay_that_cannot_be_says_why_and_the_rest_is_there(impact, configs, replay, document, problem):
    make_active(configs, document={"limits": {"card": 0}}, spec=ConfigSpec(replays=(replay,)))
    configs.draft("limits", document)
    report = impact.assess("limits", 2, rows=ROWS)
    assert report.changed
    assert problem in report.replays[0].problem
    assert report.replays[0].rows == 0


def test_rows_that_do_not_fit_are_said(impact, raised):
    for row in ({}, {"amount": "many"}, {"amount": [1]}):
        assert "amount" in impact.assess("limits", 2, rows=[row]).replays[0].problem


def test_a_model_that_is_gone_is_an_error(impact, configs):
    make_active(configs, document={"a": 1}, spec=ConfigSpec(replays=(ReplaySpec("gone", {"x": "/a"}),)))
    configs.draft("limits", {"a": 2})
    with pytest.raises(ModelNotFoundError):
        impact.assess("limits", 2)

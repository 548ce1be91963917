"""Loaded by Schemathesis: what would leave nothing for the others is done to the model `spare`, all else to `tiny`."""

from __future__ import annotations

from typing import Any

import schemathesis

WRECKING = {"data_plane_load", "data_plane_unload", "delete_version", "transition_version", "remove_alias"}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Send a request to the right one of the two models."""
    wrecking = case.operation.definition.raw["operationId"] in WRECKING
    wrong, right = ("tiny", "spare") if wrecking else ("spare", "tiny")
    for name, value in case.path_parameters.items():
        if isinstance(value, str) and value.partition(":")[0].partition("@")[0] == wrong:
            case.path_parameters[name] = value.replace(wrong, right, 1)

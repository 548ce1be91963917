"""Loaded by Schemathesis: keeps it from being refused for good reasons.

What would leave nothing for the others is done to the model `spare`, all else to `tiny`; an emergency, which stops
every model, is only rehearsed. A request that leaves the
server a millisecond is given more, because on a busy machine it is rightly answered with 504.
"""

from __future__ import annotations

from typing import Any

import schemathesis

WRECKING = {"data_plane_load", "data_plane_unload", "delete_version", "transition_version", "remove_alias"}

TIMEOUT = "X-Request-Timeout-Ms"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Send a request to the right one of the two models."""
    wrecking = case.operation.definition.raw["operationId"] in WRECKING
    wrong, right = ("tiny", "spare") if wrecking else ("spare", "tiny")
    for name, value in case.path_parameters.items():
        if wrong in str(value):
            case.path_parameters[name] = str(value).replace(wrong, right)
    if case.operation.definition.raw["operationId"] == "begin_emergency":
        case.query["dry_run"] = "true"
    given = str((case.headers or {}).get(TIMEOUT, ""))
    if given.isascii() and given.isdigit() and 1 <= int(given) < 10_000:
        case.headers[TIMEOUT] = "10000"

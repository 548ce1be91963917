"""Trying a policy on answers that somebody sends: nothing is changed or remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossfade.core.identity import CHAMPION
from crossfade.core.tensors import DTYPES, Tensors, TensorSpec
from crossfade.errors import MalformedRequestError
from crossfade.safety.checks import Bench, compile_check
from crossfade.safety.inspection import Inspector
from crossfade.safety.levels import Level
from crossfade.safety.requests import CheckedRow, CheckReport, CheckRequest
from crossfade.safety.specs import checked
from crossfade.safety.store import SafetyStore

MAX_ROWS = 10_000


def try_policy(store: SafetyStore, wanted: CheckRequest) -> CheckReport:
    """Return what a policy says about answers, row after row as if each were a request.

    Raises:
        NotFoundError: There is no such policy, model or version.
        InvalidSafetyPolicyError: The policy cannot be used.
        MalformedRequestError: There are no rows, too many, or values that do not fit the signature.
    """
    if wanted.policy is None and not wanted.model:
        raise MalformedRequestError(problem="say a `policy`, or a `model` that has one")
    spec = store.policy(wanted.model).spec if wanted.policy is None else checked(wanted.policy)
    model = wanted.model or spec.model
    signature = store.signature(f"{model}:{wanted.version}" if wanted.version else f"{model}@{CHAMPION}")
    outputs = _tensors(wanted.outputs, signature.outputs)
    inputs = _tensors(wanted.inputs, signature.inputs)
    sizes = {len(value) for value in (*outputs.values(), *inputs.values())}
    if len(sizes) != 1 or not 1 <= min(sizes) <= MAX_ROWS:
        raise MalformedRequestError(problem=f"inputs and outputs have the same number of rows, 1 to {MAX_ROWS}")
    bench = Bench(signature, memories={})
    inspector = Inspector([compile_check(check, bench) for check in spec.checks])
    rows = []
    for row in range(sizes.pop()):
        one = slice(row, row + 1)
        asked = {name: value[one] for name, value in inputs.items()}
        answered = {name: value[one] for name, value in outputs.items()}
        found = inspector.inspect(asked, answered, 1, wanted.unit)
        rows.append(CheckedRow(Level.SAFE) if found is None else CheckedRow(found.level, found.checks))
    worst = max((row.level for row in rows), key=lambda level: level.rank)
    return CheckReport(worst, tuple(rows), inspector.problems)


def _tensors(values: Mapping[str, Sequence[Any]], specs: Sequence[TensorSpec]) -> Tensors:
    known = {spec.name: spec for spec in specs}
    unknown = set(values) - set(known)
    if unknown:
        raise MalformedRequestError(problem=f"`{min(unknown)[:80]}` is none of {', '.join(list(known)[:20])}")
    return {name: _tensor(known[name], rows) for name, rows in values.items()}


def _tensor(spec: TensorSpec, rows: Sequence[Any]) -> Any:
    try:
        if spec.datatype == "BYTES":
            return np.array(rows, dtype=object)
        plain = [float("nan") if value is None else value for value in rows]  # JSON has no NaN
        return np.array(plain, dtype=np.float64 if None in rows else DTYPES[spec.datatype])
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedRequestError(problem=f"`{spec.name}` is no {spec.describe()}: {error}"[:200]) from None

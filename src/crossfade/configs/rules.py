"""`ConfigRule`: what has to hold between the values of one document, in the language that segments are written in.

`{"retries": {"$lte": 5}}` compares a value with a constant; `{"$field": "limits.max"}` in the place of a constant is
what the document says there: `{"limits.min": {"$lte": {"$field": "limits.max"}}}`. A rule that names a field which the
document does not have does not hold; `when` says for which documents it is a rule at all.
"""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.errors import InvalidConfigError, InvalidSegmentError
from crossfade.traffic.allocation.segments import Segment

FIELD = "$field"
MAX_RULES = 100
_MAX_NAME = 64


class ConfigRule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One rule.

    Args:
        name: What it is called when it does not hold.
        then: The condition that has to hold.
        when: It has to hold only for documents that fulfil this.
        message: What to tell whoever broke it.

    Example:
        >>> rule = ConfigRule("order", {"min": {"$lte": {"$field": "max"}}}, message="min is above max")
        >>> rule.problem({"min": 3, "max": 2})
        'min is above max'
    """

    name: str
    then: dict[str, Any]
    when: dict[str, Any] = {}
    message: str = ""

    def check(self, config: str) -> None:
        """Refuse what cannot mean anything, and what would take too long.

        Raises:
            InvalidConfigError: It cannot be a rule.
        """
        if not self.name or len(self.name) > _MAX_NAME:
            raise InvalidConfigError(name=config, problem=f"a rule has a name of 1 to {_MAX_NAME} characters")
        if not self.then:
            raise InvalidConfigError(name=config, problem=f"rule `{self.name}` says nothing")
        for condition in (self.when, self.then):
            try:
                Segment(_without_fields(condition)).check()
            except (InvalidSegmentError, RecursionError) as error:
                problem = f"rule `{self.name}`, {getattr(error, 'message', 'it is too deep')}"
                raise InvalidConfigError(name=config, problem=problem.replace("segment, at", "at")) from error

    def problem(self, document: dict[str, Any]) -> str:
        """Return why a document breaks it; empty when it does not."""
        try:
            if self.when and not _holds(self.when, document):
                return ""
            if _holds(self.then, document):
                return ""
        except _AbsentError as error:
            return f"{self.message or self.name}: there is no `{error}` to compare with"
        except InvalidSegmentError as error:  # what the document says there cannot be compared with
            return f"{self.message or self.name}: {error.facts['problem']}"
        return self.message or f"the rule `{self.name}` does not hold"


class _AbsentError(Exception):
    """Names a field that a rule compares with and that is not there."""


def _holds(condition: dict[str, Any], document: dict[str, Any]) -> bool:
    segment = Segment(_with_fields(condition, document))
    segment.check()
    return segment.compile()(document)


def _with_fields(condition: Any, document: dict[str, Any]) -> Any:
    if _is_field(condition):
        return _field(document, str(condition[FIELD]))
    if isinstance(condition, dict):
        return {key: _with_fields(value, document) for key, value in condition.items()}
    if isinstance(condition, list):
        return [_with_fields(value, document) for value in condition]
    return condition


def _without_fields(condition: Any) -> Any:
    """Return a condition without its comparisons with fields: what they are is known with a document only."""
    if isinstance(condition, list):
        return [None if _is_field(value) else _without_fields(value) for value in condition]
    if not isinstance(condition, dict):
        return condition
    compared = {key for key, value in condition.items() if _is_field(value)}
    kept = {key: _without_fields(value) for key, value in condition.items() if key not in compared}
    kept |= {key: None for key in compared if not key.startswith("$")}
    return kept if kept or not compared else {"$exists": True}


def _is_field(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {FIELD}


def _field(document: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(document, dict) or part not in document:
            raise _AbsentError(path[:200])
        document = document[part]
    return document

"""`ConfigSpec`: what the documents of a config have to be, and what shows the consequences of a new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from crossfade.configs.document import document_of
from crossfade.configs.rules import MAX_RULES, ConfigRule
from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.identity import ModelRef
from crossfade.errors import InvalidConfigError, InvalidRefError, InvalidSegmentError
from crossfade.traffic.allocation.segments import Segment

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "x-crossfade-ref"
"""The keyword with which a schema says that a text names something that has to exist."""
KINDS = ("model", "version", "alias", "config")
"""What the keyword may say: `churn`, `churn:1.2.0`, `churn@champion`, the name of another config."""
MAX_SCHEMA_BYTES = 2**18
MAX_INPUTS = 100
MAX_REPLAYS = 10
_REFS = ("$ref", "$dynamicRef")


class ReplaySpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A model that is asked with the values of a document, to see what a new document changes.

    Args:
        model: Any reference: `churn@champion`.
        inputs: Input of the model -> JSON pointer to the value in the document. Inputs that are not named here come
            from predictions that were captured, or from rows that somebody gives.
        tolerance: Numbers are equal when |after - before| <= tolerance * (1 + |before|).
    """

    model: str
    inputs: dict[str, str]
    tolerance: float = 0.0


class AffectedSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which units read a config: counted among the exposures of the last days.

    Args:
        segment: Units in it; it can look at the dimensions and features that exposures keep. Everybody by default.
        model: Only exposures to versions of this model.
        days: How far back.
    """

    segment: Segment | None = None
    model: str = ""
    days: int = 7


class ConfigSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the documents of one config have to be.

    Args:
        schema: JSON Schema 2020-12; it may refer to itself alone. The keyword `x-crossfade-ref` says that a text names
            a `model`, a `version`, an `alias` or a `config` that has to exist.
        rules: What has to hold between the values of a document.
        replays: Models that show what a new document changes.
        affects: Which units read it.
        description: What it is for.

    Example:
        >>> ConfigSpec({"required": ["limit"]}).checked("limits").schema
        {'required': ['limit']}
    """

    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object"})
    rules: tuple[ConfigRule, ...] = ()
    replays: tuple[ReplaySpec, ...] = ()
    affects: AffectedSpec | None = None
    description: str = ""

    def checked(self, name: str) -> ConfigSpec:
        """Return a copy that shares nothing with the caller, after all checks that need no schema library.

        Args:
            name: Of the config.

        Raises:
            InvalidConfigError: The first thing that is wrong.
        """
        text = document_of(msgspec.to_builtins(self), name).text
        spec = msgspec.json.decode(text, type=ConfigSpec)
        for problem in (*_problems_of_schema(spec.schema), *_problems_of_replays(spec), *_problems_of_affected(spec)):
            raise InvalidConfigError(name=name, problem=problem)
        for rule in spec.rules:
            rule.check(name)
        return spec

    @property
    def digest(self) -> str:
        """The same for the same specification."""
        return sha256(canonical_json(self))


def _problems_of_schema(schema: Mapping[str, Any]) -> Iterator[str]:
    size = len(canonical_json(schema))
    if size > MAX_SCHEMA_BYTES:
        yield f"its schema has {size} bytes, and {MAX_SCHEMA_BYTES} are possible"
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        yield f"its schema is of the dialect `{str(schema['$schema'])[:100]}`, and `{DIALECT}` is understood"
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        if not isinstance(part, dict):
            continue
        for keyword in _REFS:
            target = part.get(keyword, "#")
            if isinstance(target, str) and not target.startswith("#"):
                yield f"its schema refers to `{target[:100]}`, and may refer to itself (`#/$defs/...`) alone"
        kind = part.get(REFERENCE)
        if not (kind is None or isinstance(kind, dict) or kind in KINDS):  # an object is a property of that name
            yield f"`{REFERENCE}` is `{str(kind)[:40]}`, and one of {', '.join(KINDS)} is possible"
        waiting += part.values()


def _problems_of_replays(spec: ConfigSpec) -> Iterator[str]:
    if len(spec.rules) > MAX_RULES:
        yield f"it has {len(spec.rules)} rules, and {MAX_RULES} are possible"
    if len({rule.name for rule in spec.rules}) < len(spec.rules):
        yield "two of its rules have the same name"
    if len(spec.replays) > MAX_REPLAYS:
        yield f"it replays {len(spec.replays)} models, and {MAX_REPLAYS} are possible"
    for replay in spec.replays:
        try:
            ModelRef.parse(replay.model)
        except InvalidRefError as error:
            yield error.message
        if not 1 <= len(replay.inputs) <= MAX_INPUTS:
            yield f"a replay of `{replay.model}` maps 1 to {MAX_INPUTS} inputs"
        if not all(path.startswith("/") for path in replay.inputs.values()):
            yield f"a replay of `{replay.model}` maps inputs to JSON pointers, such as `/limits/max`"
        if replay.tolerance < 0:
            yield f"the tolerance of a replay of `{replay.model}` is negative"


def _problems_of_affected(spec: ConfigSpec) -> Iterator[str]:
    if spec.affects is None:
        return
    if not 1 <= spec.affects.days <= 400:
        yield "the units that it affects are counted over 1 to 400 days"
    if spec.affects.segment is not None:
        try:
            spec.affects.segment.check()
        except InvalidSegmentError as error:
            yield f"the units that it affects: {error.message}"

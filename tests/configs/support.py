"""Configs on a database of their own: what their tests share."""

from __future__ import annotations

import json

from crossfade.configs.checking import find
from crossfade.configs.configs import Configs
from crossfade.configs.references import References
from crossfade.configs.spec import ConfigSpec
from crossfade.configs.store import ConfigStore
from crossfade.core.clock import utc_now
from crossfade.errors import InvalidConfigError, MalformedRequestError
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.specs import AllocationSpec, VariantSpec
from crossfade.traffic.routing import ExperimentRoute

SCHEMA = {
    "type": "object",
    "required": ["max"],
    "properties": {
        "max": {"type": "integer", "minimum": 0},
        "model": {"type": "string", "x-crossfade-ref": "model"},
        "other": {"type": "string", "x-crossfade-ref": "config"},
        "alias": {"type": "string", "x-crossfade-ref": "alias"},
        "version": {"type": "string", "x-crossfade-ref": "version"},
    },
}
SPEC = ConfigSpec(SCHEMA)


def check_here(name, spec, document):
    """Check in this process, which is quicker than in a child."""
    try:
        return find(spec.schema, None if document is None else document.value, check_only=document is None)
    except MalformedRequestError as error:
        raise InvalidConfigError(name=name, problem=error.facts["problem"]) from error


def open_configs(registry, *, clock=utc_now, four_eyes=True, check=check_here):
    """Return the configs of a registry."""
    database = registry.backend.database
    references = References(registry, database)
    return Configs(ConfigStore(clock), database, references, four_eyes=four_eyes, clock=clock, check=check)


def make_active(configs, name="limits", document=None, *, spec=None):
    """Bring a new version all the way; return its number."""
    number = make_approved(configs, name, document, spec=spec)
    configs.activate(name, number, principal="ann")
    return number


def make_approved(configs, name="limits", document=None, *, spec=None):
    made, _ = configs.draft(name, json.dumps(document or {"max": 5}), spec=spec, principal="ann")
    validated = configs.validate(name, made.number, principal="ann")
    assert validated.validation.valid, validated.validation
    configs.approve(name, made.number, principal="bob")
    return made.number


def halves(old, new, *, name="rollout", weight=0.5, **options):
    """Return a route that gives some units version `new`."""
    variants = (VariantSpec("old", 1 - weight), VariantSpec("new", weight))
    placed = Allocations().place(AllocationSpec(name, variants, **options))
    return ExperimentRoute(placed.experiments[0], versions={"old": str(old), "new": str(new)})


def nested(depth):
    """Return JSON of so many levels."""
    return '{"a":' * depth + "1" + "}" * depth

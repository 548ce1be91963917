"""Names in the settings that nothing has: a slip of the pen there must not go unseen."""

from __future__ import annotations

from collections.abc import Container

from crossfade.core.tensors import Signature
from crossfade.settings import CaptureRules, Settings


def unknown_models(settings: Settings, known: Container[str]) -> list[str]:
    """Say which models that settings name are none of those that are known."""
    named = {
        "serving.models": tuple(settings.serving.models),
        "capture.models": tuple(settings.capture.models),
        "cache.models": settings.cache.models if settings.cache.mode == "models" else (),
    }
    return [
        f"`{field}` names `{name}`, and no model has this name"
        for field, names in named.items()
        for name in names
        if name not in known
    ]


def unknown_fields(rules: CaptureRules, signature: Signature) -> list[str]:
    """Return the fields that a policy names and a version does not have."""
    known = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    return sorted({*rules.include, *rules.exclude, *rules.hashed} - known)


def unfit_policy(ref: str, fields: list[str]) -> str:
    """Say why nothing of a version is captured."""
    names = ", ".join(f"`{name}`" for name in fields)
    return f"nothing of `{ref}` is captured: `capture.models` names {names}, which it has no input or output of"

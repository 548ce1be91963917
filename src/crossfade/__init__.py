"""Crossfade releases machine-learning models: it keeps versions, serves them, and moves traffic on the evidence.

The public names are imported when they are first used, so that `import crossfade` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossfade.client import AsyncClient, Client
    from crossfade.core.identity import ModelRef, Semver
    from crossfade.core.tensors import Signature, TensorSpec
    from crossfade.errors import CrossfadeError
    from crossfade.platform import Platform, load, open_platform
    from crossfade.registry.ensembles.document import EnsembleSpec, Member
    from crossfade.registry.model import Model
    from crossfade.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "crossfade.client",
    "Client": "crossfade.client",
    "CrossfadeError": "crossfade.errors",
    "EnsembleSpec": "crossfade.registry.ensembles.document",
    "Member": "crossfade.registry.ensembles.document",
    "Model": "crossfade.registry.model",
    "ModelRef": "crossfade.core.identity",
    "Platform": "crossfade.platform",
    "Semver": "crossfade.core.identity",
    "Settings": "crossfade.settings",
    "Signature": "crossfade.core.tensors",
    "TensorSpec": "crossfade.core.tensors",
    "load": "crossfade.platform",
    "open_platform": "crossfade.platform",
}

__all__ = [
    "AsyncClient",
    "Client",
    "CrossfadeError",
    "EnsembleSpec",
    "Member",
    "Model",
    "ModelRef",
    "Platform",
    "Semver",
    "Settings",
    "Signature",
    "TensorSpec",
    "__version__",
    "load",
    "open_platform",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(name)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)

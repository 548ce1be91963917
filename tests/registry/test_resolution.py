from __future__ import annotations

import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import AliasNotFoundError, InvalidRefError, ModelNotFoundError, VersionNotFoundError
from crossfade.registry.versions import Card
from crossfade.testing.drafts import move, publish


@pytest.fixture
def churn(registry):
    for version in ("1.0.0", "1.1.0", "2.0.0", "2.1.0"):
        publish(registry.backend, "churn", version, card=Card(source="models:/churn/7" if version == "1.1.0" else ""))
    move(registry.backend, "1.1.0")
    move(registry.backend, "2.0.0", alias="challenger")
    registry.transition("churn:2.0.0", "staging")
    return registry


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("churn", "1.1.0"),
        ("churn@champion", "1.1.0"),
        ("churn@challenger", "2.0.0"),
        ("churn:2.1.0", "2.1.0"),
        ("churn:v2.1.0", "2.1.0"),
        ("churn/2.1.0", "2.1.0"),
        ("models:/churn/2.1.0", "2.1.0"),
        ("models:/churn@challenger", "2.0.0"),
        ("models:/churn/3", "2.0.0"),
        ("models:/churn/7", "1.1.0"),
        ("models:/churn/Staging", "2.0.0"),
        ("models:/churn/registered", "2.1.0"),
        (ModelRef("churn", version="1.0.0"), "1.0.0"),
    ],
)
def test_every_spelling_finds_its_version(churn, ref, version):
    assert churn.resolve(ref).version == version


@pytest.mark.parametrize(
    ("ref", "error", "hint"),
    [
        ("chum:1.0.0", ModelNotFoundError, "did you mean `churn`? Or list models with `crossfade models list`"),
        ("weather", ModelNotFoundError, "list models with `crossfade models list`"),
        (
            "churn:2.1.1",
            VersionNotFoundError,
            "did you mean `churn:2.1.0`? Or list versions with `crossfade models versions churn`",
        ),
        ("churn:1.1.0-rc.1", VersionNotFoundError, "did you mean `churn:1.1.0`? Or list versions"),
        ("churn@championn", AliasNotFoundError, "did you mean `churn@champion`? Or set it with"),
        ("churn@blue", AliasNotFoundError, "set it with `crossfade models alias churn blue VERSION`"),
        ("models:/churn/stagin", VersionNotFoundError, "did you mean `models:/churn/staging`? Or list"),
        ("models:/churn/production", VersionNotFoundError, "list versions with"),
        ("models:/churn/99", VersionNotFoundError, "list versions with"),
        ("churn:1:2", InvalidRefError, "write `name`"),
        ("../churn", InvalidRefError, "write `name`"),
        ("churn@", InvalidRefError, "write `name`"),
        ("churn\0", InvalidRefError, "write `name`"),
        ("models:/churn%2f..%2f1", InvalidRefError, "write `name`"),
    ],
)
def test_what_is_not_there_is_explained(churn, ref, error, hint):
    with pytest.raises(error) as caught:
        churn.resolve(ref)
    assert caught.value.hint.startswith(hint)


def test_a_missing_model_is_explained_everywhere(churn):
    with pytest.raises(ModelNotFoundError, match="chum") as caught:
        churn.model("chum")
    assert "churn" in caught.value.hint

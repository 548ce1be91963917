"""Registering ensembles from afar: REST and both clients."""

import httpx
import pytest

from crossfade.client import AsyncClient, verbs
from crossfade.errors import InvalidEnsembleError, ModelNotFoundError
from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.versions import Card
from crossfade.web.app import create_app
from tests import control

SPEC = EnsembleSpec("average", (Member("tiny:1.0.0", weight=3), Member("tiny@challenger", weight=1)))


@pytest.fixture
def members(client, tmp_path):
    """Two versions whose factors are 1 and 2."""
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.move_alias("tiny", "challenger", "1.0.1")


@pytest.mark.usefixtures("members")
def test_a_client_sends_nothing_but_the_specification(client):
    registered = client.register_ensemble("mix", SPEC, card=Card(evaluation={"rmse": 2.0}))
    assert (registered.ref, registered.flavor, registered.created_by) == ("mix:1.0.0", "ensemble", "tester")
    details = client.version("mix:1.0.0")
    assert details.card.parents == ("tiny:1.0.0", "tiny:1.0.1")
    assert details.card.evaluation == {"rmse": 2.0}
    assert client.verify("mix:1.0.0").golden_rows == 2
    assert client.register_ensemble("mix", SPEC, version="1.0.0", card=Card(evaluation={"rmse": 2.0})) == registered
    assert client.compare("tiny:1.0.0", "mix:1.0.0").signature.required == "patch"


@pytest.mark.usefixtures("members")
def test_a_dry_run_checks_everything_and_changes_nothing(client, platform):
    before = {blob.digest for blob in platform.registry.backend.blobs.list()}
    assert client.send(verbs.dry_run(verbs.register_ensemble("mix", SPEC))).would == "register mix:1.0.0"
    assert {blob.digest for blob in platform.registry.backend.blobs.list()} == before
    assert [model.name for model in client.models().items] == ["tiny"]
    client.register_ensemble("mix", SPEC)
    for version in ("1.0.0", None):
        call = verbs.dry_run(verbs.register_ensemble("mix", SPEC, version=version))
        assert client.send(call).would == "change nothing: mix:1.0.0 is registered"


@pytest.mark.usefixtures("members")
def test_what_the_server_refuses_is_raised_here(client):
    with pytest.raises(InvalidEnsembleError, match="gives no labels"):
        client.register_ensemble("mix", EnsembleSpec("hard_vote", (Member("tiny:1.0.0"),)))
    with pytest.raises(ModelNotFoundError):
        client.register_ensemble("mix", EnsembleSpec("average", (Member("nobody:1.0.0"),)))


@pytest.mark.usefixtures("members")
async def test_the_asynchronous_client_does_the_same(platform):
    async with AsyncClient("http://localhost", transport=httpx.ASGITransport(create_app(platform))) as client:
        assert (await client.register_ensemble("mix", SPEC)).ref == "mix:1.0.0"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "malformed_request"),
        (b"{}", 422, "malformed_request"),
        (b"{", 422, "malformed_request"),
        (b"[" * 100_000, 422, "malformed_request"),
        (b'{"spec":{"method":"median","members":[]}}', 422, "malformed_request"),
        (b'{"spec":{"method":"average","members":[]}}', 422, "invalid_ensemble"),
        (b'{"spec":{"method":"average","members":[{"ref":"a","weight":-1}]}}', 422, "invalid_ensemble"),
        (b'{"spec":{"method":"average","members":[{"ref":"a","weight":1e999}]}}', 422, "malformed_request"),
        (b'{"spec":{"method":"average","members":[{"ref":"a","weight":NaN}]}}', 422, "malformed_request"),
        (b'{"spec":{"method":"average","members":[{"ref":"a:1.0.0"}]}}', 404, "model_not_found"),
        (b'{"spec":{"method":"average","members":[{"ref":"A b"}]}}', 422, "invalid_ref"),
        (b'{"spec":{"method":"average","members":[{"ref":"a"}],"extra":1}}', 422, "malformed_request"),
        (b'{"spec":{"method":"stack","members":[{"ref":"a"}]}}', 422, "invalid_ensemble"),
    ],
)
def test_hostile_bodies_are_refused_in_words(http, body, status, code):
    for query in ("", "?dry_run=true"):
        refused = http.post(f"/api/v1/models/mix/ensembles{query}", content=body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_the_name_is_checked_first(http):
    body = b'{"spec":{"method":"average","members":[{"ref":"a"}]}}'
    assert http.post("/api/v1/models/A%20b/ensembles", content=body).json()["code"] == "invalid_name"

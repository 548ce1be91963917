"""Deployments over REST: every verb of the client, rehearsals, and what hostile callers are told."""

import json

import httpx
import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from crossfade.client import AsyncClient
from crossfade.errors import (
    DeploymentConflictError,
    DeploymentNotFoundError,
    InvalidDeploymentError,
    MalformedRequestError,
    VersionNotFoundError,
)
from crossfade.releases.deployment import Deployment, DeploymentSpec, DeploymentState
from crossfade.traffic.deployed import Probe, ReplicaRange, Resources
from crossfade.web.app import create_app
from tests import control


def plan(name="web", version="1.0.0", **options):
    return DeploymentSpec(name, "tiny", version, **{"replicas": ReplicaRange(2, 4)} | options)


@pytest.fixture
def tiny(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "2.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    return client


def test_the_life_of_a_deployment(tiny):
    structlog.reset_defaults()  # another test may have asked for warnings only
    with capture_logs() as logs:
        made = tiny.deploy(plan(), reason="busy")
    assert (made.status, made.generation, made.version) == (DeploymentState.DEPLOYING, 1, "1.0.0")
    assert (made.created_by, made.reason) == ("tester", "busy")
    assert [entry["event"] for entry in logs] == ["deployment.deploy"]
    assert tiny.deployments().items == (made,)
    assert tiny.deployments(environment="staging", status="running").items == ()
    status = tiny.deployment("web")
    assert (status.deployment, status.processes, status.ready) == (made, (), 0)
    health = tiny.deployment_health("web")
    assert [window.window_seconds for window in health.windows] == [60, 300, 3600]
    assert tiny.deploy(plan(version="champion", resources=Resources(1, 2**28))).generation == 2
    assert tiny.undeploy("web", reason="quiet").generation == 2
    with pytest.raises(DeploymentNotFoundError):
        tiny.deployment("web")


async def test_the_asynchronous_client_has_the_same_verbs(tiny, platform):
    transport = httpx.ASGITransport(create_app(platform))
    async with AsyncClient("http://localhost", transport=transport) as client:
        made = await client.deploy(plan())
        assert (await client.deployments()).items == (made,)
        assert (await client.deployment("web")).deployment == made
        assert (await client.deployment_health("web")).name == "web"
        assert (await client.undeploy("web")).name == "web"


def test_making_it_twice_answers_200_instead_of_201(tiny, http):
    body = msgspec.json.encode(plan())
    headers = {"content-type": "application/json"}
    answers = [http.post("/api/v1/deployments", content=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert msgspec.json.decode(answers[0].content, type=Deployment).spec == plan()


def test_rehearsals_say_what_would_be_done(tiny, http):
    def would(method, path, body=None):
        return http.request(method, f"/api/v1/{path}?dry_run=true", content=body).json()["would"]

    body = msgspec.json.encode(plan())
    assert would("POST", "deployments", body) == ("run tiny:1.0.0 with 2 to 4 replicas in each process of `production`")
    assert tiny.deployments().items == ()
    tiny.deploy(plan())
    assert would("POST", "deployments", body) == "change nothing"
    assert would("DELETE", "deployments/web") == "undeploy web, which runs tiny:1.0.0"
    assert len(tiny.deployments().items) == 1


def test_refusals_are_the_errors_of_the_store(tiny):
    with pytest.raises(InvalidDeploymentError):
        tiny.deploy(plan(replicas=ReplicaRange(3, 2)))
    with pytest.raises(VersionNotFoundError):
        tiny.deploy(plan(version="9.0.0"))
    tiny.deploy(plan())
    with pytest.raises(DeploymentConflictError):
        tiny.deploy(plan("other", "champion"))
    with pytest.raises(MalformedRequestError):
        tiny.deploy(plan(probe=Probe(interval_seconds=-1.0)))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"name": "web", "model": "tiny", "surprise": 1}',
        '{"name": "web", "model": "tiny", "target_utilisation": 1e999}',
        '{"name": "web", "model": "tiny", "target_utilisation": NaN}',
        '{"name": "web", "model": "tiny", "replicas": {"min": 1e9}}',
        '{"name": "web", "model": "tiny", "resources": {"cpu": -1}}',
        '{"name": "web\\u0000", "model": "tiny"}',
        '{"name": "web", "model": "tiny", "version": "' + "x" * 1000 + '"}',
        "[" * 10_000,
    ],
)
def test_hostile_bodies_are_refused(tiny, http, body):
    answer = http.post("/api/v1/deployments", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {404, 422}
    assert json.loads(answer.content)["code"]
    assert tiny.deployments().items == ()


@pytest.mark.parametrize("name", ["absent", "%00", "..%2f", "x" * 500, "é"])
def test_hostile_names_are_not_there(http, name):
    for method, path in (("GET", name), ("GET", f"{name}/health"), ("DELETE", name)):
        answer: httpx.Response = http.request(method, f"/api/v1/deployments/{path}")
        assert answer.status_code in {404, 422}, path

"""A shorter `make stress`: the same campaign, every kind of breakage twice."""

import pytest

import crossfade
from benchmarks.harness import free_port, server
from tests.stress.open_loop import Seen
from tests.stress.swaps import Outcome, campaign, register, settings

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_no_request_fails_no_batch_is_mixed_and_nothing_broken_answers(tmp_path):
    port = free_port()
    env = {"CROSSFADE_HOME": str(tmp_path), "CROSSFADE_REGISTRY__ALLOW_CODE_MODELS": "true"}
    with crossfade.open_platform(settings(tmp_path)) as platform:
        register(platform, 0)
        platform.switch.move("m", "champion", "1.0.0", reason="start")
        url = f"http://127.0.0.1:{port}"
        with server(["-m", "crossfade", "serve", "--port", str(port)], f"{url}/readyz", env=env):
            outcome = campaign(platform, url, swaps=24, broken=8, rate=60)
    assert outcome.violations == []
    assert outcome.refused == [f"1.0.{number}" for number in (3, 6, 12, 15, 18, 24)], "9 and 21 are only slow"
    assert len(outcome.moved) == 18
    assert outcome.versions > 10


def test_the_campaign_notices_every_broken_promise():
    traffic = Seen()
    traffic.versions.update({"1.0.0": 5, "1.0.2": 1})
    traffic.failed.append("ConnectError")
    traffic.mixed.append("1.0.0 answered [1.0]")
    outcome = Outcome(moved=["1.0.1", "1.0.2"], refused=["1.0.3"], requests_per_call=1.0)
    outcome.judge(traffic, broken={"1.0.2"})
    assert outcome.violations == [
        "failed: ConnectError",
        "mixed: 1.0.0 answered [1.0]",
        "1.0.2 is broken and was promoted",
        "1.0.3 is sound and was refused",
        "1.0.2 is broken and answered",
        "no two requests shared a call, so that nothing could have been mixed",
    ]

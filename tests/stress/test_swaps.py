"""A shorter `make stress`: the same campaign, every kind of breakage at least once."""

import crossfade
from benchmarks.harness import free_port, server
from tests.stress.swaps import campaign, register, settings


def test_no_request_fails_and_no_batch_is_mixed(tmp_path):
    port = free_port()
    env = {"CROSSFADE_HOME": str(tmp_path), "CROSSFADE_REGISTRY__ALLOW_CODE_MODELS": "true"}
    with crossfade.open_platform(settings(tmp_path)) as platform:
        register(platform, 0)
        platform.switch.move("m", "champion", "1.0.0", reason="start")
        url = f"http://127.0.0.1:{port}"
        with server(["-m", "crossfade", "serve", "--port", str(port)], f"{url}/readyz", env=env):
            outcome = campaign(platform, url, swaps=24, broken=4, rate=50)
    assert outcome.failed == []
    assert outcome.mixed == []
    assert outcome.refused == 3, "corrupt bytes, wrong golden answers and a crash; slow is slow, not broken"
    assert outcome.moved == 21
    assert outcome.versions > 10

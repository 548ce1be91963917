"""The application as a whole, before anybody has asked it for anything."""

import httpx
from fastapi.routing import _IncludedRouter

import crossfade
from crossfade.web.app import create_app, warm_up


async def test_no_request_waits_for_routes_to_be_built(tmp_path, monkeypatch):
    """FastAPI builds them when they are first looked at; 60 ms, in which nobody gets a prediction."""
    built = []
    build = _IncludedRouter._build_effective_context
    monkeypatch.setattr(
        _IncludedRouter, "_build_effective_context", lambda self, route: built.append(route) or build(self, route)
    )
    with crossfade.open_platform(crossfade.Settings(home=tmp_path)) as platform:
        app = create_app(platform)
        assert built == []
        await warm_up(app)
        assert len(built) > 50
        built.clear()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for path in ("models", "experiments", "rollouts", "alerts", "system"):
                assert (await client.get(f"/api/v1/{path}")).status_code in {200, 404}
    assert built == []

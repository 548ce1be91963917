"""Bodies that are none: whoever sends one is told which command shows what it has to be, and that command is there."""

import re

from click.testing import CliRunner

from crossfade.cli.main import main

_NUMBERS = {"number": "1"}


def test_every_route_names_a_command_that_there_is(http):
    document = http.get("/openapi.json").json()
    asked = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path.startswith("/api/v1/") and "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    hints = {}
    for method, path in asked:
        url = re.sub(r"\{(\w+)\}", lambda name: _NUMBERS.get(name[1], "x"), path)
        answer = http.request(method, url, content=b"[1")
        if answer.status_code == 422 and answer.json()["code"] == "malformed_request":
            hints[method, path] = answer.json()["hint"]
    assert len(hints) > 35
    for route, hint in hints.items():
        (words,) = re.findall(r"`crossfade ([a-z -]+ --help)`", hint) or [""]
        assert CliRunner().invoke(main, words.split()).exit_code == 0, (route, hint)


def test_a_malformed_job_and_malformed_outcomes_are_sent_to_their_own_commands(http):
    job = http.post("/api/v1/jobs", json={"format": "xls"}).json()
    assert job["hint"] == "see the shape of a request with `crossfade jobs submit --help`"
    outcomes = http.post("/api/v1/outcomes", json={"outcomes": [1]}).json()
    assert outcomes["hint"] == "see the shape of a request with `crossfade outcomes record --help`"

"""The documents tell the truth: their code runs, their links lead somewhere, the generated pages are current."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

FIRST_READ = {"README.md"}
"""What every run of the tests executes; a slow run executes the other pages."""
EXECUTED = [
    pytest.param(page, id=page.name, marks=() if page.name in FIRST_READ else pytest.mark.slow)
    for page in PAGES
    if any(language in {"python", "sh"} for language, _ in BLOCK.findall(page.read_text()))
]


@pytest.fixture
def run_block(tmp_path):
    """Run blocks of a page in one empty folder. A server that one starts has a free port, and ends with the test."""
    port = str(free_port())
    scripts = Path(sys.executable).parent
    ours = ("CROSSFADE_", "COVERAGE_")  # measuring what is covered elsewhere would make every command slower
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "CROSSFADE_HOME": str(tmp_path / ".crossfade"),
        "CROSSFADE_HTTP__PORT": port,
        "CROSSFADE_SERVING__DRAIN_SECONDS": "0",
    }

    def run(language, code):
        code = code.replace("localhost:8000", f"localhost:{port}")
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        # into a file: a server that goes on running would keep a pipe open
        with (tmp_path / "output").open("w+") as output:
            try:
                done = subprocess.run(
                    command, cwd=tmp_path, env=env, stdout=output, stderr=subprocess.STDOUT, timeout=200, check=False
                )
            except subprocess.TimeoutExpired:
                logs = [path.read_text()[-3_000:] for path in (tmp_path / "output", *tmp_path.glob("*.log"))]
                pytest.fail(f"it takes too long:\n{code}\n" + "\n--\n".join(logs))
            output.seek(0)
            return done.returncode, output.read()

    yield run
    pid = tmp_path / "server.pid"
    if pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", EXECUTED)
def test_every_block_runs(page, run_block):
    """`python` and `sh` blocks of a page run in order in one empty folder; blocks without a language are shown only."""
    for language, code in BLOCK.findall(page.read_text()):
        if language in {"python", "sh"}:
            code_of_exit, output = run_block(language, code)
            assert code_of_exit == 0, f"{code}\n{output}"


def test_the_quickstart_shows_nothing_that_is_not_executed():
    blocks = re.findall(r"^```(.*)$", (ROOT / "docs" / "tutorials" / "quickstart.md").read_text(), re.MULTILINE)
    assert set(blocks[::2]) == {"python", "sh"}
    assert set(blocks[1::2]) == {""}


@pytest.fixture
def examples():
    """The JSON of the HTTP reference: an infer request, a request with rows, and the answer to that."""
    page = (ROOT / "docs" / "reference" / "http.md").read_text()
    return [json.loads(code) for language, code in BLOCK.findall(page) if language == "json"]


def test_the_http_examples_are_what_a_server_takes_and_gives(examples, tmp_path):
    tensors, rows, answer = examples
    houses = pd.DataFrame({"district": ["north", "east"] * 10, "area": [40.0, 120.0] * 10})
    columns = ColumnTransformer([("district", OneHotEncoder(), ["district"])], remainder="passthrough")
    model = LogisticRegression().fit(columns.fit_transform(houses), [0, 1] * 10)
    numbers = np.arange(30.0).reshape(10, 3)
    with open_platform(Settings(home=tmp_path / "home")) as platform:
        registry = platform.registry
        registry.register(answer["model"], model, preprocessor=columns, example=houses, version=answer["version"])
        registry.register("numbers", LogisticRegression().fit(numbers, [0, 1] * 5), example=numbers)
        registry.move_alias(answer["model"], "champion", answer["version"])
        registry.move_alias("numbers", "champion", "1.0.0")
    with control.running_server(tmp_path / "home") as server, httpx.Client(base_url=server.url) as client:
        given = client.post(f"/api/v1/predict/{answer['model']}", json=rows).raise_for_status().json()
        assert set(given) == set(answer)
        assert [given[name] for name in ("model", "version", "alias", "classes")] == [
            answer[name] for name in ("model", "version", "alias", "classes")
        ]
        assert np.shape(given["probabilities"]) == np.shape(answer["probabilities"])
        inferred = client.post("/v2/models/numbers/infer", json=tensors).raise_for_status().json()
        assert inferred["id"] == tensors["id"]
        assert [output["name"] for output in inferred["outputs"]] == ["predict"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_is_something_to_execute():
    assert {page.id for page in EXECUTED} > FIRST_READ

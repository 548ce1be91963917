"""The documents tell the truth: their code runs, their links lead somewhere, the generated pages are current."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

EXECUTED = [
    page for page in PAGES if any(language in {"python", "sh"} for language, _ in BLOCK.findall(page.read_text()))
]


def run_block(language, code, folder):
    scripts = Path(sys.executable).parent
    env = os.environ | {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "CROSSFADE_HOME": str(folder / ".crossfade"),
    }
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path):
    """`python` and `sh` blocks of a page run in order in one empty folder; blocks without a language are shown only."""
    for language, code in BLOCK.findall(page.read_text()):
        if language in {"python", "sh"}:
            done = run_block(language, code, tmp_path)
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


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
    assert {page.name for page in EXECUTED} >= {"README.md", "quickstart.md"}

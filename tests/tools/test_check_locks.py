"""The lock checker, run on small projects made for the purpose."""

from pathlib import Path

import pytest

from tools import check_locks

PYPROJECT = """
[project]
name = "crossfade"
dependencies = ["click>=8", "uvloop>=0.21; sys_platform != 'win32'"]

[project.optional-dependencies]
s3 = ["boto3>=1.36"]
all = ["crossfade[s3]"]
demo = ["Nice_Flights>=1"]
"""
CORE = "click==8.5.1 \\\n    --hash=sha256:aa\nuvloop==0.23.0 ; sys_platform != 'win32' \\\n    --hash=sha256:bb\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    folder = tmp_path / "requirements"
    folder.mkdir()
    (folder / "build.in").write_text("# what builds\nsetuptools<82  # why\n\n")
    (folder / "build.txt").write_text("setuptools==81.0.0 \\\n    --hash=sha256:cc\n")
    (folder / "conformance.in").write_text("httpx\n")
    (folder / "conformance.txt").write_text("httpx==0.28.1\n")
    (folder / "test.in").write_text("pytest\n")
    (folder / "test.txt").write_text(CORE + "boto3==1.44.5\npytest==9.2.0\n")
    (folder / "demo.txt").write_text(CORE + "nice-flights==1.2\n")
    return tmp_path


def test_locks_that_answer_every_requirement_pass(root: Path) -> None:
    assert list(check_locks.problems(root)) == []
    assert check_locks.main(root) == 0


def test_a_dependency_added_without_locking_again_is_reported(root: Path) -> None:
    path = root / "pyproject.toml"
    path.write_text(path.read_text().replace('"click>=8"', '"click>=8", "rich"'))
    assert list(check_locks.problems(root)) == [
        "requirements/demo.txt: rich is not locked",
        "requirements/test.txt: rich is not locked",
    ]


def test_a_raised_floor_is_reported_for_every_pinned_version(root: Path) -> None:
    lock = root / "requirements/test.txt"
    lock.write_text(lock.read_text() + "boto3==1.30.0 ; python_full_version < '3.12'\n")
    assert list(check_locks.problems(root)) == ["requirements/test.txt: boto3>=1.36 is locked at 1.44.5, 1.30.0"]


def test_requirements_of_the_tests_are_checked_too(root: Path) -> None:
    (root / "requirements/test.in").write_text("pytest>=10\nhypothesis\n")
    assert list(check_locks.problems(root)) == [
        "requirements/test.txt: pytest>=10 is locked at 9.2.0",
        "requirements/test.txt: hypothesis is not locked",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "--index-url somewhere",
        "--extra-index-url=somewhere",
        "--find-links wheels",
        "numpy @ scheme://host/numpy.whl",
        "# made with -c /home/me/constraints.txt",
    ],
)
def test_a_lock_names_no_address_and_no_folder(root: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    lock = root / "requirements/demo.txt"
    lock.write_text(f"{line}\n" + lock.read_text())
    assert check_locks.main(root) == 1
    output = capsys.readouterr().out.splitlines()
    assert output == [
        "requirements/demo.txt:1: names an address or a folder of this machine",
        "hint: `make lock` writes the lock files again",
    ]


def test_the_locks_of_this_project_pass() -> None:
    assert list(check_locks.problems(Path(__file__).resolve().parents[2])) == []


def test_every_lock_of_the_peers_is_checked(root: Path) -> None:
    folder = root / "requirements/peers"
    folder.mkdir()
    (folder / "one.in").write_text("serving>=2\n")
    (folder / "one.txt").write_text("serving==2.1\n")
    assert list(check_locks.problems(root)) == []
    (folder / "two.in").write_text("answering\n")
    (folder / "two.txt").write_text("--index-url somewhere\n")
    assert list(check_locks.problems(root)) == [
        "requirements/peers/two.txt: answering is not locked",
        "requirements/peers/two.txt:1: names an address or a folder of this machine",
    ]

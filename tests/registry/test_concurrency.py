from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import pytest

from crossfade.errors import VersionConflictError
from crossfade.registry.registry import Registry
from crossfade.storage.changes import verify_audit
from tests.registry import toy
from tests.registry.support import open_backend
from tests.registry.toy import Linear


@contextmanager
def writers(home, url, name, version, *shares):
    """Start one process per share of contents; they begin when told to, so that they run at the same time."""
    command = [sys.executable, "-m", "tests.registry.writer", str(home), url, name, version]
    processes = [
        subprocess.Popen(
            [*command, *map(str, share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        for share in shares
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def go(processes):
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def lines(processes):
    return [line for process in processes for line in process.communicate(timeout=60)[0].splitlines()]


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def registry(home, database_url):
    toy.install()
    backend = open_backend(home, database_url)
    yield Registry(backend)
    with backend.database.read() as connection:
        verify_audit(connection)
    backend.database.close()


def test_two_threads_that_register_the_same_semver_agree_on_one(registry):
    def attempt(bias):
        model = Linear((1.0,), float(bias % 2))
        try:
            return registry.register("churn", model, version="1.0.0", signature=model.signature()).manifest_digest
        except VersionConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(attempt, range(16)))
    assert found == {registry.resolve("churn:1.0.0").manifest_digest, None}
    registry.verify("churn:1.0.0")


def test_two_processes_that_register_the_same_semver_agree_on_one(registry, home, database_url):
    with writers(home, database_url, "churn", "1.0.0", [1, 2, 1], [2, 1, 2]) as processes:
        go(processes)
        found = set(lines(processes))
    assert found == {f"1.0.0 {registry.resolve('churn:1.0.0').manifest_digest}", "conflict"}
    registry.verify("churn:1.0.0")


def test_fifty_registrations_at_once_all_succeed(registry, home, database_url):
    names = [f"model_{number}" for number in range(5)]

    def register(number):
        model = Linear((1.0,), float(number))
        return registry.register(names[number % 5], model, signature=model.signature()).ref

    with writers(home, database_url, names[0], "", range(100, 105), range(200, 205)) as processes:
        with ThreadPoolExecutor(40) as pool:
            go(processes)
            found = list(pool.map(register, range(40)))
        found += [f"{names[0]}:{line.split()[0]}" for line in lines(processes)]
    versions = [version for name in names for version in registry.list_versions(name).items]
    assert len(found) == len(set(found)) == 50
    assert {version.ref for version in versions} == set(found)
    for name, count in zip(names, [18, 8, 8, 8, 8], strict=True):
        assert [version.number for version in versions if version.model == name] == list(range(count, 0, -1))
    for version in versions[::10]:
        registry.verify(version.ref)


def test_moves_from_many_threads_form_one_history(registry):
    for bias in range(4):
        registry.register("churn", Linear((1.0,), float(bias)), signature=Linear((1.0,)).signature())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: registry.move_alias("churn", "champion", f"1.0.{i % 4}"), range(40)))
    moves = registry.alias_history("churn", "champion", limit=1000).items
    assert all(after.source == before.target for after, before in pairwise(moves))
    assert registry.resolve("churn@champion").version == moves[0].target

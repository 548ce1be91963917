"""The specification of a runner: inherit from `RunnerContract` and provide one, and how to end a replica from outside.

Example:
    >>> class TestMyRunner(RunnerContract):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def runner(self):
    ...         return MyRunner()
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import pytest

from crossfade.errors import CrossfadeError, InsufficientResourcesError
from crossfade.registry.versions import Manifest
from crossfade.serving.replicas.port import Replica, Runner, Template
from crossfade.traffic.deployed import Deployed, ReplicaRange, Resources

INPUTS = {"x": np.array([1.0, 2.0])}
WANTED = frozenset({"predict"})
TERMS = Deployed("d", 1, replicas=ReplicaRange(1, 2))
_SECONDS = 30.0


class RunnerContract:
    """Tests that every runner passes."""

    @pytest.fixture
    @abstractmethod
    def runner(self) -> Runner:
        """Return a runner."""
        raise NotImplementedError

    @pytest.fixture
    @abstractmethod
    def manifest(self) -> Manifest:
        """Return a version that the runner can get, which doubles its input `x` into `predict`."""
        raise NotImplementedError

    @abstractmethod
    def end(self, replica: Replica) -> None:
        """End what runs of a replica from outside, without asking it."""
        raise NotImplementedError

    @pytest.fixture
    def template(self, runner: Runner, manifest: Manifest) -> Iterator[Template]:
        """A version at hand."""
        template = runner.prepare(manifest, TERMS)
        yield template
        template.close()

    @pytest.fixture
    def replicas(self, template: Template) -> Iterator[tuple[Replica, Replica]]:
        """Two replicas that live."""
        one, two = template.replica(0), template.replica(1)
        one.start()
        two.start()
        yield one, two
        one.close()
        two.close()

    def test_replicas_answer(self, replicas: tuple[Replica, Replica]) -> None:
        """All the same."""
        for replica in replicas:
            assert replica.lost() == ""
            assert replica.predict(INPUTS, WANTED)["predict"].tolist() == [2.0, 4.0]
            assert replica.preprocess_seconds >= 0

    def test_calls_may_say_how_long_somebody_waits(self, replicas: tuple[Replica, Replica]) -> None:
        """And that they are forgiven when they end it."""
        with replicas[0].bounded(_SECONDS, spared=True):
            assert replicas[0].predict(INPUTS, WANTED)["predict"].tolist() == [2.0, 4.0]

    def test_one_that_was_not_started_cannot_be_asked(self, template: Template) -> None:
        """And says so; restarting starts it."""
        replica = template.replica(0)
        try:
            assert replica.lost()
            replica.restart()
            assert replica.predict(INPUTS, WANTED)["predict"].tolist() == [2.0, 4.0]
        finally:
            replica.close()

    def test_one_that_ends_says_so_and_comes_back(self, replicas: tuple[Replica, Replica]) -> None:
        """And the other does not notice."""
        one, two = replicas
        self.end(one)
        deadline = time.monotonic() + _SECONDS
        while not (problem := one.lost()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert problem
        assert two.predict(INPUTS, WANTED)["predict"].tolist() == [2.0, 4.0]
        one.restart()
        assert one.lost() == ""
        assert one.predict(INPUTS, WANTED)["predict"].tolist() == [2.0, 4.0]

    def test_one_that_is_of_no_use_is_ended(self, replicas: tuple[Replica, Replica]) -> None:
        """Another process takes its place."""
        one, _ = replicas
        one.end("it answers wrongly")
        assert one.lost()
        one.restart()
        assert one.predict(INPUTS, WANTED)["predict"].tolist() == [2.0, 4.0]

    def test_what_it_uses_is_known(self, replicas: tuple[Replica, Replica]) -> None:
        """Memory and processor time of something that lives."""
        usage = replicas[0].usage()
        assert usage.memory_bytes > 0
        assert usage.cpu_seconds >= 0

    def test_one_that_was_killed_stays_dead(self, replicas: tuple[Replica, Replica]) -> None:
        """Whoever asks it gets an error."""
        one, _ = replicas
        one.kill()
        with pytest.raises(CrossfadeError):
            one.predict(INPUTS, WANTED)
        assert one.given_up

    def test_nothing_refuses_a_request_that_has_done_no_harm(self, template: Template) -> None:
        """It has not ended any replica."""
        assert template.refusal(INPUTS, WANTED) is None
        assert template.rest_seconds() == 0.0

    def test_resources_that_are_not_there_are_refused(self, runner: Runner) -> None:
        """Before anything is started."""
        assert runner.most(TERMS) == 2
        with pytest.raises(InsufficientResourcesError):
            runner.most(Deployed("d", 1, resources=Resources(gpu=64)))
        with pytest.raises(InsufficientResourcesError):
            runner.most(Deployed("d", 1, resources=Resources(memory_bytes=2**49)))

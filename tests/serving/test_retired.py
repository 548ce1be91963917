"""What was exchanged is closed when nobody uses it any more, and not before."""

from types import SimpleNamespace

from crossfade.serving.retired import Engine, Retired


class Part:
    def __init__(self, name, events, busy=False):
        self.name = name
        self.events = events
        self.busy = busy

    def kill(self):
        self.events.append(f"kill {self.name}")

    def close(self):
        self.events.append(f"close {self.name}")


def make(*, busy=False, size=10):
    events = []
    return Engine(Part("batcher", events, busy), Part("model", events), size), events


def test_it_is_closed_after_a_while_once_nobody_uses_it():
    now = SimpleNamespace(seconds=0.0)
    retired = Retired(lambda: now.seconds)
    engine, events = make(busy=True)
    retired.add(engine)
    retired.clear()
    assert events == [], "somebody may be about to use it"
    now.seconds = 2.0
    retired.clear()
    assert (events, retired.pending, retired.size_bytes) == ([], True, 10)
    engine.batcher.busy = False
    retired.clear()
    assert events == ["kill model", "close batcher", "close model"]
    assert (retired.pending, retired.size_bytes) == (False, 0)


def test_at_the_end_all_are_closed_at_once():
    retired = Retired(lambda: 0.0)
    engine, events = make(busy=True)
    retired.add(engine)
    retired.clear(at_once=True)
    assert len(events) == 3


def test_what_runs_in_this_process_has_only_a_batcher():
    events = []
    Engine(Part("batcher", events), None).close()
    assert events == ["close batcher"]

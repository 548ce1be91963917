"""What tests of the demo share: fakes, and a server that answers as well or as badly as a test wants."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from crossfade.cli.demo.board import Board, Standing
from crossfade.cli.demo.landings import Landings
from crossfade.cli.demo.traffic import Answer
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.record import Experiment, Status
from crossfade.experiments.report import AnalysisReport, Arm, Comparison, Decision, Health
from crossfade.methods.stats.values import Effect, NotEstimable
from crossfade.releases.plan import PRESETS
from crossfade.releases.rollout import Rollout, RolloutEvidence, RolloutState, RolloutStatus
from crossfade.solutions.flights.quality import measure
from crossfade.solutions.flights.replay import Question

NOON = datetime(2013, 12, 1, 12, tzinfo=UTC)


def some_questions(count):
    return [
        Question(
            f"2013-12-01 UA{i} JFK",
            {"carrier": "UA", "origin": "JFK", "hour": i % 24},
            NOON + timedelta(minutes=i),
            NOON + timedelta(minutes=i + 90),
            False,
        )
        for i in range(count)
    ]


def an_answer(due=0.0, seconds=0.01, version="1.0.0", number=0, decided=None):
    return Answer(some_questions(number + 1)[number], version, 0.25, due, seconds, decided)


def a_board(**changes):
    quality = measure([0, 1, 0, 1], [0.1, 0.7, 0.4, 0.6])
    facts = {
        "clock": NOON,
        "asked": 1200,
        "errors": 0,
        "p50_ms": 5.25,
        "p99_ms": 17.0,
        "answering": "1.1.0",
        "standings": (Standing("1.0.0", 800, quality), Standing("1.1.0", 400, None)),
    }
    return Board(**(facts | changes))


def an_effect(value=-0.1, half=0.04):
    return Effect("absolute", value, value - half, value + half, 0.01, 0.012, 0.05, "two-sided", 300)


def a_report(found=None, *, decision=None, units=(160, 150)):
    """Return an analysis of one metric of one treatment."""
    effect = an_effect() if found is None else found
    control, treatment = Arm("schedule", 140, 0.5), Arm("weather", 130, 0.4)
    comparison = Comparison(
        "log_loss", "mean", "primary", "down", control, treatment, False, "absolute", effect, NotEstimable("no need"),
        0.01, None, 0.01, "better", None, NotEstimable("no need"), None, None, False, None, 0, (),
    )  # fmt: skip
    names = ("schedule", "weather")
    health = Health(
        (),
        tuple(zip(names, units, strict=True)),
        tuple(zip(names, units, strict=True)),
        tuple((name, 155.0) for name in names),
        0.5,
        0.5,
        0.0,
    )
    decided = decision or Decision("continue", "weather", "it is unclear", missing="about 700 more units")
    return AnalysisReport(
        "late_flights", NOON, "always_valid", 0.05, "none", "schedule", ("weather",),
        decided, health, (comparison,), (), (), (),
    )  # fmt: skip


def a_bandit_report(decisions=500, weights=(0.8, 0.15, 0.05)):
    names = ("weather", "schedule", "recent")
    shares = dict(zip(names, weights, strict=True))
    return BanditReport("best_teller", "gaussian_thompson", shares, shares, decisions, 0, NOON)


def an_experiment(spec, status="running", verdict=None):
    versions = {variant.name: variant.version for variant in spec.variants}
    weights = {variant.name: variant.weight for variant in spec.variants}
    return Experiment(
        spec.name, spec.model, spec.kind, Status(status), spec, 1, weights, 1.0, versions, NOON, "demo", verdict=verdict
    )


def a_rollout(status="progressing", candidate="1.3.0", *, unsafe=(6, 50, 4, 450), **changes):
    """Return a rollout in its first step, unless it is over."""
    weight = {"progressing": 0.1, "completed": 1.0}.get(status, 0.0)
    state = RolloutState(step=0, words="step 1 holds for another 9 s")
    facts = {
        "name": f"flight_delay-{candidate}",
        "kind": "model",
        "subject": "flight_delay",
        "status": RolloutStatus(status),
        "plan": PRESETS["fast"],
        "state": state,
        "stable": "1.1.0",
        "candidate": candidate,
        "digest": "d",
        "weight": weight,
        "fast": False,
        "latched": status == "rolled_back",
        "reason": "check `unsafe` failed: 6 of 50 requests of 1.3.0 were answered unsafely",
        "evidence": RolloutEvidence(counts={"unsafe": unsafe}),
        "seen": 1,
        "created_at": NOON,
        "created_by": "demo",
    }
    return Rollout(**(facts | changes))


def good(version="1.0.0", **more):
    answer = {"model": "flight_delay", "version": version, "classes": [0, 1], "probabilities": [[0.75, 0.25]]}
    return 200, answer | more


class FakeWatch:
    """Passes no time of its own, and looks at the table as often as a real one would."""

    def __init__(self, look):
        self.look = look
        self.watched = []

    def during(self, seconds):
        self.watched.append(seconds)
        self.look()
        time.sleep(0.001)

    def while_doing(self, work):
        self.look()
        return work()


class FakeScreen:
    """Keeps what it is told, by kind."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, kind):
        return lambda text="": self.lines.append((kind, text))

    def of(self, *kinds):
        return [text for kind, text in self.lines if kind in kinds]


class FakeStage:
    """A stage without a server: the client is the test's own, and the board never changes."""

    def __init__(self, client, home=None, *, watch_seconds=4.0, url="http://127.0.0.1:1"):
        self.client, self.home, self.url, self.watch_seconds = client, home, url, watch_seconds
        self.screen = FakeScreen()
        self.watches = []
        self.kept = {}
        self.traffic = SimpleNamespace(asked=100, ran_out=False, pace=lambda: 100.0)
        self.scorer = SimpleNamespace(board=a_board)
        self.landings = Landings(lambda outcomes: None)

    def watch(self, look):
        self.watches.append(FakeWatch(look))
        return self.watches[-1]

    def write(self, spec):
        return f"{spec.name}.json"

    def keep(self, name, content):
        self.kept[name] = content
        return name


@contextmanager
def fake_server(reply=good, delay=0.0):
    """Run a server on a free port; `reply` gives status and body, `None` hangs up without an answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            time.sleep(delay)
            answer = reply()
            if answer is None:
                self.close_connection = True
                self.connection.close()
                return
            status, document = answer
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

        def handle(self):
            with suppress(OSError, ValueError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.bodies = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/api/v1/predict/flight_delay"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

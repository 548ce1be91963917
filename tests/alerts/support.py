"""What tests of alerts share: a clock moved by hand, health that says what it is told, channels that keep events."""

from datetime import UTC, datetime, timedelta

from crossfade.alerts.evaluator import Evaluator
from crossfade.alerts.store import AlertStore
from crossfade.errors import DatabaseUnavailableError
from crossfade.notifications.courier import Result
from crossfade.notifications.messenger import Messenger
from crossfade.settings import AlertSettings, Settings
from crossfade.storage.lease import Lease
from crossfade.traffic.health import LATENCY_BOUNDS, Health

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)


def health(requests, errors=0, slow=0, seconds=60.0, unsafe=0):
    """Requests of which some failed, and some answers took a second."""
    answered = requests - errors
    fast, second = LATENCY_BOUNDS.index(0.01), LATENCY_BOUNDS.index(1.0)
    return Health(
        requests=requests, errors=errors, unsafe=unsafe, latency={fast: answered - slow, second: slow}, seconds=seconds
    )


class FakeHealth:
    """A history of what happened at which moment; windows add it up."""

    def __init__(self, clock):
        self.clock = clock
        self.events = []
        self.away = False

    def add(self, model="churn", *, requests=1000, errors=0, slow=0):
        self.events.append((self.clock(), model, requests, errors, slow))

    def window(self, seconds, *, model, coarse=False):
        if self.away:
            raise DatabaseUnavailableError(problem="away")
        start = self.clock() - timedelta(seconds=seconds)
        found = [each for each in self.events if each[0] > start and each[1] == model]
        return health(*(sum(each[place] for each in found) for place in (2, 3, 4)), seconds=seconds)

    def models(self, seconds):
        if self.away:
            raise DatabaseUnavailableError(problem="away")
        start = self.clock() - timedelta(seconds=seconds)
        return sorted({(each[1], "1.0.0") for each in self.events if each[0] > start})


class FakeChannels:
    """Channels that tell at once, or only when they are let."""

    def __init__(self, *names):
        self.names = names or ("ops",)
        self.told = []
        self.held = []
        self.hold = False
        self.result = Result.SENT

    def of(self, severity):
        return self.names

    def bring(self, name, event, done):
        if self.hold:
            self.held.append((name, event, done))
            return
        self.told.append((name, event))
        done(self.result, "")

    def let(self):
        for name, event, done in self.held:
            self.told.append((name, event))
            done(Result.SENT, "")
        self.held = []

    @property
    def kinds(self):
        return [event.kind for _, event in self.told]


class Told(Evaluator):
    """An evaluator in a process that brings messages, too."""

    def __init__(self, messenger, *places, **options):
        super().__init__(*places, **options)
        self._messenger = messenger

    def turn(self):
        super().turn()
        self._messenger.turn()

    def close(self):
        super().close()
        self._messenger.close()


class Watch:
    """Everything that evaluates alerts over one database."""

    def __init__(self, database, **settings):
        self.database = database
        self.clock = Clock()
        self.health = FakeHealth(self.clock)
        self.channels = FakeChannels()
        self.sources = {}
        self.metrics_text = ""
        self.settings = Settings(alerts=AlertSettings(**settings))
        self.store = AlertStore(database, self.settings, self.channels, self.clock)

    def evaluator(self, seconds=60.0):
        lease = Lease(self.database, "messages", seconds, self.clock)
        return Told(
            Messenger(self.database, self.channels, lease, 86_400.0, self.clock),
            self.database,
            self.settings,
            self.channels,
            Lease(self.database, "alerts", seconds, self.clock),
            health=self.health,
            metrics=self.metrics,
            sources=self.sources,
            clock=self.clock,
        )

    def metrics(self):
        return self.metrics_text.encode()

    def statuses(self, rule):
        return [str(alert.status) for alert in self.store.list(rule=rule)]

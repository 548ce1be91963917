"""What tests of storage share."""


class FakeTime:
    """A monotonic clock that stands still unless a test moves it."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

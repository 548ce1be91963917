"""The command line in this process, on a platform of its own."""

from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from crossfade.cli.main import main
from tests import control


class CommandLine:
    """Runs commands and keeps the last result."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.home = folder / "home"

    def __call__(self, *args, input=None, **settings):  # noqa: A002 - click's name
        environment = {"CROSSFADE_HOME": str(self.home), "CROSSFADE_CONFIG": "/dev/null", "CROSSFADE_SERVER": None}
        return CliRunner().invoke(main, [str(arg) for arg in args], input=input, env=environment | settings)

    def register(self, factor=1.0, *options, name="tiny"):
        model = control.write_onnx(self.folder / f"{name}{factor}.onnx", factor)
        rows = self.folder / "rows.json"
        rows.write_text("[[1.0, 2.0], [3.0, 4.0]]")
        return self("models", "register", name, model, "--example", rows, *options)


@pytest.fixture
def cli(tmp_path, monkeypatch):
    for name in ("NO_COLOR", "CROSSFADE_SERVER"):
        monkeypatch.delenv(name, raising=False)
    import logging

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield CommandLine(tmp_path)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _logs_as_before(monkeypatch):
    """Commands that need no server set up logs in this process; loggers must not stay like that for other tests."""
    configure = structlog.configure
    uncached = {"cache_logger_on_first_use": False}
    monkeypatch.setattr(structlog, "configure", lambda **options: configure(**options | uncached))
    yield
    structlog.reset_defaults()

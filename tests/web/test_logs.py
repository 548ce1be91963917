"""Logs: one format on stderr for everything, and never a local variable."""

import json
import logging

import pytest
import structlog

from crossfade.settings import LogSettings
from crossfade.web.logs import configure_logs, get_logger


@pytest.fixture(autouse=True)
def restored():
    """Leave logging as it was: other tests capture it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_events_are_json_lines(capsys):
    configure_logs(LogSettings())
    get_logger().info("alias.move", alias="churn@champion", target="1.0.0")
    (line,) = lines(capsys)
    event = json.loads(line)
    assert event["event"] == "alias.move"
    assert (event["alias"], event["target"], event["level"]) == ("churn@champion", "1.0.0", "info")
    assert event["at"].endswith("Z")


def test_other_libraries_log_in_the_same_format(capsys):
    configure_logs(LogSettings())
    logging.getLogger("some.library").warning("careful: %s", "hot")
    (line,) = lines(capsys)
    assert json.loads(line)["event"] == "careful: hot"


def test_chatty_libraries_are_quiet(capsys):
    configure_logs(LogSettings(level="DEBUG"))
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("httpx").info("HTTP Request")
    assert lines(capsys) == []


def test_less_severe_events_are_left_out(capsys):
    configure_logs(LogSettings(level="WARNING"))
    get_logger().info("nothing")
    logging.getLogger("x").info("nothing")
    get_logger().warning("something")
    (line,) = lines(capsys)
    assert "something" in line


@pytest.mark.parametrize("json_lines", [True, False])
def test_tracebacks_show_no_local_variables(capsys, json_lines):
    configure_logs(LogSettings(json_lines=json_lines))
    inputs = "a secret row"
    try:
        int(inputs)
    except ValueError as error:
        get_logger().error("bug", exc_info=error)
    text = "\n".join(lines(capsys))
    assert "ValueError" in text
    assert '"inputs"' not in text, "no names and values of local variables"
    assert "locals" not in text


def test_lines_can_be_readable(capsys):
    configure_logs(LogSettings(json_lines=False))
    get_logger().info("ready", pid=7)
    (line,) = lines(capsys)
    assert "ready" in line
    assert "pid=7" in line
    assert "\x1b" not in line


def test_configuring_again_does_not_log_twice(capsys):
    configure_logs(LogSettings())
    configure_logs(LogSettings())
    get_logger().info("once")
    assert len(lines(capsys)) == 1

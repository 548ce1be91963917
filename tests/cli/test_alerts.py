"""`crossfade alerts`: what it shows, what it changes, what it refuses."""

import json

import pytest
import yaml


@pytest.fixture
def alerts(cli):
    def run(*arguments, **settings):
        return cli("alerts", *arguments, **settings)

    return run


def test_nothing_is_wrong(alerts):
    result = alerts("list")
    assert result.exit_code == 0
    assert "nothing is wrong" in result.stderr
    assert json.loads(alerts("list", "--format", "json").stdout) == []


def test_rules(alerts):
    assert "ModelErrorRateHigh" in alerts("rules").stdout
    assert "ModelErrorRateHigh" in alerts("rules", "--format", "quiet").stdout.splitlines()
    result = alerts("rules", "--prometheus")
    names = [rule["alert"] for rule in yaml.safe_load(result.stdout)["groups"][1]["rules"]]
    assert names == alerts("rules", "--format", "quiet").stdout.split()
    assert "promtool" in result.stderr


def test_thresholds_are_those_of_the_settings(alerts):
    text = alerts("rules", "--prometheus", CROSSFADE_ALERTS__QUEUE_DEPTH="7", CROSSFADE_SLO__AVAILABILITY="0.9").stdout
    assert "> 7" in text
    assert 'ratio_rate5m{model!=\\"\\"} > 1.44' in text


def test_a_variable_that_is_not_set_silences_nothing(alerts):
    refused = alerts("silence", "model=", "--for", "2h", "--reason", "load test")
    assert refused.exit_code != 0
    assert "names no value" in refused.stderr
    assert "no silence" in alerts("silences").stderr


def test_silence_and_its_end(alerts):
    made = alerts("silence", "model=churn", "rule=Model*", "--for", "2h", "--reason", "load test")
    assert made.exit_code == 0, made.output
    assert "model=churn and rule=Model*" in made.stdout
    (name,) = alerts("silences", "--format", "quiet").stdout.split()
    assert f"crossfade alerts unsilence {name}" in made.stderr
    assert alerts("unsilence", name, "--reason", "done").exit_code == 0
    assert "no silence" in alerts("silences").stderr
    assert name in alerts("silences", "--all").stdout


def test_rehearsals(alerts):
    result = alerts("silence", "model=churn", "--for", "90s", "--reason", "x", "--dry-run")
    assert "would tell nobody of alerts with model=churn for 90 s" in result.stdout
    assert "no silence" in alerts("silences").stderr
    assert "would send a test to log" in alerts("test", "--dry-run").stdout


@pytest.mark.parametrize("length", ["", "2", "h", "-2h", "2 h", "2w", "nan", "infh", "1e3s", "٢h"])
def test_lengths_of_time_that_are_none(alerts, length):
    result = alerts("silence", "model=churn", "--for", length, "--reason", "x")
    assert result.exit_code == 2
    assert "no length of time" in result.output


@pytest.mark.parametrize(("length", "seconds"), [("90s", 90), ("1.5h", 5400)])
def test_lengths_of_time(alerts, length, seconds):
    result = alerts("silence", "model=churn", "--for", length, "--reason", "x", "--dry-run")
    assert f"for {seconds} s" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("silence", "--for", "1h", "--reason", "x"), 2),
        (("silence", "model=x", "--for", "1h"), 2),
        (("silence", "model", "--for", "1h", "--reason", "x"), 2),
        (("silence", "model=x", "--for", "31d", "--reason", "x"), 2),
        (("unsilence", "nobody"), 3),
        (("test", "nobody"), 3),
        (("list", "--status", "loud"), 2),
    ],
)
def test_refusals(alerts, arguments, code):
    assert alerts(*arguments).exit_code == code


def test_channels_are_tried(alerts):
    result = alerts("test")
    assert result.exit_code == 0
    assert "log" in result.stdout
    assert "told" in result.stdout


def test_a_channel_that_is_not_told_is_a_failure(alerts):
    rules = '{"ops": {"url": "http://127.0.0.1:1/hook", "secret": "an example of a secret"}}'
    result = alerts("test", CROSSFADE_NOTIFICATIONS__WEBHOOKS=rules)
    assert result.exit_code == 7
    assert "loopback" in result.stdout
    assert "try `ops` again" in result.stderr
    assert alerts("test", "log", CROSSFADE_NOTIFICATIONS__WEBHOOKS=rules).exit_code == 0


def test_an_empty_list_of_what_was_asked_for_does_not_say_that_there_is_nothing(cli):
    for group, narrow in (
        ("rollouts", "--subject"),
        ("experiments", "--model"),
        ("jobs", "--model"),
        ("models", "--prefix"),
    ):
        assert f"no {group} yet" in cli(group, "list").stderr
        assert "nothing matches what was asked for" in cli(group, "list", narrow, "churn").stderr


def test_secrets_of_channels_are_not_shown(cli):
    rules = '{"ops": {"url": "https://hooks.example.com/token-of-the-path", "secret": "an example of a secret"}}'
    for style in ("auto", "json"):
        shown = cli("settings", "show", "--format", style, CROSSFADE_NOTIFICATIONS__WEBHOOKS=rules)
        assert shown.exit_code == 0, shown.output
        assert "ops" in shown.stdout
        assert "token-of-the-path" not in shown.stdout
        assert "an example" not in shown.stdout

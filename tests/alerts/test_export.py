"""The rule file: Prometheus takes it, its metrics exist, and it comes to the same as evaluation in this process."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from crossfade.alerts.catalogue import catalogue
from crossfade.alerts.conditions import FactHolds
from crossfade.alerts.export import bucket, expression, rules_file, span
from crossfade.settings import Settings, SloRules, SloSettings
from tests import servers

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
OWN = Settings(
    slo=SloSettings(models={"a.b": SloRules(availability=0.9, latency_seconds=0.2), "c": SloRules(latency=0.5)})
)


def rules_of(settings):
    groups = yaml.safe_load(rules_file(settings))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("settings", [Settings(), OWN], ids=["default", "own"])
def test_every_rule_is_in_it(settings):
    found = rules_of(settings)
    assert [rule["alert"] for rule in found if "alert" in rule] == [rule.name for rule in catalogue(settings)]
    for rule in found:
        assert rule["expr"]
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"info", "ticket", "page"}
            assert rule["annotations"]["description"]


@pytest.mark.parametrize("settings", [Settings(), OWN], ids=["default", "own"])
def test_every_metric_exists(settings):
    known = set(re.findall(r"^\| `(crossfade_\w+)`", REFERENCE.read_text(), re.MULTILINE))
    found = rules_of(settings)
    recorded = {rule["record"] for rule in found if "record" in rule}
    for rule in found:
        named = set(re.findall(r"crossfade[_:][\w:]+", rule["expr"]))
        assert named
        for name in named - recorded:
            assert name in known or re.sub(r"_(bucket|count|sum)$", "", name) in known, rule


def test_every_label_exists():
    rows = re.findall(r"^\| `(crossfade_\w+)` \| \w+ \| ([^|]*)\|", REFERENCE.read_text(), re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", found)) for name, found in rows}
    for rule in rules_of(OWN):
        for name, inside in re.findall(r"(crossfade_\w+)\{([^}]*)\}", rule["expr"]):
            base = name if name in labels else re.sub(r"_(bucket|count|sum)$", "", name)
            used = set(re.findall(r"(\w+)(?:=|!=|=~|!~)", inside)) - {"le"}
            assert used <= labels[base], (name, used)


def test_models_of_their_own():
    found = {rule["alert"]: rule["expr"] for rule in rules_of(OWN) if "alert" in rule}
    fast = found["ErrorBudgetBurnsFast"]
    assert 'model!~"a\\\\.b|c"} > 0.0144' in fast
    assert 'model="a.b"} > 1.44' in fast
    slow = [rule["expr"] for rule in rules_of(OWN) if rule.get("record") == "crossfade:sli_latency:ratio_rate5m"]
    (parts,) = [each.split(" or ") for each in slow]
    assert ['le="0.1"' in each for each in parts] == [True, False, True]
    assert 'le="0.25"' in parts[1]


@pytest.mark.parametrize(("seconds", "text"), [(300, "5m"), (3600, "1h"), (259_200, "3d"), (90, "90s"), (1800, "30m")])
def test_spans(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "label"), [(0.1, "0.1"), (0.0004, "0.0005"), (1.0, "1.0"), (3.0, "5.0"), (11.0, "+Inf")]
)
def test_buckets(seconds, label):
    assert bucket(seconds) == label


@pytest.fixture
def promtool(tmp_path):
    program = shutil.which("promtool")
    if program is None:
        servers.absent("promtool: Debian's package `prometheus` has it")

    def run(*arguments):
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("settings", [Settings(), OWN], ids=["default", "own"])
def test_prometheus_takes_it(promtool, tmp_path, settings):
    (tmp_path / "rules.yml").write_text(rules_file(settings))
    assert "SUCCESS" in promtool("check", "rules", "rules.yml")


def series(name, values, **labels):
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def requests(model, good, bad, minutes):
    """Counters that grow by so much a minute."""
    return [
        series("crossfade_requests_total", f"0+{good}x{minutes}", model=model, version="1.0.0", code="2xx"),
        series("crossfade_requests_total", f"0+{bad}x{minutes}", model=model, version="1.0.0", code="5xx"),
    ]


def answers(model, fast, slow, minutes):
    name, labels = "crossfade_inference_duration_seconds", {"model": model, "version": "1.0.0", "stage": "total"}
    return [
        series(f"{name}_bucket", f"0+{fast}x{minutes}", le="0.1", **labels),
        series(f"{name}_bucket", f"0+{fast + slow}x{minutes}", le="2.5", **labels),
        series(f"{name}_bucket", f"0+{fast + slow}x{minutes}", le="+Inf", **labels),
        series(f"{name}_count", f"0+{fast + slow}x{minutes}", **labels),
    ]


def test_it_comes_to_the_same_in_prometheus(promtool, tmp_path):
    """Prometheus' own evaluation: what must fire does, and what must not does not."""
    minutes = 70
    data = [
        *requests("well", 1000, 0, minutes),
        *requests("border", 9857, 143, minutes),  # 1.43 %: less than 14.4 times 0.1 %
        *requests("burning", 9800, 200, minutes),  # 2 %: more than that, less than 5 %
        *requests("broken", 900, 100, minutes),
        *requests("quiet", 0, 1, minutes),  # 60 requests an hour are too few to say
        *requests("", 0, 1000, minutes),  # nobody's
        *answers("slow", 900, 100, minutes),
        *answers("well", 1000, 1, minutes),
        *requests("slow", 1000, 0, minutes),
        series("crossfade_snapshot_age_seconds", f"61x{minutes}"),
        series("crossfade_events_dropped_total", f"0x60 1x{minutes - 61}", kind="exposure"),
        series("crossfade_queue_depth", f"101x{minutes}", model="slow", version="1.0.0"),
        series("crossfade_queue_depth", f"100x{minutes}", model="well", version="1.0.0"),
        series("crossfade_slots", f"1x{minutes}", state="failed"),
        series("crossfade_emergency", f"1x{minutes}", model="well"),
        series(
            "crossfade_safety_violations_total",
            f"0x65 1x{minutes - 66}",
            model="well",
            check="a",
            level="critical",
            role="answer",
        ),
        series("crossfade_safety_violations_total", f"0x65 1x{minutes - 66}", model="slow", check="a", level="unsafe"),
        series("crossfade_alerts_firing", f"1x{minutes}", alert="RollbackPerformed", severity="info", model="slow"),
        series("crossfade_alerts_firing", f"0x{minutes}", alert="ConfigurationDrift", severity="ticket", model="well"),
        series("crossfade_cache_lookups_total", f"0+79x{minutes}", model="well", version="1.0.0", result="memory"),
        series("crossfade_cache_lookups_total", f"0+21x{minutes}", model="well", version="1.0.0", result="computed"),
    ]
    page, ticket = "page", "ticket"
    firing = {
        "ErrorBudgetBurnsFast": [("burning", page), ("broken", page)],
        "ModelErrorRateHigh": [("broken", page)],
        "ModelInferenceFailures": [("border", ticket), ("burning", ticket), ("broken", ticket)],
        "ModelInferenceLatencyHigh": [("slow", ticket)],
        "ApiLatencyHigh": [("slow", page)],
        "LatencyBudgetBurnsFast": [],
        "SnapshotOld": [(None, ticket)],
        "SnapshotVeryOld": [],
        "QueueDepthHigh": [("slow", ticket)],
        "ModelLoadFailed": [(None, ticket)],
        "EmergencyModeActive": [("well", page)],
        "SafetyViolationsCritical": [("well", page)],
        "RollbackPerformed": [("slow", "info")],
        "ConfigurationDrift": [],
        "CacheHitRateLow": [("well", ticket)],
        "SpoolNearlyFull": [],
    }
    (tmp_path / "rules.yml").write_text(rules_file(Settings()))
    checks = [
        {
            "eval_time": f"{minutes}m",
            "alertname": name,
            "exp_alerts": [
                {"exp_labels": {"severity": severity} | ({} if model is None else {"model": model})}
                for model, severity in expected
            ],
        }
        for name, expected in firing.items()
    ]
    for check in checks:  # promtool compares annotations, too
        rule = next(each for each in rules_of(Settings()) if each.get("alert") == check["alertname"])
        for alert in check["exp_alerts"]:
            model = alert["exp_labels"].get("model", "")
            summary = re.sub(r"\{\{.*\}\}", model or "Crossfade", rule["annotations"]["summary"])
            alert["exp_annotations"] = {"summary": summary, "description": rule["annotations"]["description"]}
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": data, "alert_rule_test": checks}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    assert "SUCCESS" in promtool("test", "rules", "test.yml")


def test_facts_are_what_the_evaluator_has_found():
    for rule in catalogue(Settings()):
        if isinstance(rule.condition, FactHolds) and rule.condition.shown is None:
            found = expression(rule.condition, Settings(), rule.name)
            assert found == f'max by (model) (crossfade_alerts_firing{{alert="{rule.name}"}}) > 0'

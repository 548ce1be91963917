"""Every verb of the registry is there on every surface: REST, both clients, the command line."""

from collections.abc import Iterator
from inspect import getattr_static, isroutine
from typing import NamedTuple

import click
import pytest

from crossfade.alerts.store import AlertStore
from crossfade.cli.main import main
from crossfade.client import AsyncClient, Client
from crossfade.configs.configs import Configs
from crossfade.experiments.judging import Judge
from crossfade.experiments.store import ExperimentStore
from crossfade.jobs.store import JobStore
from crossfade.registry.registry import Registry
from crossfade.releases.deployment_store import DeploymentStore
from crossfade.releases.store import RolloutStore
from crossfade.safety.store import SafetyStore
from crossfade.traffic.switch import AliasSwitch
from crossfade.web.app import PARTS


def commands_of(group: click.Group, path: str = "") -> Iterator[str]:
    """Yield every command of the command line: `models list`."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        words = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands_of(command, words)
        else:
            yield words


COMMANDS = set(commands_of(main))
ROUTES = {route.name for part in PARTS for route in part.routes.routes}
CLIENTS = (Client, AsyncClient)


class Surfaces(NamedTuple):
    """Where a verb is. `predict` of the data plane is no route of the control plane, so it is not named here."""

    routes: tuple[str, ...]
    client: tuple[str, ...]
    commands: tuple[str, ...]


TABLE = {
    # registering: the steps are routes, so that files are streamed; people register with one verb
    "register": Surfaces(
        ("begin_upload", "put_blob", "publish_version"),
        ("register", "register_draft", "rehearse_draft"),
        ("models register",),
    ),
    "register_ensemble": Surfaces(("register_ensemble",), ("register_ensemble",), ("models ensemble",)),
    "pack_ensemble": Surfaces(("register_ensemble",), ("register_ensemble",), ("models ensemble",)),
    "store_blob": Surfaces(("begin_upload", "put_blob"), ("register_draft",), ("models register",)),
    "release": Surfaces(("publish_version",), ("publish",), ("models register",)),
    "publish": Surfaces(("publish_version",), ("publish",), ("models register",)),
    "propose_version": Surfaces(("propose_version",), ("propose",), ("models register",)),
    # looking
    "resolve": Surfaces(("show_version",), ("version",), ("models show",)),
    "manifest": Surfaces(("show_version",), ("version",), ("models show",)),
    "card": Surfaces(("show_version",), ("version",), ("models show",)),
    "model": Surfaces(("show_model",), ("model",), ("models show",)),
    "list_models": Surfaces(("list_models",), ("models",), ("models list",)),
    "list_versions": Surfaces(("list_versions",), ("versions",), ("models versions",)),
    "history": Surfaces(("list_history", "list_stage_changes"), ("history", "stage_history"), ("models history",)),
    "alias_history": Surfaces(("list_alias_moves",), ("alias_history",), ("models history",)),
    "compare": Surfaces(("compare_versions",), ("compare",), ("models compare",)),
    "check_compatibility": Surfaces(("check_compatibility",), ("check_compatibility",), ("models compatibility",)),
    # moving; rehearsing a rollback says where it would lead
    "transition": Surfaces(("transition_version",), ("transition",), ("models transition",)),
    "move_alias": Surfaces(("move_alias", "remove_alias"), ("move_alias", "remove_alias"), ("models alias",)),
    "previous_version": Surfaces(("roll_back_alias",), ("rollback",), ("models rollback",)),
    "rollback": Surfaces(("roll_back_alias",), ("rollback",), ("models rollback",)),
    "deprecate": Surfaces(("deprecate_version",), ("deprecate",), ("models deprecate",)),
    "delete": Surfaces(("delete_version",), ("delete",), ("models delete",)),
    # content; a model that was loaded is for predicting, which is the data plane's
    "load": Surfaces((), ("load", "predict", "ask"), ("predict",)),
    "verify": Surfaces(("verify_version",), ("verify",), ("models verify",)),
    "open_file": Surfaces(("download_file",), ("file", "download"), ("models download",)),
    "collect_garbage": Surfaces(("collect_garbage",), ("collect_garbage",), ("models gc",)),
}
"""Verb of `Registry` -> where it is on the other surfaces."""

JOBS = {
    "submit": Surfaces(("submit_job",), ("submit_job",), ("jobs submit",)),
    "find": Surfaces(("show_job",), ("job",), ("jobs show", "jobs watch")),
    "list": Surfaces(("list_jobs",), ("jobs",), ("jobs list",)),
    "cancel": Surfaces(("cancel_job",), ("cancel_job",), ("jobs cancel",)),
    "open_result": Surfaces(("download_result",), ("job_result", "download_result"), ("jobs download",)),
}
"""The same for the verbs of `JobStore`."""

EXPERIMENTS = {
    "create": Surfaces(("create_experiment",), ("create_experiment",), ("experiments create",)),
    "amend": Surfaces(("amend_experiment",), ("amend_experiment",), ("experiments amend",)),
    "find": Surfaces(("show_experiment",), ("experiment",), ("experiments show",)),
    "list": Surfaces(("list_experiments",), ("experiments",), ("experiments list",)),
    "history": Surfaces(("experiment_history",), ("experiment_history",), ("experiments history",)),
    "start": Surfaces(("start_experiment",), ("start_experiment",), ("experiments start",)),
    "pause": Surfaces(("pause_experiment",), ("pause_experiment",), ("experiments pause",)),
    "stop": Surfaces(("stop_experiment",), ("stop_experiment",), ("experiments stop",)),
    "reweight": Surfaces(("reweight_experiment",), ("reweight_experiment",), ("experiments reweight",)),
    "conclude": Surfaces(("decide_experiment",), ("decide_experiment",), ("experiments decide",)),
    "create_layer": Surfaces(("create_layer",), ("create_layer",), ("experiments layer",)),
    "layers": Surfaces(("list_layers",), ("layers",), ("experiments layers",)),
}
"""The same for the verbs of `ExperimentStore`; what a bandit learns or keeps a decision back is nobody's to say."""
JUDGING = {
    "decide": Surfaces(("decide_experiment",), ("decide_experiment",), ("experiments decide",)),
    "analyze": Surfaces(("analyze_experiment", "report_experiment"), ("analyze_experiment",), ("experiments analyze",)),
    "export": Surfaces(("export_experiment",), ("export_experiment", "experiment_events"), ("experiments export",)),
}
"""The same for the verbs of `Judge`."""
ROLLOUTS = {
    "create": Surfaces(
        ("create_rollout", "forecast_rollout"), ("create_rollout", "forecast_rollout"), ("rollouts create",)
    ),
    "find": Surfaces(("show_rollout",), ("rollout",), ("rollouts show", "rollouts watch")),
    "list": Surfaces(("list_rollouts",), ("rollouts",), ("rollouts list",)),
    "history": Surfaces(("rollout_history",), ("rollout_history",), ("rollouts history",)),
    "pause": Surfaces(("pause_rollout",), ("pause_rollout",), ("rollouts pause",)),
    "resume": Surfaces(("resume_rollout",), ("resume_rollout",), ("rollouts resume",)),
    "promote": Surfaces(("promote_rollout",), ("promote_rollout",), ("rollouts promote",)),
    "abort": Surfaces(("abort_rollout",), ("abort_rollout",), ("rollouts abort",)),
    "rollback": Surfaces(("roll_back_rollout",), ("roll_back_rollout",), ("rollouts rollback",)),
    "retry": Surfaces(("retry_rollout",), ("retry_rollout",), ("rollouts retry",)),
}
"""The same for the verbs of `RolloutStore`; the controller's are nobody else's."""
DEPLOYMENTS = {
    "deploy": Surfaces(("deploy",), ("deploy",), ("deployments deploy",)),
    "list": Surfaces(("list_deployments",), ("deployments",), ("deployments list",)),
    "find": Surfaces(("show_deployment",), ("deployment",), ("deployments status",)),
    "status": Surfaces(("show_deployment",), ("deployment",), ("deployments status",)),
    "health": Surfaces(("show_deployment_health",), ("deployment_health",), ("deployments health",)),
    "undeploy": Surfaces(("undeploy",), ("undeploy",), ("deployments undeploy",)),
}
"""The same for the verbs of `DeploymentStore`; what follows from a probation is nobody's to say."""
SAFETY = {
    "status": Surfaces(("show_safety",), ("safety_status",), ("safety status",)),
    "policies": Surfaces(("list_safety_policies",), ("safety_policies",), ("safety policy list",)),
    "policy": Surfaces(("show_safety_policy",), ("safety_policy",), ("safety policy show",)),
    "put_policy": Surfaces(("put_safety_policy",), ("put_safety_policy",), ("safety policy set",)),
    "remove_policy": Surfaces(("remove_safety_policy",), ("remove_safety_policy",), ("safety policy remove",)),
    "signature": Surfaces(("try_safety_policy",), ("check_safety",), ("safety check",)),
    "override": Surfaces(("create_override",), ("override_safety",), ("safety override",)),
    "end_override": Surfaces(("end_override",), ("end_override",), ("safety end-override",)),
    "overrides": Surfaces(("list_overrides",), ("overrides",), ("safety overrides",)),
    "violations": Surfaces(("list_violations",), ("violations",), ("safety violations",)),
    "begin_emergency": Surfaces(("begin_emergency",), ("begin_emergency",), ("safety emergency on",)),
    "end_emergency": Surfaces(("end_emergency",), ("end_emergency",), ("safety emergency off",)),
}
"""The same for the verbs of `SafetyStore`."""
CONFIGS = {
    "draft": Surfaces(("draft_config",), ("draft_config",), ("configs draft",)),
    "list": Surfaces(("list_configs",), ("configs",), ("configs list",)),
    "find": Surfaces(("show_config",), ("config_status",), ("configs show",)),
    "version": Surfaces(("show_config_version",), ("config_version",), ("configs show",)),
    "versions": Surfaces(("list_config_versions",), ("config_versions",), ("configs versions",)),
    "validate": Surfaces(("validate_config",), ("validate_config",), ("configs validate",)),
    "diff": Surfaces(("diff_config",), ("config_diff",), ("configs diff",)),
    "impact": Surfaces(("assess_config",), ("config_impact",), ("configs impact",)),
    "approve": Surfaces(("approve_config",), ("approve_config",), ("configs approve",)),
    "activate": Surfaces(("activate_config",), ("activate_config",), ("configs activate",)),
    "deploy": Surfaces(("deploy_config",), ("deploy_config",), ("configs deploy",)),
    "rollback": Surfaces(("roll_back_config",), ("roll_back_config",), ("configs rollback",)),
    "read": Surfaces(("read_config",), ("read_config", "config"), ("configs active",)),
    "drift": Surfaces(("show_config_drift",), ("config_drift",), ("configs drift",)),
}
"""The same for the verbs of `Configs`; reading, drift and impact are beside it."""
ALERTS = {
    "list": Surfaces(("list_alerts",), ("alerts",), ("alerts list",)),
    "rules": Surfaces(("list_alert_rules",), ("alert_rules",), ("alerts rules",)),
    "prometheus_rules": Surfaces(("export_alert_rules",), ("prometheus_rules",), ("alerts rules",)),
    "silence": Surfaces(("create_silence",), ("silence",), ("alerts silence",)),
    "silences": Surfaces(("list_silences",), ("silences",), ("alerts silences",)),
    "end_silence": Surfaces(("end_silence",), ("end_silence",), ("alerts unsilence",)),
    "try_channels": Surfaces(("try_channels",), ("try_channels",), ("alerts test",)),
}
"""The same for the verbs of `AlertStore`."""
TABLES = {
    "models": TABLE,
    "jobs": JOBS,
    "experiments": EXPERIMENTS,
    "judging": JUDGING,
    "rollouts": ROLLOUTS,
    "deployments": DEPLOYMENTS,
    "safety": SAFETY,
    "configs": CONFIGS,
    "alerts": ALERTS,
}
EVERYTHING = {f"{noun} {verb}": row for noun, table in TABLES.items() for verb, row in table.items()}

BEYOND = Surfaces(
    routes=("show_status", "show_cache", "invalidate_answers", "show_bandit", "list_plans"),
    client=("plans", "status", "cache_status", "invalidate_answers", "record_outcomes", "bandit", "send", "close"),
    commands=(
        "cache invalidate",
        "cache show",
        "demo",
        "doctor",
        "experiments assign",
        "experiments bandit",
        "experiments evaluate-policy",
        "experiments power",
        "outcomes record",
        "replay",
        "rollouts plans",
        "serve",
        "settings show",
    ),
)
"""What is about nothing of the above, or needs no platform."""


def verbs_of(kind):
    names = [name for name in dir(kind) if not name.startswith("_")]
    return {name for name in names if not isinstance(getattr_static(kind, name), property)}


def named(surface):
    return {name for row in (*EVERYTHING.values(), BEYOND) for name in getattr(row, surface)}


def test_every_verb_of_the_registry_is_in_the_table():
    assert set(TABLE) == verbs_of(Registry)


def test_every_verb_of_batch_jobs_is_in_the_table():
    assert set(JOBS) == verbs_of(JobStore)


def test_every_verb_of_experiments_is_in_the_table():
    assert set(EXPERIMENTS) == verbs_of(ExperimentStore) - {"champion", "teach", "note"}
    assert set(JUDGING) == verbs_of(Judge)
    assert set(DEPLOYMENTS) == verbs_of(DeploymentStore) - {"status_of", "settle", "give_up"}


def test_every_verb_of_safety_configs_and_alerts_is_in_the_table():
    assert set(SAFETY) == verbs_of(SafetyStore)
    assert set(CONFIGS) == verbs_of(Configs) | {"deploy", "impact", "read", "drift"}
    assert set(ALERTS) == verbs_of(AlertStore) - {"channels"}


def test_every_verb_of_rollouts_is_in_the_table():
    assert set(ROLLOUTS) == verbs_of(RolloutStore) - {"act", "attended", "let_go", "stable"}


def test_every_way_to_move_an_alias_is_a_verb_of_the_registry():
    assert {"move", "remove", "rollback"} <= verbs_of(AliasSwitch)


@pytest.mark.parametrize("verb", EVERYTHING)
def test_a_verb_is_on_every_surface(verb):
    row = EVERYTHING[verb]
    assert set(row.routes) <= ROUTES
    assert set(row.commands) <= COMMANDS
    assert row.client
    assert row.commands
    for kind in CLIENTS:
        for name in row.client:
            method = getattr(kind, name, None)
            assert isroutine(method), f"{kind.__name__} has no `{name}`"
            assert method.__doc__, f"`{kind.__name__}.{name}` is not documented"


def test_no_surface_has_a_verb_that_is_not_in_the_table():
    assert named("routes") == ROUTES
    assert named("commands") == COMMANDS
    for kind in CLIENTS:
        assert named("client") == verbs_of(kind)


def test_the_commands_of_the_table_can_be_run():
    for command in COMMANDS:
        found = main
        for word in command.split():
            found = found.get_command(None, word)
            assert found is not None, command

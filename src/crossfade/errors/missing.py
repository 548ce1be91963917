"""What was named does not exist: HTTP 404."""

from __future__ import annotations

from crossfade.errors.base import CrossfadeError


class NotFoundError(CrossfadeError):
    """What was named does not exist."""

    code = "not_found"
    http_status = 404
    exit_code = 3
    sentence = "`{what}` does not exist"


class ModelNotFoundError(NotFoundError):
    """No model has this name."""

    code = "model_not_found"
    sentence = "model `{name}` is not registered"
    hint_template = "{suggestion}list models with `crossfade models list`"

    def __init__(self, *, name: str, suggestion: str = "") -> None:
        super().__init__(name=name, suggestion=suggestion)


class VersionNotFoundError(NotFoundError):
    """The model exists, this version of it does not."""

    code = "version_not_found"
    sentence = "`{ref}` is not registered"
    hint_template = "{suggestion}list versions with `crossfade models versions {name}`"

    def __init__(self, *, ref: str, name: str, suggestion: str = "") -> None:
        super().__init__(ref=ref, name=name, suggestion=suggestion)


class AliasNotFoundError(NotFoundError):
    """The model has no such alias."""

    code = "alias_not_found"
    sentence = "`{name}` has no alias `{alias}`"
    hint_template = "{suggestion}set it with `crossfade models alias {name} {alias} VERSION`"

    def __init__(self, *, name: str, alias: str, suggestion: str = "") -> None:
        super().__init__(name=name, alias=alias, suggestion=suggestion)


class BlobNotFoundError(NotFoundError):
    """No blob has this digest."""

    code = "blob_not_found"
    sentence = "blob {digest} does not exist"
    hint_template = "check what is stored with `crossfade doctor`"


class JobNotFoundError(NotFoundError):
    """No batch job has this id."""

    code = "job_not_found"
    sentence = "there is no job `{id}`"
    hint_template = "see which there are with `crossfade jobs list`"


class RolloutNotFoundError(NotFoundError):
    """No rollout has this name, and none is of a subject of this name."""

    code = "rollout_not_found"
    sentence = "there is no rollout `{name}`, and none of a model or document of this name"
    hint_template = "list them with `crossfade rollouts list`"


class ExperimentNotFoundError(NotFoundError):
    """No experiment has this name."""

    code = "experiment_not_found"
    sentence = "there is no experiment `{name}`"
    hint_template = "{suggestion}list them with `crossfade experiments list`"

    def __init__(self, *, name: str, suggestion: str = "") -> None:
        super().__init__(name=name, suggestion=suggestion)


class ExperimentOverError(NotFoundError):
    """An experiment has ended, so that nobody takes part any more."""

    code = "experiment_over"
    sentence = "experiment `{name}` is over"
    hint_template = "see what became of it with `crossfade experiments show {name}`"


class SilenceNotFoundError(NotFoundError):
    """No silence has this id."""

    code = "silence_not_found"
    sentence = "there is no silence `{id}`"
    hint_template = "list them with `crossfade alerts silences`"


class ChannelNotFoundError(NotFoundError):
    """No channel of notifications has this name."""

    code = "channel_not_found"
    sentence = "there is no channel `{name}`; there are: {known}"
    hint_template = "add one in the section `notifications` of the settings: `crossfade settings show --sources`"


class SafetyPolicyNotFoundError(NotFoundError):
    """The model has no safety policy."""

    code = "safety_policy_not_found"
    sentence = "`{model}` has no safety policy"
    hint_template = "give it one with `crossfade safety policy set POLICY_FILE`"


class OverrideNotFoundError(NotFoundError):
    """No override has this id."""

    code = "override_not_found"
    sentence = "there is no override `{id}`"
    hint_template = "see which there are with `crossfade safety overrides`"


class NoEmergencyError(NotFoundError):
    """There is no emergency to end."""

    code = "no_emergency"
    sentence = "there is no emergency: {scope}"
    hint_template = "see what is in force with `crossfade safety status`"


class ConfigNotFoundError(NotFoundError):
    """No config has this name."""

    code = "config_not_found"
    sentence = "there is no config `{name}`"
    hint_template = "list them with `crossfade configs list`"


class ConfigVersionNotFoundError(NotFoundError):
    """A config has no version of this number."""

    code = "config_version_not_found"
    sentence = "config `{name}` has no version {number}"
    hint_template = "list them with `crossfade configs versions {name}`"


class NoActiveConfigError(NotFoundError):
    """No version of the config has been activated yet, so there is nothing to read."""

    code = "no_active_config"
    sentence = "no version of config `{name}` is active"
    hint_template = "activate one with `crossfade configs activate {name} NUMBER`"


class DeploymentNotFoundError(NotFoundError):
    """No deployment has this name."""

    code = "deployment_not_found"
    sentence = "there is no deployment `{name}`"
    hint_template = "{suggestion}list them with `crossfade deployments list`"

    def __init__(self, *, name: str, suggestion: str = "") -> None:
        super().__init__(name=name, suggestion=suggestion)

"""It collides with what is there: HTTP 409."""

from __future__ import annotations

from crossfade.errors.base import CrossfadeError


class ConflictError(CrossfadeError):
    """The request collides with what is already there."""

    code = "conflict"
    http_status = 409
    exit_code = 4


class VersionConflictError(ConflictError):
    """The semver is taken by other content."""

    code = "version_conflict"
    sentence = "`{ref}` is already registered with other content"
    hint_template = "a version never changes; register it as `{proposed}`"


class IllegalTransitionError(ConflictError):
    """The stage change is not among the legal transitions."""

    code = "illegal_transition"
    sentence = "`{ref}` cannot go from stage `{source}` to `{target}`"
    hint_template = "legal from `{source}`: {allowed}"


class StillReferencedError(ConflictError):
    """Something still needs what should be deleted."""

    code = "still_referenced"
    sentence = "`{ref}` is still referenced by {references}"
    hint_template = "move the reference away first, see `crossfade models show {ref}`"


class AliasMovedError(ConflictError):
    """Somebody moved the alias since the caller looked."""

    code = "alias_moved"
    sentence = "`{name}@{alias}` points to {actual}, not to {expected}"
    hint_template = "look again with `crossfade models show {name}`"


class NoPreviousVersionError(ConflictError):
    """There is nothing to roll back to."""

    code = "no_previous_version"
    sentence = "`{name}@{alias}` has no earlier version to go back to"
    hint_template = "move it with `crossfade models alias {name} {alias} VERSION`"


class BreakingChangeError(ConflictError):
    """The proposed semver understates the change of the signature."""

    code = "breaking_change"
    sentence = "`{ref}` changes the signature ({changes}), which needs a {required} version"
    hint_template = "register it as `{proposed}`"


class RejectedVersionError(ConflictError):
    """An alias may not point to a version in the stage `rejected`."""

    code = "rejected_version"
    sentence = "`{ref}` is rejected, so `{name}@{alias}` cannot point to it"
    hint_template = "move it to another stage first with `crossfade models transition {ref} STAGE`"


class JobConflictError(ConflictError):
    """The batch job is not what the request takes it for."""

    code = "job_conflict"
    sentence = "job `{id}` {problem}"
    hint_template = "see it with `crossfade jobs show {id}`"


class LayerFullError(ConflictError):
    """A layer has not enough units left for another experiment."""

    code = "layer_full"
    sentence = "layer `{layer}` has {free_percent} % of its units left, and `{experiment}` wants {wanted_percent} %"
    hint_template = "ask for a smaller `share`, stop an experiment of the layer, or use another layer"


class ExperimentConflictError(ConflictError):
    """The experiment is not what the request takes it for."""

    code = "experiment_conflict"
    sentence = "experiment `{name}` {problem}"
    hint_template = "see it with `crossfade experiments show {name}`"


class UncomparedChampionError(ConflictError):
    """An experiment would replace a champion that it has not compared: somebody has moved it meanwhile."""

    code = "uncompared_champion"
    sentence = "the champion of `{model}` is {champion} by now, which experiment `{name}` has not compared"
    hint_template = (
        "compare the two in another experiment, or replace it all the same: "
        "`crossfade experiments decide {name} --ship {variant} --reason WHY`"
    )


class EventsGoneError(ConflictError):
    """Roll-ups cannot be made anew, because raw events were let go of in the meantime."""

    code = "events_gone"
    sentence = "`{experiment}` had {counted} exposures, and {kept} are kept: its roll-ups cannot be made anew"
    hint_template = "declare metrics before an experiment starts, or measure these in a new experiment"


class RolloutConflictError(ConflictError):
    """The rollout is not what the request takes it for, or cannot be."""

    code = "rollout_conflict"
    sentence = "`{name}` {problem}"
    hint_template = "go on with `{see}`"

    def __init__(self, *, name: str, problem: str, see: str = "") -> None:
        super().__init__(name=name, problem=problem, see=see or f"crossfade rollouts show {name}")


class LatchedError(ConflictError):
    """A version was rolled back before, and may not come again without a person's word."""

    code = "latched"
    sentence = "version {version} of `{name}` was rolled back by `{rollout}`: {problem}"
    hint_template = (
        "repair it and release another version; who knows better says {first}"
        "`crossfade rollouts create {name} {version} --kind {kind} --override-latch --reason WHY`, "
        "with a `--plan`"
    )


class ConfigConflictError(ConflictError):
    """The config, or a version of it, is not what the request takes it for."""

    code = "config_conflict"
    sentence = "config `{name}` {problem}"
    hint_template = "go on with `{see}`"

    def __init__(self, *, name: str, problem: str, see: str = "") -> None:
        super().__init__(name=name, problem=problem, see=see or f"crossfade configs show {name}")


class DeploymentConflictError(ConflictError):
    """The deployment is not what the request takes it for."""

    code = "deployment_conflict"
    sentence = "deployment `{name}` {problem}"
    hint_template = "see it with `crossfade deployments status {name}`"


class InsufficientResourcesError(ConflictError):
    """A machine has not got what the replicas of a deployment are to have."""

    code = "insufficient_resources"
    sentence = "deployment `{name}` cannot have its {what}: it needs {wanted}, and {available} are there for it"
    hint_template = "ask for less, for fewer replicas, or for a larger machine; 0 leaves a resource unlimited"

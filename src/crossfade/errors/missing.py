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


class ExperimentNotFoundError(NotFoundError):
    """No experiment has this name."""

    code = "experiment_not_found"
    sentence = "there is no experiment `{name}`"
    hint_template = "{suggestion}list them with `crossfade experiments list`"

    def __init__(self, *, name: str, suggestion: str = "") -> None:
        super().__init__(name=name, suggestion=suggestion)


class DeploymentNotFoundError(NotFoundError):
    """No deployment has this name."""

    code = "deployment_not_found"
    sentence = "there is no deployment `{name}`"
    hint_template = "{suggestion}list them with `crossfade deployments list`"

    def __init__(self, *, name: str, suggestion: str = "") -> None:
        super().__init__(name=name, suggestion=suggestion)

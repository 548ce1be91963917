"""The server's policy forbids it: HTTP 403."""

from __future__ import annotations

from crossfade.errors.base import CrossfadeError


class DeniedError(CrossfadeError):
    """The server's policy forbids it."""

    code = "denied"
    http_status = 403
    exit_code = 5


class CodeNotAllowedError(DeniedError):
    """The format runs code when it is loaded, and the policy does not allow that."""

    code = "code_not_allowed"
    sentence = "{given} runs code when it is loaded, which this server does not allow"
    hint_template = (
        "save it in a safe format (ONNX, skops, native JSON), or trust your publishers with "
        "`CROSSFADE_REGISTRY__ALLOW_CODE_MODELS=true`"
    )


class UntrustedTypesError(DeniedError):
    """A skops file contains types that are not on the server's list."""

    code = "untrusted_types"
    sentence = "the file contains types that this server does not trust: {types}"
    hint_template = "review them, then add them to `CROSSFADE_REGISTRY__TRUSTED_TYPES`"


class HostNotAllowedError(DeniedError):
    """The request names a host that this server does not answer for."""

    code = "host_not_allowed"
    sentence = "this server does not answer for the host `{host}`"
    hint_template = "add the name to `CROSSFADE_HTTP__ALLOWED_HOSTS`"


class OriginNotAllowedError(DeniedError):
    """A page of another site tries to change something."""

    code = "origin_not_allowed"
    sentence = "a page of `{origin}` may not change anything here"
    hint_template = "use `crossfade` or `crossfade.client.Client` instead of a browser"


class RemoteControlError(DeniedError):
    """A caller on another machine wants more than predictions."""

    code = "remote_control"
    sentence = "{caller} may ask for predictions only: all else is answered on the server's own machine"
    hint_template = (
        "run it there, or, where everybody who reaches the server is trusted, start that with "
        "`CROSSFADE_HTTP__ALLOW_REMOTE_CONTROL=true`"
    )


class WebhookRefusedError(DeniedError):
    """A webhook would go where nothing may be sent."""

    code = "webhook_refused"
    sentence = "nothing is sent to `{host}`: {problem}"
    hint_template = "name the host in `CROSSFADE_NOTIFICATIONS__PRIVATE_HOSTS` if it is yours and shall be reached"


class WebhookSignatureError(DeniedError):
    """A webhook that was received is not what it claims to be."""

    code = "webhook_signature"
    sentence = "this webhook is not accepted: {problem}"
    hint_template = "compare the secret with the one in the sender's setting `notifications.webhooks`"


class FourEyesError(DeniedError):
    """Whoever wrote a version of a config wants to approve it, too."""

    code = "four_eyes"
    sentence = "`{principal}` wrote version {number} of config `{name}`, so somebody else has to approve it"
    hint_template = (
        "ask a colleague for `crossfade configs approve {name} {number}`, or, where only one person works, set "
        "`CROSSFADE_CONFIGS__FOUR_EYES=false`"
    )


class UnnamedApproverError(DeniedError):
    """Nobody knows who wants to approve a version of a config, so it may be whoever wrote it."""

    code = "unnamed_approver"
    sentence = "nobody is named who approves version {number} of config `{name}`, and its author may not"
    hint_template = (
        "say who you are: the header `X-Principal`, or `Client(principal=...)`; the command line gives the name of the "
        "user, which the environment variable `LOGNAME` overrules"
    )

"""What was sent cannot be used: HTTP 422."""

from __future__ import annotations

from crossfade.errors.base import CrossfadeError


class InvalidInputError(CrossfadeError):
    """What was sent cannot be used as it is."""

    code = "invalid_input"
    http_status = 422
    exit_code = 2


class InvalidNameError(InvalidInputError):
    """A model or alias name is not a lower-case slug."""

    code = "invalid_name"
    sentence = "`{name}` is not a valid {kind} name"
    hint_template = "use 1 to 64 of a-z, 0-9, `_`, `-`, `.`, starting with a letter or digit"


class InvalidRefError(InvalidInputError):
    """A model reference cannot be parsed."""

    code = "invalid_ref"
    sentence = "`{ref}` is not a model reference"
    hint_template = "write `name`, `name:1.2.0` or `name@alias`"


class InvalidSemverError(InvalidInputError):
    """A version is not a semantic version."""

    code = "invalid_semver"
    sentence = "`{version}` is not a semantic version"
    hint_template = "write MAJOR.MINOR.PATCH, for example `1.4.0`"


class InvalidPathError(InvalidInputError):
    """A file name inside a version is not an acceptable label."""

    code = "invalid_path"
    sentence = "`{path}` is not allowed as a file name inside a version"
    hint_template = "use letters, digits, `.`, `_`, `-` and `/`, at most 8 levels, no `..`"


class SettingsError(InvalidInputError):
    """A setting is unknown or has a value that cannot be used."""

    code = "invalid_settings"
    sentence = "setting `{field}`: {problem}"
    hint_template = "see every setting and where it comes from with `crossfade settings show --sources`"


class MalformedRequestError(InvalidInputError):
    """The body is not what the protocol describes."""

    code = "malformed_request"
    sentence = "the request cannot be read: {problem}"
    hint_template = "see the shape of a request with `{see}`"

    def __init__(self, *, problem: str, see: str = "crossfade models show MODEL") -> None:
        super().__init__(problem=problem, see=see)


class SignatureMismatchError(InvalidInputError):
    """An input, or an output that is asked for, does not fit the version's signature."""

    code = "signature_mismatch"
    sentence = "{what} `{field}`: expected {expected}, got {given}"
    hint_template = "see the signature with `crossfade models show {ref}`"

    def __init__(self, *, field: str, expected: str, given: str, ref: str = "MODEL", what: str = "input") -> None:
        super().__init__(field=field, expected=expected, given=given, ref=ref, what=what)


class ManifestError(InvalidInputError):
    """A manifest is incomplete or inconsistent."""

    code = "invalid_manifest"
    sentence = "the manifest of `{ref}` cannot be accepted: {problem}"
    hint_template = "let `crossfade models register` build the manifest"


class UnknownFlavorError(InvalidInputError):
    """No flavor recognises the model object or file."""

    code = "unknown_flavor"
    sentence = "no flavor recognises {given}"
    hint_template = "name it, for example `--flavor onnx`; supported: {supported}"


class SignatureRequiredError(InvalidInputError):
    """The signature can neither be read from the model nor inferred."""

    code = "signature_required"
    sentence = "the signature of `{name}` is unknown"
    hint_template = "pass example data, for example `--example rows.csv`, or a signature"


class InvalidEnsembleError(InvalidInputError):
    """Versions cannot be put together as it was asked for."""

    code = "invalid_ensemble"
    sentence = "this ensemble cannot be: {problem}"
    hint_template = "see what is possible with `crossfade models ensemble --help`"


class InvalidAllocationError(InvalidInputError):
    """Units cannot be allocated to variants as it was asked for."""

    code = "invalid_allocation"
    sentence = "allocation `{name}`: {problem}"
    hint_template = "see an example with `crossfade experiments create --help`"


class InvalidLayerError(InvalidAllocationError):
    """A layer cannot be, or there is none of this name."""

    code = "invalid_layer"
    sentence = "layer `{name}`: {problem}"
    hint_template = (
        "see all with `crossfade experiments layers`, or how to make one with `crossfade experiments layer --help`"
    )


class InvalidExperimentError(InvalidInputError):
    """An experiment cannot be as it is specified."""

    code = "invalid_experiment"
    sentence = "experiment `{name}` cannot be: {problem}"
    hint_template = "see an example with `crossfade experiments create --help`"


class InvalidSegmentError(InvalidInputError):
    """The condition of a segment cannot be used, or is not safe to ask of every request."""

    code = "invalid_segment"
    sentence = "segment, at `{path}`: {problem}"
    hint_template = "try it: `crossfade experiments assign SPEC.json --unit SOMEBODY --context JSON`"


class UnknownHashError(InvalidInputError):
    """An allocation was made with a hash that this release does not know."""

    code = "unknown_hash"
    sentence = "units were assigned by the hash `{hash}`, which this release does not know"
    hint_template = "use a release that knows it, or begin anew with `{known}`: every unit is then drawn again"


class InvalidAnalysisError(InvalidInputError):
    """Nothing can be computed from what was asked for, such as the analysis of an experiment."""

    code = "invalid_analysis"
    sentence = "this cannot be computed: {problem}"
    hint_template = "see an example with `crossfade experiments create --help`"


class InvalidParametersError(InvalidAnalysisError):
    """Numbers or parameters of a statistical method are ones that nothing can be computed from."""

    code = "invalid_parameters"
    hint_template = "see what is expected with `crossfade experiments power --help`"


class InvalidPolicyError(InvalidInputError):
    """A bandit policy cannot be made, changed or read as it was asked for."""

    code = "invalid_policy"
    sentence = "this policy cannot be: {problem}"
    hint_template = "see what a policy on a log would do with `crossfade experiments evaluate-policy --help`"


class InvalidContextError(InvalidInputError):
    """The context of a request lacks a declared feature, or holds one that is no usable number."""

    code = "invalid_context"
    sentence = "feature `{feature}`: {problem}"
    hint_template = "send a number of about the size of 1, or give the feature a `default` in the policy"


class InvalidDecisionLogError(InvalidInputError):
    """Logged decisions and their rewards are ones that nothing can be learned from."""

    code = "invalid_decision_log"
    sentence = "the log of decisions cannot be used: {problem}"
    hint_template = "see what it has to hold with `crossfade experiments evaluate-policy --help`"


class InvalidMetricError(InvalidInputError):
    """A metric of an experiment makes no sense, or cannot be measured."""

    code = "invalid_metric"
    sentence = "metric `{name}`: {problem}"
    hint_template = "see what a metric may be with `python -m pydoc crossfade.ledger.metrics`"


class InvalidMeasuresError(InvalidInputError):
    """What is to be measured of an experiment makes no sense as a whole."""

    code = "invalid_measures"
    sentence = "`{experiment}` cannot be measured so: {problem}"
    hint_template = "see what can be measured with `python -m pydoc crossfade.ledger.metrics`"


class PredictionError(InvalidInputError):
    """The model itself failed on inputs that fit its signature, which is a failure of the version, not of who asked."""

    code = "prediction_failed"
    http_status = 500
    sentence = "`{ref}` failed on this input: {problem}"
    hint_template = "try the golden requests with `crossfade models verify {ref}`"


class RefusedInputError(InvalidInputError):
    """A request has ended the process of the model before, and more than once."""

    code = "refused_input"
    sentence = "`{ref}` is not asked this again: the request has ended its process {times} times"
    hint_template = "change the inputs, or find out with `crossfade predict` why they end it; forgotten in {seconds} s"


class InvalidPageError(InvalidInputError):
    """A page of a list was asked for in a way that cannot be answered."""

    code = "invalid_page"
    sentence = "this page cannot be listed: {problem}"
    hint_template = "take `cursor` from the page before, or leave it out; `limit` is 1 to 1000"


class InvalidJobError(InvalidInputError):
    """A batch job cannot be accepted as it was asked for."""

    code = "invalid_job"
    sentence = "the job cannot be accepted: {problem}"
    hint_template = "see what a job may say with `crossfade jobs submit --help`"


class InvalidPlanError(InvalidInputError):
    """A rollout cannot be planned like this."""

    code = "invalid_plan"
    sentence = "the rollout cannot be planned like this: {problem}"
    hint_template = "see plans with `crossfade rollouts plans`"


class InvalidWindowError(InvalidInputError):
    """A window is longer than what is kept, or empty."""

    code = "invalid_window"
    sentence = "nothing can be said about the last {seconds} seconds"
    hint_template = "ask for more than 0 and at most {longest} seconds"


class BodyTooLargeError(InvalidInputError):
    """A body or what it unpacks to is larger than the limit."""

    code = "body_too_large"
    http_status = 413
    sentence = "the body is larger than {limit_bytes} bytes"
    hint_template = "send fewer rows at once, or raise `CROSSFADE_HTTP__MAX_BODY_BYTES`"


class BodyTooSlowError(InvalidInputError):
    """A body did not arrive in time."""

    code = "body_too_slow"
    http_status = 408
    sentence = "the body did not arrive within {limit_seconds} seconds"
    hint_template = "send the body faster, or raise `CROSSFADE_HTTP__BODY_TIMEOUT_SECONDS`"


class UploadTooSlowError(InvalidInputError):
    """A file arrived so slowly that it would have kept others from uploading."""

    code = "upload_too_slow"
    http_status = 408
    sentence = "the upload arrives slower than {limit_bytes} bytes a second"
    hint_template = (
        "send the file again over a faster connection, or register on the server with `crossfade models register`"
    )


class ModelNotNamedError(InvalidInputError):
    """A request names no model, and there is not exactly one."""

    code = "model_not_named"
    sentence = "the request names no model, and {count} are served here"
    hint_template = "ask `/models/NAME/invocations`, or set `CROSSFADE_HTTP__INVOCATIONS_MODEL`"


class UnsupportedMediaTypeError(InvalidInputError):
    """A body is in a format that this route does not read."""

    code = "unsupported_media_type"
    http_status = 415
    sentence = "a body of `{given}` cannot be read here"
    hint_template = "send one of {supported}"


class NotAcceptableError(InvalidInputError):
    """An answer cannot be written in the format that was asked for."""

    code = "not_acceptable"
    http_status = 406
    sentence = "the answer cannot be written as `{wanted}`: {problem}"
    hint_template = "leave out the `Accept` header to get JSON"


class InvalidOutcomesError(InvalidInputError):
    """A batch of outcomes cannot be recorded; none of it was."""

    code = "invalid_outcomes"
    sentence = "outcome {index} of the batch cannot be recorded: {problem}"
    hint_template = "nothing of the batch was recorded: send it again without that one, or with it corrected"


class InvalidOutcomesFileError(InvalidInputError):
    """A row of a file of outcomes cannot be recorded; those before it may have been, as they are sent in batches."""

    code = "invalid_outcomes_file"
    sentence = "row {row} of `{file}` cannot be recorded: {problem}; {recorded}"
    hint_template = "correct it, and record the whole file again: an id counts once, so nothing is counted twice"


class TooManyOutcomesError(InvalidInputError):
    """A batch has more outcomes than are recorded at a time."""

    code = "too_many_outcomes"
    sentence = "{count} outcomes in one batch; there may be {limit}"
    hint_template = "send several batches"


class InvalidSilenceError(InvalidInputError):
    """A silence cannot be as it was asked for."""

    code = "invalid_silence"
    sentence = "this silence cannot be: {problem}"
    hint_template = "for example `crossfade alerts silence model=churn --for 2h --reason 'planned load test'`"


class InvalidQueryError(InvalidInputError):
    """A question to Prometheus cannot be asked, or has an answer of another kind than numbers of one moment."""

    code = "invalid_query"
    sentence = "this query cannot be used: {problem}"
    hint_template = "ask for an instant vector or a scalar, such as `sum(rate(crossfade_requests_total[5m]))`"


class InvalidSafetyPolicyError(InvalidInputError):
    """A safety policy, or an expression in it, cannot be used."""

    code = "invalid_safety_policy"
    sentence = "the safety policy cannot be used: {problem}"
    hint_template = "try it on answers of your own with `crossfade safety check --help`"


class InvalidOverrideError(InvalidInputError):
    """A check cannot be turned off like that."""

    code = "invalid_override"
    sentence = "the check of `{model}` cannot be turned off: {problem}"
    hint_template = "see the checks with `crossfade safety policy show {model}`"


class ReasonRequiredError(InvalidInputError):
    """Somebody has to say why."""

    code = "reason_required"
    sentence = "{what} needs a reason"
    hint_template = "say why with `--reason`"


class InvalidConfigError(InvalidInputError):
    """A document of a config, or what documents of it have to be, cannot be used."""

    code = "invalid_config"
    sentence = "config `{name}` cannot be: {problem}"
    hint_template = "see an example with `crossfade configs draft --help`"


class InvalidDeploymentError(InvalidInputError):
    """A deployment makes no sense, or cannot be as it is asked for."""

    code = "invalid_deployment"
    sentence = "deployment `{name}` cannot be: {problem}"
    hint_template = "see what one may be with `crossfade deployments deploy --help`"

"""Every error that Crossfade raises on purpose.

```
CrossfadeError
├── InvalidInputError      422 / exit 2   what was sent cannot be used
│   ├── InvalidNameError, InvalidRefError, InvalidSemverError, InvalidPathError, SettingsError
│   ├── MalformedRequestError, SignatureMismatchError, ManifestError, UnknownFlavorError
│   ├── SignatureRequiredError, PredictionError, InvalidPageError, RefusedInputError, ModelNotNamedError
│   ├── BodyTooLargeError (413), BodyTooSlowError (408), UploadTooSlowError (408)
│   ├── UnsupportedMediaTypeError (415), NotAcceptableError (406), InvalidEnsembleError
│   ├── InvalidAllocationError (InvalidLayerError), InvalidSegmentError, UnknownHashError, InvalidExperimentError
│   ├── InvalidAnalysisError (InvalidParametersError), InvalidOutcomesError, TooManyOutcomesError, InvalidMetricError
│   ├── InvalidMeasuresError, InvalidPolicyError, InvalidContextError, InvalidDecisionLogError
│   ├── InvalidWindowError, InvalidPlanError, InvalidSilenceError, InvalidQueryError, InvalidSafetyPolicyError
│   ├── InvalidOverrideError, ReasonRequiredError, InvalidConfigError, InvalidDeploymentError, InvalidJobError
│   ├── InvalidOutcomesFileError
├── NotFoundError          404 / exit 3   what was named does not exist
│   ├── ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, BlobNotFoundError, JobNotFoundError
│   ├── ExperimentNotFoundError, ExperimentOverError, RolloutNotFoundError, SilenceNotFoundError, ChannelNotFoundError
│   ├── SafetyPolicyNotFoundError, OverrideNotFoundError, NoEmergencyError, ConfigNotFoundError
│   ├── ConfigVersionNotFoundError, NoActiveConfigError, DeploymentNotFoundError
├── ConflictError          409 / exit 4   it collides with what is there
│   ├── VersionConflictError, IllegalTransitionError, StillReferencedError, AliasMovedError
│   ├── NoPreviousVersionError, BreakingChangeError, RejectedVersionError, JobConflictError, LayerFullError
│   ├── ExperimentConflictError, EventsGoneError, RolloutConflictError, LatchedError, ConfigConflictError
│   ├── DeploymentConflictError, InsufficientResourcesError, UncomparedChampionError
├── DeniedError            403 / exit 5   the server's policy forbids it
│   ├── CodeNotAllowedError, UntrustedTypesError, HostNotAllowedError, OriginNotAllowedError
│   ├── RemoteControlError, WebhookRefusedError, WebhookSignatureError, FourEyesError
│   ├── UnnamedApproverError
├── UnsafeError            412 / exit 6   it was checked and found unfit
│   ├── CorruptBlobError, GoldenMismatchError, LoadFailedError, NotReadyError, CorruptAuditError
│   ├── UnsafeAnswerError, UnfitConfigError
└── UnavailableError       503 / exit 7   try again, or repair what it names
    ├── DatabaseUnavailableError (DatabaseLostError, DatabaseDamagedError, DatabaseMovedError)
    ├── BlobsUnavailableError, CacheUnavailableError, ServerUnreachableError
    ├── LedgerUnavailableError, NotificationFailedError, PrometheusUnavailableError, NotServedError
    ├── LatchUnwritableError
    ├── DrainingError, MissingExtraError, StorageFullError (507), OverloadedError, DeadlineExceededError (504)
    ├── ModelCrashedError (500), MemberSlowError, BodiesBusyError, UploadsBusyError, QuotaExceededError (429)
    ├── EmergencyError, ConfigBoardUnavailableError, BatchRestsError
```

A constructor takes *facts* by keyword, never text: the class holds the sentence and the hint as templates, so that the
Python exception, the problem+json body and the command line always say the same. Facts travel in the problem body too.

Example:
    >>> str(VersionNotFoundError(ref="churn:2.1.1", name="churn"))
    '`churn:2.1.1` is not registered'
"""

from __future__ import annotations

from crossfade.errors.base import CrossfadeError
from crossfade.errors.conflict import (
    AliasMovedError,
    BreakingChangeError,
    ConfigConflictError,
    ConflictError,
    DeploymentConflictError,
    EventsGoneError,
    ExperimentConflictError,
    IllegalTransitionError,
    InsufficientResourcesError,
    JobConflictError,
    LatchedError,
    LayerFullError,
    NoPreviousVersionError,
    RejectedVersionError,
    RolloutConflictError,
    StillReferencedError,
    UncomparedChampionError,
    VersionConflictError,
)
from crossfade.errors.denied import (
    CodeNotAllowedError,
    DeniedError,
    FourEyesError,
    HostNotAllowedError,
    OriginNotAllowedError,
    RemoteControlError,
    UnnamedApproverError,
    UntrustedTypesError,
    WebhookRefusedError,
    WebhookSignatureError,
)
from crossfade.errors.invalid import (
    BodyTooLargeError,
    BodyTooSlowError,
    InvalidAllocationError,
    InvalidAnalysisError,
    InvalidConfigError,
    InvalidContextError,
    InvalidDecisionLogError,
    InvalidDeploymentError,
    InvalidEnsembleError,
    InvalidExperimentError,
    InvalidInputError,
    InvalidJobError,
    InvalidLayerError,
    InvalidMeasuresError,
    InvalidMetricError,
    InvalidNameError,
    InvalidOutcomesError,
    InvalidOutcomesFileError,
    InvalidOverrideError,
    InvalidPageError,
    InvalidParametersError,
    InvalidPathError,
    InvalidPlanError,
    InvalidPolicyError,
    InvalidQueryError,
    InvalidRefError,
    InvalidSafetyPolicyError,
    InvalidSegmentError,
    InvalidSemverError,
    InvalidSilenceError,
    InvalidWindowError,
    MalformedRequestError,
    ManifestError,
    ModelNotNamedError,
    NotAcceptableError,
    PredictionError,
    ReasonRequiredError,
    RefusedInputError,
    SettingsError,
    SignatureMismatchError,
    SignatureRequiredError,
    TooManyOutcomesError,
    UnknownFlavorError,
    UnknownHashError,
    UnsupportedMediaTypeError,
    UploadTooSlowError,
)
from crossfade.errors.missing import (
    AliasNotFoundError,
    BlobNotFoundError,
    ChannelNotFoundError,
    ConfigNotFoundError,
    ConfigVersionNotFoundError,
    DeploymentNotFoundError,
    ExperimentNotFoundError,
    ExperimentOverError,
    JobNotFoundError,
    ModelNotFoundError,
    NoActiveConfigError,
    NoEmergencyError,
    NotFoundError,
    OverrideNotFoundError,
    RolloutNotFoundError,
    SafetyPolicyNotFoundError,
    SilenceNotFoundError,
    VersionNotFoundError,
)
from crossfade.errors.unavailable import (
    BatchRestsError,
    BlobsUnavailableError,
    BodiesBusyError,
    CacheUnavailableError,
    ConfigBoardUnavailableError,
    DatabaseDamagedError,
    DatabaseLostError,
    DatabaseMovedError,
    DatabaseUnavailableError,
    DeadlineExceededError,
    DrainingError,
    EmergencyError,
    LatchUnwritableError,
    LedgerUnavailableError,
    MemberSlowError,
    MissingExtraError,
    ModelCrashedError,
    NotificationFailedError,
    NotServedError,
    OverloadedError,
    PrometheusUnavailableError,
    QuotaExceededError,
    ServerUnreachableError,
    StorageFullError,
    UnavailableError,
    UploadsBusyError,
)
from crossfade.errors.unsafe import (
    CorruptAuditError,
    CorruptBlobError,
    GoldenMismatchError,
    LoadFailedError,
    NotReadyError,
    UnfitConfigError,
    UnsafeAnswerError,
    UnsafeError,
)

__all__ = [
    "AliasMovedError",
    "AliasNotFoundError",
    "BatchRestsError",
    "BlobNotFoundError",
    "BlobsUnavailableError",
    "BodiesBusyError",
    "BodyTooLargeError",
    "BodyTooSlowError",
    "BreakingChangeError",
    "CacheUnavailableError",
    "ChannelNotFoundError",
    "CodeNotAllowedError",
    "ConfigBoardUnavailableError",
    "ConfigConflictError",
    "ConfigNotFoundError",
    "ConfigVersionNotFoundError",
    "ConflictError",
    "CorruptAuditError",
    "CorruptBlobError",
    "CrossfadeError",
    "DatabaseDamagedError",
    "DatabaseLostError",
    "DatabaseMovedError",
    "DatabaseUnavailableError",
    "DeadlineExceededError",
    "DeniedError",
    "DeploymentConflictError",
    "DeploymentNotFoundError",
    "DrainingError",
    "EmergencyError",
    "EventsGoneError",
    "ExperimentConflictError",
    "ExperimentNotFoundError",
    "ExperimentOverError",
    "FourEyesError",
    "GoldenMismatchError",
    "HostNotAllowedError",
    "IllegalTransitionError",
    "InsufficientResourcesError",
    "InvalidAllocationError",
    "InvalidAnalysisError",
    "InvalidConfigError",
    "InvalidContextError",
    "InvalidDecisionLogError",
    "InvalidDeploymentError",
    "InvalidEnsembleError",
    "InvalidExperimentError",
    "InvalidInputError",
    "InvalidJobError",
    "InvalidLayerError",
    "InvalidMeasuresError",
    "InvalidMetricError",
    "InvalidNameError",
    "InvalidOutcomesError",
    "InvalidOutcomesFileError",
    "InvalidOverrideError",
    "InvalidPageError",
    "InvalidParametersError",
    "InvalidPathError",
    "InvalidPlanError",
    "InvalidPolicyError",
    "InvalidQueryError",
    "InvalidRefError",
    "InvalidSafetyPolicyError",
    "InvalidSegmentError",
    "InvalidSemverError",
    "InvalidSilenceError",
    "InvalidWindowError",
    "JobConflictError",
    "JobNotFoundError",
    "LatchUnwritableError",
    "LatchedError",
    "LayerFullError",
    "LedgerUnavailableError",
    "LoadFailedError",
    "MalformedRequestError",
    "ManifestError",
    "MemberSlowError",
    "MissingExtraError",
    "ModelCrashedError",
    "ModelNotFoundError",
    "ModelNotNamedError",
    "NoActiveConfigError",
    "NoEmergencyError",
    "NoPreviousVersionError",
    "NotAcceptableError",
    "NotFoundError",
    "NotReadyError",
    "NotServedError",
    "NotificationFailedError",
    "OriginNotAllowedError",
    "OverloadedError",
    "OverrideNotFoundError",
    "PredictionError",
    "PrometheusUnavailableError",
    "QuotaExceededError",
    "ReasonRequiredError",
    "RefusedInputError",
    "RejectedVersionError",
    "RemoteControlError",
    "RolloutConflictError",
    "RolloutNotFoundError",
    "SafetyPolicyNotFoundError",
    "ServerUnreachableError",
    "SettingsError",
    "SignatureMismatchError",
    "SignatureRequiredError",
    "SilenceNotFoundError",
    "StillReferencedError",
    "StorageFullError",
    "TooManyOutcomesError",
    "UnavailableError",
    "UncomparedChampionError",
    "UnfitConfigError",
    "UnknownFlavorError",
    "UnknownHashError",
    "UnnamedApproverError",
    "UnsafeAnswerError",
    "UnsafeError",
    "UnsupportedMediaTypeError",
    "UntrustedTypesError",
    "UploadTooSlowError",
    "UploadsBusyError",
    "VersionConflictError",
    "VersionNotFoundError",
    "WebhookRefusedError",
    "WebhookSignatureError",
]

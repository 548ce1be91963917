"""Every error that Crossfade raises on purpose.

```
CrossfadeError
├── InvalidInputError      422 / exit 2   what was sent cannot be used
│   ├── InvalidNameError, InvalidRefError, InvalidSemverError, InvalidPathError
│   ├── SettingsError, MalformedRequestError, SignatureMismatchError, ManifestError
│   ├── UnknownFlavorError, SignatureRequiredError, PredictionError, InvalidPageError
│   ├── RefusedInputError
│   ├── ModelNotNamedError, BodyTooLargeError (413), BodyTooSlowError (408), UploadTooSlowError (408)
│   ├── UnsupportedMediaTypeError (415), NotAcceptableError (406), InvalidEnsembleError
│   ├── InvalidAllocationError, InvalidSegmentError, UnknownHashError, InvalidExperimentError
│   ├── InvalidAnalysisError, InvalidOutcomesError, TooManyOutcomesError, InvalidMetricError
│   ├── InvalidMeasuresError, InvalidPolicyError, InvalidContextError, InvalidDecisionLogError
│   ├── InvalidWindowError, InvalidPlanError
│   ├── InvalidDeploymentError
├── NotFoundError          404 / exit 3   what was named does not exist
│   ├── ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, BlobNotFoundError, JobNotFoundError
│   ├── ExperimentNotFoundError, DeploymentNotFoundError
├── ConflictError          409 / exit 4   it collides with what is there
│   ├── VersionConflictError, IllegalTransitionError, StillReferencedError
│   ├── AliasMovedError, NoPreviousVersionError, BreakingChangeError, RejectedVersionError
│   ├── JobConflictError, LayerFullError, ExperimentConflictError, EventsGoneError
│   ├── DeploymentConflictError, InsufficientResourcesError
├── DeniedError            403 / exit 5   the server's policy forbids it
│   ├── CodeNotAllowedError, UntrustedTypesError, HostNotAllowedError, OriginNotAllowedError
│   ├── RemoteControlError
├── UnsafeError            412 / exit 6   it was checked and found unfit
│   ├── CorruptBlobError, GoldenMismatchError, LoadFailedError, NotReadyError, CorruptAuditError
└── UnavailableError       503 / exit 7   try again, or repair what it names
    ├── DatabaseUnavailableError, BlobsUnavailableError, CacheUnavailableError, ServerUnreachableError
    ├── LedgerUnavailableError
    ├── NotServedError, DrainingError, MissingExtraError, StorageFullError (507)
    ├── OverloadedError, DeadlineExceededError (504), ModelCrashedError (500), MemberSlowError
    ├── BodiesBusyError, UploadsBusyError, QuotaExceededError (429)
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
    ConflictError,
    DeploymentConflictError,
    EventsGoneError,
    ExperimentConflictError,
    IllegalTransitionError,
    InsufficientResourcesError,
    JobConflictError,
    LayerFullError,
    NoPreviousVersionError,
    RejectedVersionError,
    StillReferencedError,
    VersionConflictError,
)
from crossfade.errors.denied import (
    CodeNotAllowedError,
    DeniedError,
    HostNotAllowedError,
    OriginNotAllowedError,
    RemoteControlError,
    UntrustedTypesError,
)
from crossfade.errors.invalid import (
    BodyTooLargeError,
    BodyTooSlowError,
    InvalidAllocationError,
    InvalidAnalysisError,
    InvalidContextError,
    InvalidDecisionLogError,
    InvalidDeploymentError,
    InvalidEnsembleError,
    InvalidExperimentError,
    InvalidInputError,
    InvalidMeasuresError,
    InvalidMetricError,
    InvalidNameError,
    InvalidOutcomesError,
    InvalidPageError,
    InvalidPathError,
    InvalidPolicyError,
    InvalidRefError,
    InvalidSegmentError,
    InvalidSemverError,
    InvalidWindowError,
    MalformedRequestError,
    ManifestError,
    ModelNotNamedError,
    NotAcceptableError,
    PredictionError,
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
    DeploymentNotFoundError,
    ExperimentNotFoundError,
    JobNotFoundError,
    ModelNotFoundError,
    NotFoundError,
    VersionNotFoundError,
)
from crossfade.errors.unavailable import (
    BlobsUnavailableError,
    BodiesBusyError,
    CacheUnavailableError,
    DatabaseUnavailableError,
    DeadlineExceededError,
    DrainingError,
    LedgerUnavailableError,
    MemberSlowError,
    MissingExtraError,
    ModelCrashedError,
    NotServedError,
    OverloadedError,
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
    UnsafeError,
)

__all__ = [
    "AliasMovedError",
    "AliasNotFoundError",
    "BlobNotFoundError",
    "BlobsUnavailableError",
    "BodiesBusyError",
    "BodyTooLargeError",
    "BodyTooSlowError",
    "BreakingChangeError",
    "CacheUnavailableError",
    "CodeNotAllowedError",
    "ConflictError",
    "CorruptAuditError",
    "CorruptBlobError",
    "CrossfadeError",
    "DatabaseUnavailableError",
    "DeadlineExceededError",
    "DeniedError",
    "DeploymentConflictError",
    "DeploymentNotFoundError",
    "DrainingError",
    "EventsGoneError",
    "ExperimentConflictError",
    "ExperimentNotFoundError",
    "GoldenMismatchError",
    "HostNotAllowedError",
    "IllegalTransitionError",
    "InsufficientResourcesError",
    "InvalidAllocationError",
    "InvalidAnalysisError",
    "InvalidContextError",
    "InvalidDecisionLogError",
    "InvalidDeploymentError",
    "InvalidEnsembleError",
    "InvalidExperimentError",
    "InvalidInputError",
    "InvalidMeasuresError",
    "InvalidMetricError",
    "InvalidNameError",
    "InvalidOutcomesError",
    "InvalidPageError",
    "InvalidPathError",
    "InvalidPolicyError",
    "InvalidRefError",
    "InvalidSegmentError",
    "InvalidSemverError",
    "InvalidWindowError",
    "JobConflictError",
    "JobNotFoundError",
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
    "NoPreviousVersionError",
    "NotAcceptableError",
    "NotFoundError",
    "NotReadyError",
    "NotServedError",
    "OriginNotAllowedError",
    "OverloadedError",
    "PredictionError",
    "QuotaExceededError",
    "RefusedInputError",
    "RejectedVersionError",
    "RemoteControlError",
    "ServerUnreachableError",
    "SettingsError",
    "SignatureMismatchError",
    "SignatureRequiredError",
    "StillReferencedError",
    "StorageFullError",
    "TooManyOutcomesError",
    "UnavailableError",
    "UnknownFlavorError",
    "UnknownHashError",
    "UnsafeError",
    "UnsupportedMediaTypeError",
    "UntrustedTypesError",
    "UploadTooSlowError",
    "UploadsBusyError",
    "VersionConflictError",
    "VersionNotFoundError",
]

"""It was checked and found unfit: HTTP 412."""

from __future__ import annotations

from crossfade.errors.base import CrossfadeError


class UnsafeError(CrossfadeError):
    """It was checked and found unfit."""

    code = "unsafe"
    http_status = 412
    exit_code = 6


class CorruptBlobError(UnsafeError):
    """Stored bytes are missing or differ from their digest."""

    code = "corrupt_blob"
    sentence = "blob {digest} ({path} of `{ref}`) is {damage}"
    hint_template = "register the version again with the same content, which restores the blob"


class GoldenMismatchError(UnsafeError):
    """The loaded version does not give the answers stored with it."""

    code = "golden_mismatch"
    sentence = "`{ref}` gives other answers than its golden requests: output `{output}` differs by {difference}"
    hint_template = "compare with `crossfade models verify {ref}`"


class LoadFailedError(UnsafeError):
    """The version cannot be loaded here."""

    code = "load_failed"
    sentence = "`{ref}` cannot be loaded: {problem}"
    hint_template = "try it with `crossfade models verify {ref}`"


class NotReadyError(UnsafeError):
    """A version was refused because it did not become ready in every process."""

    code = "not_ready"
    sentence = "`{ref}` did not become ready, so `{name}@{alias}` was not moved: {problem}"
    hint_template = "see why with `crossfade models verify {ref}`"


class CorruptAuditError(UnsafeError):
    """The audit log was changed by somebody other than Crossfade."""

    code = "corrupt_audit"
    sentence = "the audit log does not verify at entry {seq}: {problem}"
    hint_template = "the entries before {seq} are intact; compare with a backup of the database"


class UnsafeAnswerError(UnsafeError):
    """The answer violates the safety policy of the model, and nothing else can be given."""

    code = "unsafe_answer"
    sentence = "the answer of `{ref}` is {level} and not given: it violates {checks}"
    hint_template = "see what was violated with `crossfade safety violations --model {model}`"


class UnfitConfigError(UnsafeError):
    """A version of a config does not pass its checks."""

    code = "unfit_config"
    sentence = "version {number} of config `{name}` does not pass its checks: {problem}"
    hint_template = "see all that is wrong with `crossfade configs validate {name} {number}`"

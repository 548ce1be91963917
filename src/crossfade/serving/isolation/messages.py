"""What the server and a model process say to each other: MessagePack, one message per packet, checked when it is read.

```
server                          model process
                                 Started           confined, and ready for a model
Load + files      ->            Loaded | Failed
Ask [+ region]    ->            Answered | Failed | Crowded
Region + region   ->            Answered          the answer that did not fit
```

Tensors travel as frames (`serving/frames.py`): inside the packet while they are small, in the shared region when not.
"""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.core.identity import ModelRef
from crossfade.errors import (
    CodeNotAllowedError,
    CrossfadeError,
    InvalidRefError,
    LoadFailedError,
    MemberSlowError,
    MissingExtraError,
    PredictionError,
    SignatureMismatchError,
    UnknownFlavorError,
    UntrustedTypesError,
)
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.placement import Placement
from crossfade.serving.counters import MAX_MEMBER_KINDS

MAX_FRAME_BYTES = 64 * 2**10
"""Larger frames go through shared memory. Below, a packet costs less than what it takes to say where it lies."""
MAX_PACKET_BYTES = 2**20
_MAX_TEXT = 2_000
"""Characters of a fact that a model process may send: what it says ends up in logs and answers."""
_MAX_FACTS = 16
_OUTCOMES = {"answered", "dropped", "substituted", "passed"}
_MAX_MEMBER_NAME = 200
_MAX_ROWS = 2**32

_KNOWN: dict[str, type[CrossfadeError]] = {
    kind.code: kind
    for kind in (
        CodeNotAllowedError,
        LoadFailedError,
        MemberSlowError,
        MissingExtraError,
        PredictionError,
        SignatureMismatchError,
        UnknownFlavorError,
        UntrustedTypesError,
    )
}
"""What a model process may fail with. Whatever else it claims becomes a failed prediction."""


class Message(msgspec.Struct, tag=True, array_like=True, frozen=True, gc=False):
    """Base of all messages."""


class Blob(msgspec.Struct, array_like=True, frozen=True):
    """The bytes of one file: `size` of them, after those of the blobs before it."""

    digest: str
    size: int


class Contents(msgspec.Struct, array_like=True, frozen=True):
    """A version: its manifest, which bytes follow, one blob after the other, and how it is to be loaded."""

    manifest: bytes
    blobs: tuple[Blob, ...]
    policy: TrustPolicy
    placement: Placement


class Load(Message, frozen=True):
    """Become a version. A piece of sealed memory comes along: its first bytes are `Contents`, the blobs follow."""

    size: int
    memory_bytes: int = 0
    """Private memory that it may have from now on; 0 = as the process was started with."""
    gpus: tuple[str, ...] | None = None
    """The GPUs that it may use; None = those that the server sees."""


class Ask(Message, frozen=True):
    """Predict. The frame is in the packet, or fills the first bytes of the region."""

    wanted: tuple[str, ...]
    frame: bytes
    in_region: int = 0


class Region(Message, frozen=True):
    """Here is a larger region; put the answer there."""


class Started(Message, frozen=True):
    """The process is confined, and waits for a model."""

    without: tuple[str, ...]
    """What this machine could not confine it by."""


class Loaded(Message, frozen=True):
    """The model is there."""

    packages: tuple[str, ...]
    """Installed packages that it made the process import: the next process can do so before it is needed."""


class Answered(Message, frozen=True):
    """The outputs. The frame is in the packet, or fills the first bytes of the region."""

    frame: bytes
    in_region: int = 0
    preprocess_seconds: float = 0.0
    member_rows: tuple[tuple[str, str, int], ...] = ()
    """Of an ensemble: what became of rows with each member."""


class Crowded(Message, frozen=True):
    """The outputs need a region of so many bytes."""

    size: int


class Failed(Message, frozen=True):
    """The model cannot be loaded, or failed on these inputs."""

    code: str
    facts: dict[str, str | int | float | bool | None]


Request = Load | Ask | Region
Reply = Started | Loaded | Answered | Crowded | Failed

encode = msgspec.msgpack.Encoder().encode
decode_contents = msgspec.msgpack.Decoder(Contents).decode
decode_request = msgspec.msgpack.Decoder(Load | Ask | Region).decode
_decode_reply = msgspec.msgpack.Decoder(Started | Loaded | Answered | Crowded | Failed).decode


def decode_reply(packet: memoryview) -> Reply:
    """Return what a model process says.

    Raises:
        ValueError: It is no message.
    """
    try:
        reply: Reply = _decode_reply(packet)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"not a message: {error}") from error
    return reply


def failure_of(error: BaseException, ref: str) -> Failed:
    """Return the message that says what went wrong.

    Example:
        >>> failure_of(ZeroDivisionError("division by zero"), "m:1.0.0").facts["problem"]
        'ZeroDivisionError: division by zero'
    """
    if isinstance(error, CrossfadeError) and error.code in _KNOWN:
        facts: dict[str, Any] = error.facts
        return Failed(error.code, {str(name): _short(value) for name, value in list(facts.items())[:_MAX_FACTS]})
    return Failed(PredictionError.code, {"ref": ref, "problem": _short(f"{type(error).__name__}: {error}")})


def error_of(failed: Failed, ref: str) -> CrossfadeError:
    """Return the error that a message stands for; a plain failed prediction when it stands for none.

    Example:
        >>> error_of(Failed("prediction_failed", {"problem": "no"}), "m:1.0.0").facts["ref"]
        'm:1.0.0'
    """
    facts = {name[:64]: _short(value) for name, value in list(failed.facts.items())[:_MAX_FACTS]}
    try:
        return _KNOWN[failed.code](**(facts | {"ref": _ref(facts.get("ref"), ref)}))
    except (KeyError, ValueError, IndexError, AttributeError, TypeError):
        return PredictionError(ref=ref, problem=_short(facts.get("problem", failed.code)))


def member_rows_of(reply: Answered) -> dict[tuple[str, str], int]:
    """Return what became of rows with each member, as far as a process can be believed.

    Example:
        >>> member_rows_of(Answered(b"", 0, 0.0, (("m:1.0.0", "dropped", 2), ("m:1.0.0", "eaten", 1))))
        {('m:1.0.0', 'dropped'): 2}
    """
    if not reply.member_rows:
        return {}
    return {
        (member[:_MAX_MEMBER_NAME], outcome): rows
        for member, outcome, rows in reply.member_rows[:MAX_MEMBER_KINDS]
        if outcome in _OUTCOMES and 0 <= rows <= _MAX_ROWS
    }


def _ref(claimed: object, ref: str) -> str:
    """Return which version an error is about: a member, when it is an ensemble that says so."""
    try:
        return str(ModelRef.parse(str(claimed)))
    except InvalidRefError:
        return ref


def _short(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).encode("utf-8", "replace").decode()[:_MAX_TEXT]

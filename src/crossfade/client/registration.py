"""Registering a version from afar: what to send in which order, without sending anything.

Each function is a generator of calls; a client makes them its own way and sends the answers back in.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from crossfade.client import verbs
from crossfade.client.calls import Call, Progress
from crossfade.core.identity import new_id
from crossfade.core.tensors import Signature
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.packaging import Draft
from crossfade.registry.placement import Placement
from crossfade.registry.requests import Rehearsal, Upload
from crossfade.registry.versions import Card, Manifest, Version


class PackOptions(TypedDict, total=False):
    """How a model becomes a draft: the keywords of `crossfade.registry.packaging.pack`.

    Attributes:
        preprocessor: Fitted (object or path); every request passes through it first.
        signature: The typed schema; by default read from the format, or inferred from the example.
        example: Rows of raw input; their answers become the golden requests.
        golden: Golden requests of your own.
        flavor: The format, when it should not be detected.
        card: Evaluation, tags, parameters, references.
        policy: What may be loaded on this machine.
        placement: On which device and with how many threads it wants to be served.
    """

    preprocessor: object
    signature: Signature | None
    example: object
    golden: GoldenRequests | None
    flavor: str | None
    card: Card | None
    policy: TrustPolicy | None
    placement: Placement | None


def registration(
    draft: Draft, name: str, version: str | None, progress: Progress | None
) -> Generator[Call[Any], Any, Version]:
    """Yield the calls that register a draft.

    Args:
        draft: Packed on this machine.
        name: The model.
        version: Its semver; None lets the server propose one from the change of the signature.
        progress: Told (bytes sent, bytes in all).
    """
    manifest = yield from _manifest(draft, name, version)
    holder = new_id()
    answer: Upload = yield verbs.upload(holder, tuple(draft.contents))
    total = sum(_size(draft.contents[digest]) for digest in answer.missing)
    done = 0
    for digest in answer.missing:
        sent = None if progress is None else partial(_report, progress, done, total)
        yield verbs.put_blob(digest, draft.contents[digest], holder=holder, sent=sent)
        done += _size(draft.contents[digest])
    published: Version = yield verbs.publish(manifest, holder=holder)
    return published


def rehearsal(draft: Draft, name: str, version: str | None) -> Generator[Call[Any], Any, Rehearsal]:
    """Yield the calls that tell whether a draft could be registered; none of its files is sent."""
    manifest = yield from _manifest(draft, name, version)
    answer: Rehearsal = yield verbs.dry_run(verbs.publish(manifest))
    return answer


def _manifest(draft: Draft, name: str, version: str | None) -> Generator[Call[Any], Any, Manifest]:
    if version is None:
        version = (yield verbs.propose(name, draft.signature)).version
    return draft.manifest(name, version)


def _size(body: bytes | Path) -> int:
    return body.stat().st_size if isinstance(body, Path) else len(body)


def _report(progress: Progress, before: int, total: int, sent: int) -> None:
    progress(before + sent, total)

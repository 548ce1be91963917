"""`Replies`: whole requests that come again byte for byte within a second get the bytes that the last one got.

It saves reading numbers to find out that they are known, which costs more than all else that a kept answer takes.
Requests are remembered by a keyed digest, never as they were asked; answers no longer than a second, so that they are
hardly older than what the response cache holds. See `docs/decisions/0006-response-cache.md`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from crossfade.serving.cache import VersionAnswers

REMEMBERED_SECONDS = 1.0
MAX_BYTES = 64 * 2**10
"""Longer requests and answers are not remembered: hashing them costs what it saves."""
_OVERHEAD_BYTES = 512
_PURPOSE = b"crossfade-reply"
_DIGEST_BYTES = 32

Question = tuple["VersionAnswers", bool, bytes]
"""Of which version and generation, whether in another's stead, and the digest of the request."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An answer as it was sent.

    Args:
        body: Its bytes.
        json_bytes: How many of them are JSON when binary tensors follow, else None.
        rows: Of the request.
    """

    body: bytes
    json_bytes: int | None
    rows: int


class Replies:
    """Of one process, over all versions. Used on one event loop.

    Args:
        secret: Of the deployment.
        max_bytes: That answers and their digests may take; what was used least recently makes room.
        seconds: How long an answer is remembered.
    """

    def __init__(self, secret: bytes, max_bytes: int, seconds: float) -> None:
        self._keyed = blake2b(key=secret, digest_size=_DIGEST_BYTES, person=_PURPOSE)
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._bytes = 0
        self._kept: OrderedDict[Question, tuple[Reply, float]] = OrderedDict()

    def question(self, answers: VersionAnswers, fallback: bool, head: bytes, body: bytes) -> Question:
        """Return what a request is remembered by.

        Args:
            answers: Of the version and generation that are asked; a new generation has another object.
            fallback: Whether it answers in the stead of another version, which its answer says.
            head: What else decides how the body is read; its length is part of the digest.
            body: Of the request.
        """
        state = self._keyed.copy()
        state.update(b"%d:%b" % (len(head), head))
        state.update(body)
        return answers, fallback, state.digest()

    def find(self, question: Question) -> Reply | None:
        """Return the answer that was given to the same request a moment ago, or None."""
        found = self._kept.get(question)
        if found is None:
            return None
        reply, until = found
        if until < time.monotonic():
            self._drop(question)
            return None
        self._kept.move_to_end(question)
        return reply

    def remember(self, question: Question, reply: Reply) -> None:
        """Keep an answer for a moment."""
        if len(reply.body) > MAX_BYTES:
            return
        if question in self._kept:
            self._drop(question)
        self._kept[question] = (reply, time.monotonic() + self._seconds)
        self._bytes += len(reply.body) + _OVERHEAD_BYTES
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, question: Question) -> None:
        reply, _ = self._kept.pop(question)
        self._bytes -= len(reply.body) + _OVERHEAD_BYTES

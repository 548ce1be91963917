"""gzip and deflate bodies: unpacked within a limit, packed when the client asks."""

from __future__ import annotations

import gzip
import zlib

from crossfade.errors import BodyTooLargeError, MalformedRequestError

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_WORTHWHILE_BYTES = 8 * 2**10
_LEVEL = 1


def unpack_body(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo the `Content-Encoding` of a request body.

    Args:
        body: As it arrived.
        encoding: The header.
        limit: Bytes; unpacking stops there, so that a small body cannot fill the memory.

    Raises:
        BodyTooLargeError: It unpacks to more than `limit`.
        MalformedRequestError: The encoding is unknown, or the body is damaged or followed by other bytes.

    Example:
        >>> unpack_body(gzip.compress(b"{}"), b"gzip", 100)
        b'{}'
    """
    coding = encoding.strip().lower()
    if coding in {b"", b"identity"}:
        return body
    if coding not in {b"gzip", b"x-gzip", b"deflate"}:
        raise MalformedRequestError(problem="Content-Encoding must be gzip or deflate")
    unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        unpacked = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedRequestError(problem="the compressed body is damaged") from error
    if len(unpacked) > limit:
        raise BodyTooLargeError(limit_bytes=limit)
    if not unpacking.eof or unpacking.unused_data:
        raise MalformedRequestError(problem="the compressed body is incomplete or followed by other bytes")
    return unpacked


def pack_body(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """Compress an answer for a client that accepts it.

    Most clients accept gzip without wishing for it; for them only large answers are worth the time. A client that
    names a single coding wants it.

    Args:
        body: The answer.
        accepted: The `Accept-Encoding` header.

    Returns:
        The body and its `Content-Encoding`, None when it was left as it is.
    """
    wishes = accepted.strip().lower()
    if wishes == b"deflate":
        return zlib.compress(body, _LEVEL), b"deflate"
    if wishes == b"gzip" or (len(body) >= _WORTHWHILE_BYTES and _accepts_gzip(wishes)):
        return gzip.compress(body, _LEVEL, mtime=0), b"gzip"
    return body, None


def _accepts_gzip(wishes: bytes) -> bool:
    for wish in wishes.split(b","):
        coding, _, quality = wish.partition(b";")
        if coding.strip() == b"gzip":
            return quality.replace(b" ", b"") not in {b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"}
    return False

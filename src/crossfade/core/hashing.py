"""Digests and canonical JSON: how content becomes identity.

A digest is the lower-case hexadecimal SHA-256 of the bytes, without a prefix.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
import orjson

_DIGEST = re.compile(r"[0-9a-f]{64}")


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Return the digest of `data`.

    Example:
        >>> sha256(b"")[:8]
        'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Tell whether `text` is a well-formed digest."""
    return _DIGEST.fullmatch(text) is not None


def canonical_json(value: Any) -> bytes:
    """Encode `value` so that equal values give equal bytes: sorted keys, no spaces, UTF-8.

    Raises:
        TypeError: `value` holds something that JSON cannot.

    Example:
        >>> canonical_json({"b": 1, "a": [True, None]})
        b'{"a":[true,null],"b":1}'
    """
    return orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_SORT_KEYS)

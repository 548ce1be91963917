"""Fingerprints: which requests are the same question to the same version, without keeping what was asked.

A fingerprint is a BLAKE2b digest keyed with a secret of the deployment, over an encoding in which different inputs
cannot have equal bytes: everything has a fixed length or its length in front. Unkeyed digests of few possible inputs
could be tried out one by one.

Source: Aumasson et al., BLAKE2 (RFC 7693); keyed mode as in its section 2.9.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b

import numpy as np

from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, TensorSpec

_PURPOSE = b"crossfade-inputs"
_DIGEST_BYTES = 32
_LENGTH = struct.Struct("<Q")
_TEXT, _RAW, _NOTHING = b"t", b"b", b"n"


class Fingerprints:
    """Of the requests to one version.

    Args:
        secret: Shared by all processes of the deployment.
        digest: Of the version's manifest: its identity.
        generation: Grows when answers are invalidated.
        signature: Of the version; only inputs that passed its `check` have a fingerprint.

    Example:
        >>> signature = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("y", "FP64", (-1,)),))
        >>> fingerprints = Fingerprints(b"secret", "ab" * 32, 0, signature)
        >>> wanted = frozenset({"y"})
        >>> fingerprints.of({"x": np.array([0.0])}, wanted) == fingerprints.of({"x": np.array([-0.0])}, wanted)
        True
    """

    def __init__(self, secret: bytes, digest: str, generation: int, signature: Signature) -> None:
        self._inputs = tuple(
            (spec.name, _encoder(spec), struct.Struct(f"<{len(spec.shape)}Q")) for spec in signature.inputs
        )
        self._outputs = tuple(spec.name for spec in signature.outputs)
        # What all requests to the version share is hashed once. Number, names, datatypes and ranks of the tensors
        # stand here, so that the rest of the encoding can only be split in one way.
        self._shared = blake2b(key=secret, digest_size=_DIGEST_BYTES, person=_PURPOSE)
        for text in (digest, str(generation), *map(_described, signature.inputs), "", *self._outputs):
            self._shared.update(_framed(text.encode()))

    def of(self, tensors: Tensors, wanted: frozenset[str]) -> str:
        """Return the fingerprint of a request.

        Args:
            tensors: Inputs that passed `signature.check`.
            wanted: Names of outputs.
        """
        parts = [bytes([name in wanted for name in self._outputs])]
        for name, encoded, shape in self._inputs:
            value = tensors[name]
            parts += (shape.pack(*value.shape), encoded(value))
        state = self._shared.copy()
        state.update(b"".join(parts))
        return state.hexdigest()


def _described(spec: TensorSpec) -> str:
    return f"{spec.datatype} {len(spec.shape)} {spec.name}"


def _framed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _encoder(spec: TensorSpec) -> Callable[[Array], bytes]:
    kind = DTYPES[spec.datatype].kind
    if kind == "O":
        return _encode_objects
    return _encode_gaps if kind == "f" and spec.missing else _encode_plain


def _encode_plain(value: Array) -> bytes:
    return value.tobytes()


def _encode_gaps(value: Array) -> bytes:
    return np.where(np.isnan(value), np.nan, value).tobytes()  # of the many NaNs, one


def _encode_objects(value: Array) -> bytes:
    parts: list[bytes] = []
    for item in value.ravel().tolist():
        if isinstance(item, str):
            parts += (_TEXT, _framed(item.encode("utf-8", "surrogatepass")))
        elif item is None:
            parts.append(_NOTHING)
        else:
            parts += (_RAW, _framed(item))
    return b"".join(parts)

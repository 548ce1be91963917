"""What the process that reads a file hands to the one that predicts: a task there, chunks of rows back."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import MalformedRequestError
from crossfade.jobs.records import InputFormat
from crossfade.serving.frames import decode_frame

READER = "crossfade.jobs.reading"
"""The module that the reading process runs."""


class ReadTask(msgspec.Struct, frozen=True):
    """What to read.

    Args:
        format: Of the file.
        signature: Of the version that will answer.
        keep: Columns to hand over beside the inputs.
        chunk_rows: Rows of a chunk at most.
        skip_rows: Rows whose answers are stored already: whole chunks.
        input_bytes: Size of the file.
    """

    format: InputFormat
    signature: Signature
    keep: tuple[str, ...]
    chunk_rows: int
    skip_rows: int
    input_bytes: int


class Chunk(msgspec.Struct, frozen=True):
    """Rows in their order. One without rows only says that reading goes on.

    Args:
        rows: How many, good and bad.
        pieces: The inputs of the good rows, one frame for each shape in turn.
        bad: Offset in the chunk -> why the row does not fit.
        kept: Column -> one JSON value per row.
        bytes_done: How much of the file has been read, about.
    """

    rows: int
    pieces: tuple[bytes, ...] = ()
    bad: dict[int, str] = {}
    kept: dict[str, list[Any]] = {}
    bytes_done: int = 0


_decode = msgspec.msgpack.Decoder(Chunk).decode
encode_chunk = msgspec.msgpack.Encoder().encode


def decode_chunk(frame: bytes) -> tuple[Chunk, list[Tensors]]:
    """Return a chunk, and its pieces as tensors; they still have to pass `Signature.check`.

    Raises:
        MalformedRequestError: The reading process wrote something else.
    """
    try:
        chunk = _decode(frame)
        pieces = [decode_frame(piece) for piece in chunk.pieces]
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedRequestError(problem=f"its reader said what makes no sense ({error})") from error
    good = sum(len(next(iter(piece.values()), ())) for piece in pieces)
    sound = good + len(chunk.bad) == chunk.rows and all(0 <= offset < chunk.rows for offset in chunk.bad)
    if not sound or any(len(values) != chunk.rows for values in chunk.kept.values()):
        raise MalformedRequestError(problem="its reader miscounted the rows")
    return chunk, pieces

"""The process that reads the file of a job: whatever the file holds, the server never parses it.

Rows are grouped into chunks by rules that depend on the file alone, so that a job that is resumed gets the same chunks.
A row that does not fit the signature is left out and explained; only what cannot be read as a whole ends the reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import msgspec
import numpy as np

from crossfade.core.child import run
from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import InvalidInputError, MalformedRequestError
from crossfade.jobs.chunks import Chunk, ReadTask, encode_chunk
from crossfade.jobs.columns import arrow_groups, parquet_groups
from crossfade.jobs.groups import Group
from crossfade.jobs.lines import csv_groups, jsonl_groups
from crossfade.serving.frames import encode_frame

_GROUPS = {"csv": csv_groups, "jsonl": jsonl_groups, "arrow": arrow_groups, "parquet": parquet_groups}
_LONGEST_SENTENCE = 300


def read_chunks(source: BinaryIO, task: ReadTask) -> Iterator[Chunk]:
    """Yield the chunks of a file after the rows to skip; what is skipped yields chunks without rows.

    Raises:
        MalformedRequestError: The file cannot be read.
    """
    done = 0
    for group in _GROUPS[task.format](source, task):
        done += group.rows
        yield Chunk(0) if done <= task.skip_rows else _chunk(group, task.signature)


def _chunk(group: Group, signature: Signature) -> Chunk:
    bad = dict(group.bad)
    pieces = _merged([*_good(group, signature, 0, len(group.offsets), bad)])
    frames = []
    for piece in pieces:
        frame = encode_frame(piece)
        if frame is None:
            raise MalformedRequestError(problem="it holds text that is not Unicode")
        frames.append(frame)
    return Chunk(group.rows, tuple(frames), bad, group.kept, group.bytes_done)


def _good(group: Group, signature: Signature, start: int, stop: int, bad: dict[int, str]) -> Iterator[Tensors]:
    """Yield the inputs of the rows that fit, found by halving whatever does not."""
    if start == stop:
        return
    try:
        yield signature.check(group.inputs(start, stop))
    except InvalidInputError as error:
        if stop - start == 1:
            # conversions count the rows of what they are given, which is this row alone
            bad[group.offsets[start]] = error.message.replace(" in row 0", "")[:_LONGEST_SENTENCE]
            return
        middle = (start + stop) // 2
        yield from _good(group, signature, start, middle, bad)
        yield from _good(group, signature, middle, stop, bad)


def _merged(pieces: list[Tensors]) -> list[Tensors]:
    """Join neighbours of equal shapes."""
    runs: list[list[Tensors]] = []
    for piece in pieces:
        if runs and _shapes(runs[-1][0]) == _shapes(piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return [{name: np.concatenate([piece[name] for piece in one]) for name in one[0]} for one in runs]


def _shapes(tensors: Tensors) -> list[tuple[int, ...]]:
    return [value.shape[1:] for value in tensors.values()]


def _produce(task: bytes, source: BinaryIO) -> Iterator[bytes]:
    return map(encode_chunk, read_chunks(source, msgspec.json.decode(task, type=ReadTask)))


if __name__ == "__main__":
    run(_produce)

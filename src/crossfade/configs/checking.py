"""Whether a document fulfils a JSON Schema, found out by a process of its own.

A schema is a program: its patterns, its references to itself and its combinations of schemas may take longer than
anybody will wait, in a library that holds the interpreter. So it runs in a child with limits on time and memory, and a
schema that exceeds them is refused. Patterns are matched in linear time; nothing is fetched from anywhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from crossfade.configs.document import Document, look_up
from crossfade.configs.spec import REFERENCE, ConfigSpec
from crossfade.core.child import Limits, read_frames, run
from crossfade.errors import InvalidConfigError, MalformedRequestError

LIMITS = Limits(memory_bytes=2**29, cpu_seconds=5, idle_seconds=15.0, frame_bytes=2**24)
MAX_PROBLEMS = 50
_MAX_REFERENCES = 10_000
_LONGEST = 300


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong with a document.

    Args:
        path: JSON pointer to where; empty for all of it.
        problem: What, in words.
        check: What found it: `schema`, `rule` or `reference`.
    """

    path: str
    problem: str
    check: str = "schema"


class Reference(msgspec.Struct, frozen=True):
    """A text of a document that names something.

    Args:
        path: JSON pointer to it.
        kind: `model`, `version`, `alias` or `config`.
        target: What it names.
    """

    path: str
    kind: str
    target: str


class Findings(msgspec.Struct, frozen=True):
    """What a schema says about a document: what is wrong, or what the document refers to."""

    problems: tuple[Finding, ...] = ()
    references: tuple[Reference, ...] = ()


Check = Callable[[str, ConfigSpec, Document | None], Findings]
"""(name of the config, what is asked for, a document or only the specification itself) -> findings."""


class _Task(msgspec.Struct):
    schema: dict[str, Any]
    check_only: bool


def check_in_child(name: str, spec: ConfigSpec, document: Document | None) -> Findings:
    """Check a document, or without one whether the schema is a schema.

    Raises:
        InvalidConfigError: The schema cannot be used, or takes too long.
    """
    task = msgspec.json.encode(_Task(spec.schema, document is None))
    with tempfile.TemporaryFile() as file:
        file.write(b"null" if document is None else document.text.encode())
        file.seek(0)
        try:
            (frame,) = read_frames("crossfade.configs.checking", task, file, LIMITS)
        except MalformedRequestError as error:
            problem = str(error.facts["problem"])
            if "died" in problem or "could not be read within" in problem:
                problem = "its schema takes too much time or memory to check"
            raise InvalidConfigError(name=name, problem=problem) from error
    return msgspec.json.decode(frame, type=Findings)


def find(schema: dict[str, Any], value: Any, *, check_only: bool = False) -> Findings:
    """Do the work, in this process.

    Raises:
        MalformedRequestError: The schema is none.
    """
    import jsonschema_rs

    try:
        validator = jsonschema_rs.Draft202012Validator(
            schema, pattern_options=jsonschema_rs.RegexOptions(size_limit=2**20), offline=True, validate_formats=True
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MalformedRequestError(problem=f"its schema is none: {first[:_LONGEST]}") from error
    if check_only:
        return Findings()
    problems = []
    for found in validator.iter_errors(value):
        path = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in found.instance_path)
        problems.append(Finding(path, found.message[:_LONGEST]))
        if len(problems) == MAX_PROBLEMS:
            break
    return Findings(tuple(problems), () if problems else tuple(_references(validator.evaluate(value), value)))


def _references(evaluation: Any, value: Any) -> Iterator[Reference]:
    seen = set()
    for note in evaluation.annotations():
        said = note["annotations"]
        kind = said.get(REFERENCE) if isinstance(said, dict) else None
        path = note["instanceLocation"]
        if kind is None or (path, kind) in seen:
            continue
        seen.add((path, kind))
        if len(seen) > _MAX_REFERENCES:
            raise MalformedRequestError(problem=f"the document has more than {_MAX_REFERENCES} references")
        target = look_up(value, path)
        if isinstance(target, str):
            yield Reference(path, kind, target)


def _produce(task: bytes, source: BinaryIO) -> Iterator[bytes]:
    asked = msgspec.json.decode(task, type=_Task)
    value = msgspec.json.decode(source.read())
    yield msgspec.json.encode(find(asked.schema, value, check_only=asked.check_only))


if __name__ == "__main__":
    run(_produce)

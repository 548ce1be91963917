"""Specifications that people keep in files: JSON, TOML or YAML, by the name of the file; and contexts of requests."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.errors import MalformedRequestError

T = TypeVar("T")


def read_document(path: Path, see: str) -> Any:
    """Return what a file holds.

    Args:
        path: The file.
        see: The command that shows what it has to hold.

    Raises:
        MalformedRequestError: It cannot be read.
    """
    content = path.read_bytes()
    try:
        if path.suffix in {".yaml", ".yml"}:
            return _yaml(content)
        return tomllib.loads(content.decode()) if path.suffix == ".toml" else msgspec.json.decode(content)
    except ImportError as error:
        problem = f"reading `{path.name}` needs `pip install pyyaml`; JSON and TOML need nothing"
        raise MalformedRequestError(problem=problem, see=see) from error
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(problem=f"`{path.name}` cannot be read ({error})", see=see) from error


def _yaml(content: bytes) -> Any:
    """Read YAML by PyYAML's own loader: the one in C, which `msgspec.yaml` takes, crashes on deep nesting."""
    import yaml

    try:
        return yaml.load(content, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # such as a date that does not exist
        raise msgspec.DecodeError(str(error)) from error


def read_spec(path: Path, kind: type[T], see: str) -> T:
    """Return the specification in a file.

    Args:
        path: The file.
        kind: What it has to be.
        see: The command that shows what that is.

    Raises:
        MalformedRequestError: It cannot be read, or is none.
    """
    try:
        return msgspec.convert(read_document(path, see), kind)
    except msgspec.ValidationError as error:
        raise MalformedRequestError(problem=f"`{path.name}`: {problem_of(error, kind)}", see=see) from error


def read_context(text: str, see: str) -> dict[str, Any]:
    """Return what an option `--context` says about a request.

    Raises:
        MalformedRequestError: It is no JSON object.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MalformedRequestError(problem=f"`--context` is no JSON object ({error})", see=see) from error

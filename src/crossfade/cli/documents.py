"""Specifications that people keep in files: JSON, TOML or YAML, by the name of the file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crossfade.errors import MalformedRequestError

T = TypeVar("T")


def read_document(path: Path) -> Any:
    """Return what a file holds.

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
        raise MalformedRequestError(problem=problem) from error
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(problem=f"`{path.name}` cannot be read ({error})") from error


def _yaml(content: bytes) -> Any:
    """Read YAML by PyYAML's own loader: the one in C, which `msgspec.yaml` takes, crashes on deep nesting."""
    import yaml

    try:
        return yaml.load(content, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # such as a date that does not exist
        raise msgspec.DecodeError(str(error)) from error


def read_spec(path: Path, kind: type[T]) -> T:
    """Return the specification in a file.

    Raises:
        MalformedRequestError: It cannot be read, or is none.
    """
    try:
        return msgspec.convert(read_document(path), kind)
    except msgspec.ValidationError as error:
        raise MalformedRequestError(problem=f"`{path.name}`: {error}") from error

"""Write the reference pages and the map that follow from the code; `--check` compares, and fails when one is stale.

Run it with the test environment: `make docs`.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from crossfade import errors
from crossfade.cli.main import main as command_line
from crossfade.serving.loader import Loader
from crossfade.serving.measurements import Measurements
from crossfade.serving.slots import SlotTable
from crossfade.serving.totals import RULES
from crossfade.settings import Settings
from crossfade.traffic.allocation.decisions import Tally
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.snapshot import Snapshot

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
SOURCE = ROOT / "src" / "crossfade"
MAP = ROOT / "ARCHITECTURE.md"
MAP_BEGINS, MAP_ENDS = "docstring -->\n", "<!-- end of map -->"
NOTE = "<!-- written by tools/generate_reference.py: change the code, then run `make docs` -->\n"


def errors_page() -> Iterator[str]:
    """Yield the lines of the errors page: every code, by family."""
    yield "# Errors\n"
    yield "Every error has a stable code, a sentence and a hint. It is the same in Python (`crossfade.errors`), in the"
    yield "`application/problem+json` body of `/api/v1` and on the command line, where the family is the exit code. The"
    yield 'Open Inference Protocol routes answer `{"error": "..."}` with the same sentence.\n'
    for family in errors.CrossfadeError.__subclasses__():
        yield f"## {family.__name__}: HTTP {family.http_status}, exit code {family.exit_code}\n"
        yield f"{_summary(family)}\n"
        yield "| code | HTTP | says | hint |\n|---|---|---|---|"
        for kind in _line(family):
            cells = (f"`{kind.code}`", str(kind.http_status), kind.sentence, kind.hint_template)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield ""


def _line(kind: type[errors.CrossfadeError]) -> Iterator[type[errors.CrossfadeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _line(child)


def settings_page() -> Iterator[str]:
    """Yield the lines of the settings page: every field, by section."""
    yield "# Settings\n"
    yield "A value comes from, first match wins: arguments in Python, the environment, `crossfade.toml` in the working"
    yield "directory (or the file that `CROSSFADE_CONFIG` names), the default. `crossfade settings show --sources` "
    yield "prints all of them. A variable or a line that is meant for a setting and names none is refused.\n"
    yield "| setting | environment | default | meaning |\n|---|---|---|---|"
    for name, environment, default, meaning in _fields(Settings, "", "CROSSFADE_"):
        yield f"| `{name}` | `{environment}` | {default} | {meaning} |"


def _fields(model: type[BaseModel], path: str, environment: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        default = field.default
        if isinstance(default, BaseModel):
            yield from _fields(type(default), f"{path}{name}.", f"{environment}{name.upper()}__")
            continue
        text = "required" if default is PydanticUndefined else _default(default)
        yield f"{path}{name}", f"{environment}{name.upper()}", text, (field.description or "").replace("|", "\\|")


def _default(value: object) -> str:
    if isinstance(value, SecretStr) or value in ("", ()):
        return ""
    return "see `crossfade settings show`" if isinstance(value, dict) else f"`{value}`"


def metrics_page() -> Iterator[str]:
    """Yield the lines of the metrics page: everything that `/metrics` can show."""
    yield "# Metrics\n"
    yield "`GET /metrics` answers in the Prometheus text format. A label is never a user or unit id. With"
    yield "`--workers N` a scrape of any worker answers for all of them: counts are added up and go on when a worker is"
    yield "replaced, gauges are added up or the worst is shown, and `process_*` has the label `worker`. What the others"
    yield "say is at most about a second old (`docs/decisions/0011-metrics-of-all-workers.md`).\n"
    yield "| metric | type | labels | over workers | meaning |\n|---|---|---|---|---|"
    nothing = SimpleNamespace(snapshot=Snapshot(), age_seconds=0.0, tally=Tally(), abandoned=0, free_bytes=lambda: 0)
    for metric in Measurements(SlotTable(), cast("SnapshotFollower", nothing), cast("Loader", nothing)).collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = ", ".join(f"`{label}`" for label in getattr(metric, "_labelnames", ()))
        over = getattr(RULES.get(metric.name, sum), "__name__", "")
        yield f"| `{name}` | {metric.type} | {labels} | {over} | {metric.documentation} |"


def cli_page() -> Iterator[str]:
    """Yield the lines of the command line page: the help of every command."""
    yield "# Command line\n"
    yield from _command(command_line, click.Context(command_line, info_name="crossfade"), level=2)


def _command(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _command(child, click.Context(child, info_name=name, parent=context), min(level + 1, 4))


def map_lines() -> Iterator[str]:
    """Yield one line for every file of the package: its path and the first sentence of its docstring."""
    for path in sorted(SOURCE.rglob("*"), key=lambda path: (path.parent.parts, path.name)):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        name = path.relative_to(SOURCE).as_posix()
        if name.endswith("__init__.py"):
            yield f"\n### {name.removesuffix('__init__.py') or '.'}\n"
        yield f"- `{name}`: {_purpose(path)}"


def _purpose(path: Path) -> str:
    if path.suffix != ".py":
        return {"py.typed": "tells type checkers that the package is annotated."}.get(
            path.name, "a file of its folder."
        )
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0].split())
    first = text.partition(". ")[0]
    return first if first.endswith((".", "?")) else f"{first}."


def whole_map() -> str:
    """Return ARCHITECTURE.md with a current map."""
    before, begins, rest = MAP.read_text().partition(MAP_BEGINS)
    return "".join([before, begins, "\n".join(map_lines()), "\n\n", MAP_ENDS, rest.partition(MAP_ENDS)[2]])


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").splitlines()[0]


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "errors.md": errors_page,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "cli.md": cli_page,
}


def main() -> int:
    """Write or check all pages; return 1 when a checked page differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    current = {FOLDER / name: NOTE + "\n".join(page()).rstrip() + "\n" for name, page in PAGES.items()}
    stale = []
    for path, text in (current | {MAP: whole_map()}).items():
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text)
    if stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())

"""Check the shape of the source: sizes, cycles, annotations, docstrings, tests and the map in ARCHITECTURE.md.

Usage: python tools/check_shape.py [ROOT]

Prints `path:line: problem` for each problem, then one summary line. Exits with 1 when there is a problem.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from statistics import median
from typing import NamedTuple

from typing_extensions import TypeIs

PACKAGE = "crossfade"
LONG_FILE = 400
LONG_FILES_ALLOWED = 0.05
LONGEST_FILE = 600
LONGEST_FUNCTION = 79

Function = ast.FunctionDef | ast.AsyncFunctionDef
UNDOCUMENTED = ("overload", "override", "setter", "deleter")
"""Decorators of a function whose documentation stands elsewhere."""


def is_function(node: ast.AST) -> TypeIs[Function]:
    """Tell whether a node is a `def`, plain or async."""
    return isinstance(node, Function)


class Problem(NamedTuple):
    """Something to change, and where."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Module:
    """One Python file of the package: `path` relative to the root, its dotted `name`, its `text`."""

    path: str
    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, filename=self.path)

    @property
    def lines(self) -> int:
        """How long the file is, blank lines and comments included."""
        return len(self.text.splitlines())


@dataclass(frozen=True)
class Project:
    """What is checked: the package's modules, the length of the tests, the text of the map."""

    root: Path
    modules: list[Module]
    test_lines: int

    @classmethod
    def read(cls, root: Path) -> Project:
        """Read every Python file below `root/src/crossfade` and `root/tests`."""
        source = root / "src"
        modules = []
        for path in sorted((source / PACKAGE).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules.append(Module(path.relative_to(root).as_posix(), name, path.read_text()))
        tests = sum(len(path.read_text().splitlines()) for path in (root / "tests").rglob("*.py"))
        return cls(root, modules, tests)

    @property
    def lines(self) -> int:
        """How long the package is."""
        return sum(module.lines for module in self.modules)


def check_sizes(project: Project) -> Iterator[Problem]:
    """Files: few are long, none is very long. Functions fit on a screen."""
    long = [module for module in project.modules if module.lines > LONG_FILE]
    too_many = len(long) > LONG_FILES_ALLOWED * len(project.modules)
    for module in long:
        if module.lines > LONGEST_FILE:
            yield Problem(module.path, 1, f"{module.lines} lines; no file has more than {LONGEST_FILE}")
        elif too_many:
            yield Problem(module.path, 1, f"{module.lines} lines; 95 % of the files have at most {LONG_FILE}")
    for module in project.modules:
        for node in filter(is_function, ast.walk(module.tree)):
            if (length := span(node)) > LONGEST_FUNCTION:
                yield Problem(module.path, node.lineno, f"`{node.name}` has {length} lines; at most {LONGEST_FUNCTION}")


def span(node: Function) -> int:
    """Return how many lines a function takes, from `def` to its last line."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def check_cycles(project: Project) -> Iterator[Problem]:
    """Modules import each other in no circle; imports made later, inside a function, do not count."""
    paths = {module.name: module.path for module in project.modules}
    graph = {module.name: set(imports(module, paths.keys())) for module in project.modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1][::-1]  # graphlib lists what is imported first
        yield Problem(paths[cycle[0]], 1, f"import cycle: {' -> '.join(cycle)}")


def imports(module: Module, known: Container[str]) -> Iterator[str]:
    """Yield the names of the package's modules that a module imports while it is itself imported."""
    package = module.name if module.path.endswith("__init__.py") else module.name.rpartition(".")[0]
    for node in executed_on_import(module.tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            # `from package import thing`: the thing may be a module or a name inside the package
            targets = [child if (child := f"{origin}.{alias.name}") in known else origin for alias in node.names]
        else:
            continue
        yield from (target for target in targets if target in known and target != module.name)


def executed_on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the statements that run when a module is imported, so not function bodies and not type-checking blocks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.orelse:
                yield statement
                yield from executed_on_import(statement)
        elif not isinstance(node, Function | ast.Lambda):
            yield node
            yield from executed_on_import(node)


def check_annotations(project: Project) -> Iterator[Problem]:
    """Every argument and every return has a type."""
    for module in project.modules:
        for node in filter(is_function, ast.walk(module.tree)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += filter(None, (node.args.vararg, node.args.kwarg))
            for argument in arguments:
                if argument.annotation is None and argument.arg not in {"self", "cls"}:
                    yield Problem(module.path, argument.lineno, f"`{node.name}`: argument `{argument.arg}` has no type")
            if node.returns is None:
                yield Problem(module.path, node.lineno, f"`{node.name}` has no return type")


def decorators(node: Function) -> set[str]:
    """Return the last word of each decorator: `property` for `@property`, `setter` for `@value.setter`."""
    return {ast.unparse(item).partition("(")[0].rpartition(".")[2] for item in node.decorator_list}


def check_docstrings(project: Project) -> Iterator[Problem]:
    """Every public module, class, function and method says in its first line what it is for."""
    for module in project.modules:
        yield from undocumented(module, module.tree, module.name)


def undocumented(module: Module, node: ast.Module | ast.ClassDef | Function, name: str) -> Iterator[Problem]:
    """Yield the public definitions without documentation, from `node` down, but not inside functions."""
    text = ast.get_docstring(node, clean=False)
    if text is None or not text.partition("\n")[0].strip():
        what = "is not documented" if text is None else "has a docstring whose first line is empty"
        yield Problem(module.path, getattr(node, "lineno", 1), f"`{name}` {what}")
    if is_function(node):
        return
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | Function) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef) or decorators(child).isdisjoint(UNDOCUMENTED):
            yield from undocumented(module, child, child.name)


def check_tests(project: Project) -> Iterator[Problem]:
    """The tests are at least as long as what they test."""
    if project.test_lines < project.lines:
        yield Problem("tests", 1, f"{project.test_lines} lines test {project.lines} lines of source")


def check_map(project: Project) -> Iterator[Problem]:
    """ARCHITECTURE.md has a line for every file, and names none that is gone.

    A file is named by its path below the package (`core/clock.py`) or below the root (`tools/check_shape.py`); a
    folder (`core/`) stands for its `__init__.py`.
    """
    document = project.root / "ARCHITECTURE.md"
    package = project.root / "src" / PACKAGE
    named: dict[str, int] = {}
    for number, line in enumerate(document.read_text().splitlines() if document.exists() else (), start=1):
        for path in re.findall(r"[\w./-]+(?:\.\w+|/)(?![\w/])", line):
            named.setdefault(path.removeprefix(f"src/{PACKAGE}/"), number)
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package).as_posix()
        folder = relative.removesuffix("__init__.py")
        if path.is_file() and "__pycache__" not in path.parts and relative not in named and folder not in named:
            yield Problem(document.name, 1, f"`{relative}` has no line")
    for name, number in named.items():
        if name.endswith(".py") and not (package / name).exists() and not (project.root / name).exists():
            yield Problem(document.name, number, f"`{name}` does not exist")


CHECKS: tuple[Callable[[Project], Iterator[Problem]], ...] = (
    check_sizes,
    check_cycles,
    check_annotations,
    check_docstrings,
    check_tests,
    check_map,
)


def main(root: Path) -> int:
    """Print the problems and a summary; return the exit status."""
    project = Project.read(root)
    problems = [problem for check in CHECKS for problem in check(project)]
    for problem in problems:
        print(problem)
    lengths = [module.lines for module in project.modules] or [0]
    print(
        f"shape: {len(project.modules)} files, {project.lines} lines, median {median(lengths):.0f}, "
        f"longest {max(lengths)}; {project.test_lines} lines of tests; {len(problems)} problems"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]))

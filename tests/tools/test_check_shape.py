"""The shape checker, run on small projects made for the purpose."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tools import check_shape

SOURCE = Path("src/crossfade")


class Tree:
    """A project below a temporary folder; each file written is also given its line in ARCHITECTURE.md."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("__init__.py", '"""A package."""\n')
        self.write_tests(10_000)

    def write(self, name: str, text: str, *, mapped: bool = True) -> None:
        path = self.root / SOURCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if mapped:
            with (self.root / "ARCHITECTURE.md").open("a") as document:
                document.write(f"- `{name}` - a line\n")

    def write_tests(self, lines: int) -> None:
        (self.root / "tests").mkdir(exist_ok=True)
        (self.root / "tests/test_all.py").write_text("#\n" * lines)

    def problems(self) -> list[str]:
        project = check_shape.Project.read(self.root)
        return [str(problem) for check in check_shape.CHECKS for problem in check(project)]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def documented(body: str = "") -> str:
    return f'"""A module."""\n\n{body}'


def function(name: str, lines: int) -> str:
    """A function of exactly so many lines."""
    return f'def {name}() -> None:\n    """Do it."""\n' + "    pass\n" * (lines - 2)


def test_a_tidy_project_has_no_problems(tree: Tree) -> None:
    tree.write("core/__init__.py", documented())
    tree.write("core/clock.py", documented('def now(zone: str) -> float:\n    """Tell the time."""\n    return 0.0\n'))
    assert tree.problems() == []


# ---------------------------------------------------------------------------------------------------------- sizes


def test_a_file_over_the_hard_limit_is_reported(tree: Tree) -> None:
    tree.write("big.py", documented("\n" * 599))
    assert tree.problems() == ["src/crossfade/big.py:1: 601 lines; no file has more than 600"]


def test_a_file_at_the_hard_limit_is_long_but_allowed_among_many(tree: Tree) -> None:
    tree.write("big.py", documented("\n" * 598))
    for number in range(20):
        tree.write(f"small_{number}.py", documented())
    assert tree.problems() == []


def test_more_than_one_long_file_in_twenty_is_too_many(tree: Tree) -> None:
    tree.write("one.py", documented("\n" * 399))
    tree.write("two.py", documented("\n" * 399))
    for number in range(20):
        tree.write(f"small_{number}.py", documented())
    assert [problem.partition(";")[0] for problem in tree.problems()] == [
        "src/crossfade/one.py:1: 401 lines",
        "src/crossfade/two.py:1: 401 lines",
    ]


@pytest.mark.parametrize("lines", [79, 80])
def test_a_function_has_fewer_than_eighty_lines(tree: Tree, lines: int) -> None:
    tree.write("work.py", documented(function("work", lines)))
    expected = ["src/crossfade/work.py:3: `work` has 80 lines; at most 79"] if lines == 80 else []
    assert tree.problems() == expected


def test_decorators_do_not_count_and_nested_functions_are_measured(tree: Tree) -> None:
    inner = "".join("        pass\n" for _ in range(79))
    body = f'def outer() -> None:\n    """Do it."""\n    def inner() -> None:\n{inner}'
    tree.write("work.py", documented(body))
    assert len(tree.problems()) == 2
    tree.write("work.py", documented("@property\n@staticmethod\n" + function("work", 79)), mapped=False)
    assert tree.problems() == []


# --------------------------------------------------------------------------------------------------------- cycles


def test_a_cycle_is_named_from_one_module_back_to_it(tree: Tree) -> None:
    tree.write("a.py", documented("from crossfade import b\n"))
    tree.write("b.py", documented("import crossfade.c\n"))
    tree.write("c.py", documented("from crossfade.a import thing\n"))
    (problem,) = tree.problems()
    assert "import cycle: " in problem
    names = problem.partition("import cycle: ")[2].split(" -> ")
    assert names[0] == names[-1]
    steps = set(itertools.pairwise(names))
    assert steps == {("crossfade.a", "crossfade.b"), ("crossfade.b", "crossfade.c"), ("crossfade.c", "crossfade.a")}


@pytest.mark.parametrize(
    "back",
    [
        "if TYPE_CHECKING:\n    from crossfade import a\n",
        "if typing.TYPE_CHECKING:\n    from crossfade import a\n",
        'def late() -> None:\n    """Import late."""\n    from crossfade import a\n',
        "class Holder:\n    '''Hold.'''\n    def _late(self) -> None:\n        import crossfade.a\n",
    ],
    ids=["type-checking", "typing.type-checking", "function", "method"],
)
def test_imports_that_do_not_run_on_import_close_no_cycle(tree: Tree, back: str) -> None:
    tree.write("a.py", documented("from crossfade import b\n"))
    tree.write("b.py", documented(back))
    assert tree.problems() == []


@pytest.mark.parametrize(
    "back",
    [
        "try:\n    from crossfade import a\nexcept ImportError:\n    pass\n",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from crossfade import a\n",
        "class Holder:\n    '''Hold.'''\n    from crossfade import a\n",
        "from . import a\n",
        "from .a import thing\n",
    ],
    ids=["try", "else", "class", "relative", "relative-name"],
)
def test_every_import_that_runs_on_import_counts(tree: Tree, back: str) -> None:
    tree.write("a.py", documented("from crossfade import b\n"))
    tree.write("b.py", documented(back))
    assert ["import cycle" in problem for problem in tree.problems()] == [True]


def test_a_package_may_import_its_own_modules_but_not_be_imported_back(tree: Tree) -> None:
    tree.write("core/__init__.py", documented("from crossfade.core.clock import now\n"))
    tree.write("core/clock.py", documented("from crossfade.core import hashing\n"))
    tree.write("core/hashing.py", documented())
    assert tree.problems() == []
    tree.write("core/hashing.py", documented("from crossfade.core import now\n"), mapped=False)
    assert ["import cycle" in problem for problem in tree.problems()] == [True]


# ---------------------------------------------------------------------------------------------------- annotations


def test_every_argument_and_return_needs_a_type(tree: Tree) -> None:
    body = 'def add(a, /, b: int, *rest, c, **more):\n    """Add."""\n'
    tree.write("sums.py", documented(body))
    assert tree.problems() == [
        "src/crossfade/sums.py:3: `add`: argument `a` has no type",
        "src/crossfade/sums.py:3: `add`: argument `c` has no type",
        "src/crossfade/sums.py:3: `add`: argument `rest` has no type",
        "src/crossfade/sums.py:3: `add`: argument `more` has no type",
        "src/crossfade/sums.py:3: `add` has no return type",
    ]


def test_self_and_cls_need_none_and_nested_functions_are_not_exempt(tree: Tree) -> None:
    body = """
class Sums:
    '''Sums.'''

    @classmethod
    def of(cls, value: int) -> int:
        '''Sum.'''
        def inner(x) -> int:
            return x
        return inner(value)

    async def _later(self) -> None: ...
"""
    tree.write("sums.py", documented(body))
    assert tree.problems() == ["src/crossfade/sums.py:10: `inner`: argument `x` has no type"]


# ----------------------------------------------------------------------------------------------------- docstrings


def test_public_names_need_documentation(tree: Tree) -> None:
    body = """
class Open:
    def method(self) -> None: ...
    def _private(self) -> None: ...
    def __len__(self) -> int: ...

class _Closed:
    def method(self) -> None: ...

def work() -> None:
    def inner() -> None: ...
"""
    tree.write("names.py", body)
    assert tree.problems() == [
        "src/crossfade/names.py:1: `crossfade.names` is not documented",
        "src/crossfade/names.py:2: `Open` is not documented",
        "src/crossfade/names.py:3: `method` is not documented",
        "src/crossfade/names.py:10: `work` is not documented",
    ]


def test_the_first_line_of_a_docstring_says_something(tree: Tree) -> None:
    tree.write("names.py", '"""\nToo late.\n"""\n')
    assert tree.problems() == ["src/crossfade/names.py:1: `crossfade.names` has a docstring whose first line is empty"]


def test_overloads_overrides_and_setters_are_documented_elsewhere(tree: Tree) -> None:
    body = """
class Box:
    '''A box.'''

    @property
    def value(self) -> int:
        '''What is in it.'''
        return 1

    @value.setter
    def value(self, value: int) -> None: ...

    @typing.override
    def work(self) -> None: ...

@overload
def pick(value: int) -> int: ...
"""
    tree.write("names.py", documented(body))
    assert tree.problems() == []


# ------------------------------------------------------------------------------------------------- tests and map


def test_tests_are_at_least_as_long_as_the_source(tree: Tree) -> None:
    tree.write("work.py", documented("\n" * 9))
    tree.write_tests(12)
    assert tree.problems() == []
    tree.write_tests(11)
    assert tree.problems() == ["tests:1: 11 lines test 12 lines of source"]


def test_the_map_has_a_line_for_every_file(tree: Tree) -> None:
    tree.write("core/clock.py", documented(), mapped=False)
    tree.write("web/static/app.css", "", mapped=False)
    (tree.root / SOURCE / "core/__pycache__").mkdir()
    (tree.root / SOURCE / "core/__pycache__/clock.cpython-311.pyc").touch()
    assert tree.problems() == [
        "ARCHITECTURE.md:1: `core/clock.py` has no line",
        "ARCHITECTURE.md:1: `web/static/app.css` has no line",
    ]


def test_the_map_may_name_a_folder_for_its_init_and_a_file_by_its_path_below_the_root(tree: Tree) -> None:
    tree.write("core/__init__.py", documented(), mapped=False)
    tree.write("core/clock.py", documented(), mapped=False)
    with (tree.root / "ARCHITECTURE.md").open("a") as document:
        document.write("core/  small tools\nsrc/crossfade/core/clock.py  the time. See `tests/test_all.py`.\n")
    assert tree.problems() == []


def test_the_map_names_no_missing_module(tree: Tree) -> None:
    with (tree.root / "ARCHITECTURE.md").open("a") as document:
        document.write("\n`core/gone.py`, and `settings.toml`, which the user writes\n")
    assert tree.problems() == ["ARCHITECTURE.md:3: `core/gone.py` does not exist"]


def test_a_missing_map_is_reported_as_missing_lines(tree: Tree) -> None:
    (tree.root / "ARCHITECTURE.md").unlink()
    assert tree.problems() == ["ARCHITECTURE.md:1: `__init__.py` has no line"]


# -------------------------------------------------------------------------------------------------- as a program


def run(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, check_shape.__file__, str(root)], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_program_prints_a_summary_and_succeeds(tree: Tree) -> None:
    tree.write("work.py", documented("\n" * 7))
    result = run(tree.root)
    assert result.returncode == 0
    assert result.stdout == "shape: 2 files, 10 lines, median 5, longest 9; 10000 lines of tests; 0 problems\n"


def test_the_program_lists_problems_and_fails(tree: Tree) -> None:
    tree.write("work.py", "x = 1\n")
    result = run(tree.root)
    assert result.returncode == 1
    problem, summary = result.stdout.splitlines()
    assert problem == "src/crossfade/work.py:1: `crossfade.work` is not documented"
    assert summary.endswith("1 problems")


def test_an_empty_project_is_no_crash(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("shape: 0 files, 0 lines")

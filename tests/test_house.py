"""The floors of the house: what imports what, held by contracts that bite."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LINT = (sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()")
UPWARD = "Each floor imports only those below it"
STAGES = "Each stage imports only those before it in the pipeline"
CIRCLE = "No files of one folder import one another in a circle"
CARRIED = "What repos carry imports nothing of hubq"
APART = "The embedded Hub imports errors and the Hub's vocabulary alone"
IN_A_FUNCTION = "\n\ndef late() -> None:\n    from {} import {}\n\n    _ = {}\n"
FOR_TYPES = "\n\nif TYPE_CHECKING:\n    from {} import {}\n\n    _: {}\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of hubq and of the contracts."""
    ignored = shutil.ignore_patterns("__pycache__", "app", "recipes")
    shutil.copytree(ROOT / "hubq", tmp_path / "hubq", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken(folder: Path) -> list[str]:
    """Name the contracts that a copy breaks."""
    done = subprocess.run(
        [*LINT, "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert any(line.endswith((" KEPT", " BROKEN")) for line in lines), done.stdout + done.stderr
    found = [line.removesuffix(" BROKEN") for line in lines if line.endswith(" BROKEN")]
    assert bool(found) == bool(done.returncode)
    return found


def test_the_contracts_are_kept(copy: Path) -> None:
    assert broken(copy) == []


@pytest.mark.parametrize(
    ("file", "imported", "contract"),
    [
        ("records/plan.py", ("hubq.stages.plan.plan", "plan"), UPWARD),
        ("client/pull.py", ("hubq.stages.publish.release", "assemble"), UPWARD),
        ("stages/plan/plan.py", ("hubq.stages.quantize.quantize", "quantize"), STAGES),
        ("sources/source.py", ("hubq.sources.find", "find"), CIRCLE),
        ("runtime/headers.py", ("hubq.errors", "UserError"), CARRIED),
        ("embedded_hub/hub.py", ("hubq.client.client", "Client"), APART),
    ],
)
@pytest.mark.parametrize("how", [IN_A_FUNCTION, FOR_TYPES], ids=["in a function", "for types"])
def test_a_forbidden_import_breaks_its_contract(
    copy: Path, file: str, imported: tuple[str, str], contract: str, how: str
) -> None:
    with (copy / "hubq" / file).open("a") as source:
        source.write(how.format(*imported, imported[1]))

    assert contract in broken(copy)


def test_the_top_level_has_at_most_twelve_rooms() -> None:
    folders = {path.parent.name for path in (ROOT / "hubq").glob("*/__init__.py")}
    files = {path.name for path in (ROOT / "hubq").glob("*.py")} - {"__init__.py", "__main__.py"}

    assert len(folders | files) <= 12


# What is not imported before it is needed: slow, or an extra that may not be there.
LATE = frozenset(
    {
        *("datasets", "lm_eval", "nltk", "numba", "scipy", "torch", "transformers"),  # seconds
        *("gguf", "huggingface_hub", "matplotlib", "PIL", "pyarrow", "rouge_score", "sacrebleu"),
        *("httpx2", "jinja2", "numpy", "packaging", "pydantic", "rich", "safetensors", "yaml"),
        *("cryptography", "model_signing", "sigstore"),  # of an extra
        *("bitsandbytes", "pynvml", "triton", "vllm"),  # of extras, and of another environment
        *("dulwich", "markdown_it", "starlette", "uvicorn"),  # the embedded Hub's
    }
)


SAYS_SO = re.compile(r"inside\s(the\s)?functions")


class Source(NamedTuple):
    """A file's imports."""

    path: Path
    top: frozenset[str]  # the modules that come with it
    late: tuple[tuple[int, frozenset[str]], ...]  # those inside functions, with their lines


def modules(node: ast.Import | ast.ImportFrom) -> frozenset[str]:
    """Name what a statement imports, and each thing of it in case that is a module."""
    if isinstance(node, ast.Import):
        return frozenset(each.name for each in node.names)
    assert node.module is not None
    return frozenset({node.module, *(f"{node.module}.{each.name}" for each in node.names)})


def source(path: Path) -> Source:
    """Read a file's imports, but those for types."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = [
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {node.lineno: modules(node) for node in late}
    return Source(path, frozenset().union(*map(modules, top)), tuple(found.items()))


@cache
def sources() -> dict[str, Source]:
    """Read all files of hubq, by their modules."""
    paths = [path for path in ROOT.glob("hubq/**/*.py") if "space/app" not in path.as_posix()]
    names = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    return {
        ".".join(name[:-1] if name[-1] == "__init__" else name): source(path)
        for name, path in zip(names, paths, strict=True)
    }


@cache
def brought(module: str) -> frozenset[str]:
    """Return what of LATE is imported with a module, by whatever it imports."""
    seen: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if name in sources():
            above = {name.rpartition(".")[0]} - {""}
            waiting |= (sources()[name].top | above) - seen
    return frozenset(each.partition(".")[0] for each in seen) & LATE


def is_explained(lines: list[str], number: int) -> bool:
    """Tell whether a comment stands at an import, or above the imports that it is among."""
    above = number - 1
    while above and re.match(r" +(from|import) ", lines[above - 1]):
        above -= 1
    return "#" in lines[number - 1] or lines[above - 1].lstrip().startswith("#")


def unexplained() -> Iterator[tuple[str, bool]]:
    """Yield each import inside a function without a comment, and whether it is of what is slow."""
    for module, each in sources().items():
        lines = each.path.read_text(encoding="utf-8").split("\n")
        for number, imported in each.late:
            if not is_explained(lines, number):
                slow = frozenset().union(*map(brought, imported)) - brought(module)
                yield f"{module}:{number} {lines[number - 1].strip()}", bool(slow)


def test_an_import_inside_a_function_is_of_what_is_slow_or_says_why() -> None:
    """Commands import their stages late whatever these cost: all of them together are slow."""
    found = [place for place, slow in unexplained() if not slow]

    assert [place for place in found if not place.startswith("hubq.cli.")] == []


def test_a_folder_with_imports_inside_functions_says_why() -> None:
    places = {place.partition(":")[0] for place, _ in unexplained()}
    folders = {sources()[place].path.parent / "__init__.py" for place in places}
    said = {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in folders}

    assert [path for path, text in said.items() if not SAYS_SO.search(text)] == []


def test_triton_comes_with_its_own_loops_alone() -> None:
    found = {module for module in sources() if "triton" in brought(module)}

    assert found
    assert {module.rpartition(".")[0] for module in found} == {"hubq.tensors.kernels.triton_loops"}


def test_who_asks_for_measurements_imports_no_torch() -> None:
    code = (
        "import sys, hubq.stages.evaluate.against_base, hubq.stages.evaluate.fidelity\n"
        "from hubq.stages.evaluate import efficiency, measurements\n"
        "print([measurements.task_class(kind).__name__ for kind in measurements.kinds()])\n"
        "print('torch' in sys.modules)"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines()[1:] == ["False"]

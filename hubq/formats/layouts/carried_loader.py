"""The one file that lets a repo's readers do without hubq: the reading modules, joined.

The modules are found by following the imports of the quantizer; each is cut down to what is not an
import or a docstring, after those that it imports. A reader without hubq then needs torch,
transformers and safetensors only.
"""

import ast
from functools import cache
from pathlib import Path

from hubq import __version__
from hubq.machine.engines import LOADER

ENTRIES = ("hubq.runtime.quantizer", "hubq.runtime.loader")
CLASS = "HubqForCausalLM"
RUNTIME = Path(__file__).parents[2] / "runtime"
HEADER = f'''"""Read this repo's weights, which are in the hubq format, into transformers.

transformers runs this file for from_pretrained(..., trust_remote_code=True). With hubq installed
it is not needed: `import hubq` does the same. Made by hubq {__version__}, of its hubq/runtime/.
License: Apache-2.0.
"""
'''


@cache
def loader_source() -> bytes:
    """Return the text of hubq_loader.py."""
    ordered: list[str] = []
    for module in ENTRIES:
        _place(module, ordered)
    bodies = [f"# ---- {_path(module).name} ----\n\n{_body(module)}" for module in ordered]
    return "\n\n".join([HEADER + "\n" + _outer_imports(ordered), *bodies]).encode() + b"\n"


def auto_map(*, sees: bool = False) -> dict[str, str]:
    """Return what config.json says of the loader."""
    names = ("AutoModelForImageTextToText",) if sees else ("AutoModelForCausalLM",)
    return {name: f"{Path(LOADER).stem}.{CLASS}" for name in names}


def _place(module: str, ordered: list[str]) -> None:
    """Put a module behind all that it imports."""
    for each in _imported(module):
        _place(each, ordered)
    if module not in ordered:
        ordered.append(module)


def _imported(module: str) -> list[str]:
    """List the modules of hubq that a module imports names of."""
    found = [node.module or "" for node in _nodes(module) if isinstance(node, ast.ImportFrom)]
    return [name for name in found if _is_ours(name)]


def _outer_imports(modules: list[str]) -> str:
    """Return the imports of other packages, each once."""
    plain: set[str] = set()
    names: dict[str, set[str]] = {}
    for node in (each for module in modules for each in _nodes(module)):
        if isinstance(node, ast.Import):
            plain |= {ast.unparse(each) for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not _is_ours(node.module or ""):
            names.setdefault(node.module or "", set()).update(map(ast.unparse, node.names))
    lines = [f"import {each}" for each in sorted(plain)]
    lines += [f"from {each} import {', '.join(sorted(names[each]))}" for each in sorted(names)]
    return "\n".join(lines)


def _body(module: str) -> str:
    """Return a module's text without its imports and its docstring."""
    lines = _path(module).read_text(encoding="utf-8").splitlines()
    docstring, *statements = _nodes(module)
    assert isinstance(docstring, ast.Expr), f"{module} begins with its docstring"
    imports = [each for each in statements if isinstance(each, ast.Import | ast.ImportFrom)]
    for node in (docstring, *imports):
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            lines[number - 1] = ""
    return "\n".join(lines).strip()


def _nodes(module: str) -> list[ast.stmt]:
    return ast.parse(_path(module).read_text(encoding="utf-8")).body


def _path(module: str) -> Path:
    package, _, name = module.rpartition(".")
    assert package == "hubq.runtime", f"a repo carries nothing of {module}"
    return RUNTIME / f"{name}.py"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "hubq"

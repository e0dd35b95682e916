"""No code that comes with a model or a data set runs here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = [path for folder in ("hubq", "space", "bench") for path in (ROOT / folder).rglob("*.py")]
TRUSTING = {"from_pretrained", "from_config"}
OPENING = ("trust_remote_code", "allow_pickle")
# hubq's own reader, to which a downloader's options are passed on; and what loads as a downloader
# would what hubq has just written itself, in a process without a token.
PASSES_OPTIONS_ON = (ROOT / "hubq/runtime/loader.py", ROOT / "hubq/stages/publish/quick_start.py")


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield the last name of what is called, with the call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = (
                node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            )
            yield name, node


def says(call: ast.Call, option: str, value: bool) -> bool:
    return any(
        each.arg == option and isinstance(each.value, ast.Constant) and each.value.value is value
        for each in call.keywords
    )


def trusting(source: str) -> list[int]:
    """Return the lines of calls that could run, or ask to run, what comes with a model."""
    return [call.lineno for name, call in calls(source) if not is_safe(name, call)]


def is_safe(name: str, call: ast.Call) -> bool:
    if name in TRUSTING and not says(call, "trust_remote_code", False):
        return False
    if ast.unparse(call.func) == "torch.load" and not says(call, "weights_only", True):
        return False
    given = {each.arg for each in call.keywords}
    return all(option not in given or says(call, option, False) for option in OPENING)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_call_may_run_what_comes_with_a_model(path: Path) -> None:
    if path in PASSES_OPTIONS_ON:
        return

    assert trusting(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "AutoTokenizer.from_pretrained(folder)",
        "auto.from_pretrained(folder, trust_remote_code=True)",
        "auto.from_pretrained(folder, trust_remote_code=trusted)",
        "getattr(transformers, name).from_config(config)",
        "load(folder, trust_remote_code=True)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_a_call_that_may_is_found(source: str) -> None:
    assert trusting(source) == [1]

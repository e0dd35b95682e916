"""The names of the tasks that can be measured: ours and lm-eval's, known without importing it."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from hubq.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent / "evaluate" / "tasks"
# Known without looking into lm-eval's files.
STUDY = ("piqa", "arc_easy", "arc_challenge", "hellaswag", "winogrande")
# lm-eval parses its 14,000 files to list its tasks, which takes seconds; names show in the text.
DEFINITIONS = ("", ".yaml", ".yml")  # suffixes; files to include have any of them
NAME = re.compile(
    rb"^(?:['\"]?(?:task|group|tag)['\"]?[ \t]*:|[ \t]*-)[ \t]*['\"]?([^'\"#\n]+)", re.MULTILINE
)


def own_tasks() -> list[str]:
    """List our tasks: the YAML files, by the names that they have inside."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def require_known(names: Sequence[str]) -> None:
    """Raise UserError for a task that neither we nor lm-eval have."""
    known = {*own_tasks(), *STUDY}
    if not set(names) <= known:
        known |= set(_lm_eval_names())
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.6)
            way_out = did_you_mean(name, near or [*own_tasks(), *STUDY])
            raise UserError(f"evaluate.tasks: no task is called {name}; {way_out}")


def _lm_eval_names() -> Iterable[str]:
    """Yield what lm-eval's files define: its tasks, groups and tags, and other items of lists."""
    found = find_spec("lm_eval")
    assert found is not None, "hubq depends on lm-eval"
    for folder in found.submodule_search_locations or ():
        for path in (Path(folder) / "tasks").rglob("*"):
            if path.suffix in DEFINITIONS and path.is_file():
                for name in NAME.findall(path.read_bytes()):
                    yield name.decode(errors="replace").strip()

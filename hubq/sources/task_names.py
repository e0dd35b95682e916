"""The names of the tasks that can be measured: ours and lm-eval's, known without importing it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from hubq.errors import UserError, did_you_mean
from hubq.records.report import Dimension

FOLDER = Path(__file__).parent / "tasks"
# What measures a model, one file a kind; and which of these no recipe names as a task, since they
# have keys of `evaluate`, run tasks by their names, or are a part of another.
MEASUREMENTS = Path(__file__).parents[1] / "stages" / "evaluate" / "measurements"
ASKED_BY_KEY = frozenset(
    {"choice", "divergence", "efficiency", "hidden", "load", "perplexity", "pictures"}
)
# The tasks on pictures, one file each. One that lm-eval has a task for of the same name is meant:
# what lm-eval has on pictures asks for models that it loads itself.
PICTURE_TASKS = MEASUREMENTS.parent / "picture_tasks"
OFFLINE = "hubq_"  # begins the names of our tasks that need no Hub, and of no others
# The studies' benchmarks that lm-eval has by these very names, and where among its 14,000 files
# they are defined: to read them all takes it seconds.
STUDY: Mapping[str, str] = {
    **{name: name for name in ("piqa", "hellaswag", "winogrande", "gsm8k", "bbq", "ifeval")},
    **{"arc_easy": "arc", "arc_challenge": "arc", "mmlu": "mmlu/default"},
}
# Names that people use, and what lm-eval calls them. Its own tag `truthfulqa` would add a
# generation task that is scored by likeness, which neither study has. The folders have the names.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "ceval": ("ceval-valid",),
    "truthfulqa": ("truthfulqa_mc1", "truthfulqa_mc2"),
}
# Examples where neither the recipe nor the task's definition says how many: papers ask MMLU so.
MMLU = ("mmlu", "mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other")
CUSTOMARY_SHOTS: Mapping[str, int] = dict.fromkeys(MMLU, 5)
# Words in the names of tasks about truth, bias and obedience; all else is knowledge and capacity.
ALIGNMENT = re.compile(
    "truthful|bbq|ifeval|followbench|crows_pairs|stereotyp|social_bias|winogender|toxi[cg]"
    "|ethics|moral_stories|histoires_morales|sycophancy|advanced_ai_risk",
    re.IGNORECASE,
)
# Names show in the text of lm-eval's files, which is read in a moment.
DEFINITIONS = ("", ".yaml", ".yml")  # suffixes; files to include have any of them
NAME = re.compile(
    rb"^(?:['\"]?(?:task|group|tag)['\"]?[ \t]*:|[ \t]*-)[ \t]*['\"]?([^'\"#\n]+)", re.MULTILINE
)


def own_tasks() -> list[str]:
    """List our tasks and groups: the YAML files, by the names that they have inside."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def measurements() -> list[str]:
    """List the kinds of measurements that recipes ask for by name: their files, not imported."""
    found = {path.stem for path in MEASUREMENTS.glob("*.py")} - {"__init__"}
    return sorted(found - ASKED_BY_KEY)


def picture_tasks() -> list[str]:
    """List the tasks on pictures: their files, not imported."""
    return sorted({path.stem for path in PICTURE_TASKS.glob("*.py")} - {"__init__"})


def descriptions() -> dict[str, str]:
    """Say of each of our tasks what it is: the first line of its file, a comment."""
    first = {name: (FOLDER / f"{name}.yaml").read_text().partition("\n")[0] for name in own_tasks()}
    return {name: line.removeprefix("#").strip() for name, line in first.items()}


def is_offline(name: str) -> bool:
    """Tell whether a task's items come from a wheel or are drawn, so that no Hub is needed."""
    return name.startswith(OFFLINE)


def home_of(name: str) -> Path | None:
    """Return the folder in which lm-eval defines one of the studies' benchmarks."""
    folder = name if name in ALIASES else STUDY.get(name)
    return _lm_eval_tasks() / folder if folder else None


def dimension_of(name: str) -> Dimension:
    """Tell which of the study's dimensions a task belongs to."""
    return "alignment" if ALIGNMENT.search(name) else "knowledge"


def require_known(names: Sequence[str]) -> None:
    """Raise UserError for a task that neither we nor lm-eval have."""
    known = {*own_tasks(), *measurements(), *picture_tasks(), *STUDY, *ALIASES}
    suggested = sorted(known)
    if not set(names) <= known:
        known |= set(_lm_eval_names())
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.6)
            way_out = did_you_mean(name, near or suggested)
            raise UserError(f"evaluate.tasks: no task is called {name}; {way_out}")


def _lm_eval_names() -> Iterable[str]:
    """Yield what lm-eval's files define: its tasks, groups and tags, and other items of lists."""
    for path in _lm_eval_tasks().rglob("*"):
        if path.suffix in DEFINITIONS and path.is_file():
            for name in NAME.findall(path.read_bytes()):
                yield name.decode(errors="replace").strip()


def _lm_eval_tasks() -> Path:
    """Return the folder of lm-eval's definitions, without importing it."""
    found = find_spec("lm_eval")
    assert found is not None, "hubq depends on lm-eval"
    assert found.origin is not None, "lm-eval is a package with a file of its own"
    return Path(found.origin).parent / "tasks"

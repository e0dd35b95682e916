"""What a loaded model takes to run: seconds, memory and joules, in the process that holds it."""

from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Literal

from hubq.errors import UserError
from hubq.machine.meters import Contention, meter, peak
from hubq.machine.progress import SILENT, Progress
from hubq.records.report import Cost, Interval
from hubq.stages.evaluate.inference.greedy_decoding import drawn_prompts, generate
from hubq.stages.evaluate.task import Found, MeasuredModel, Task


class EfficiencyTask(Task):
    """Time and memory of generating, in a process that does nothing else."""

    kind: Literal["efficiency"] = "efficiency"
    protocol_version: ClassVar = 3
    alone: ClassVar = True

    batch: int
    prompt: int  # tokens a row
    output: int  # tokens a row
    repetitions: int
    hardware: str  # a cache may be shared by machines
    beside: str  # digest of the model that it is compared with: both are measured in one run

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"{self.output} tokens after {self.prompt}"

    @property
    def writes(self) -> bool:
        """Writing is what it times."""
        return True

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Generate, and say what that and the loading took."""
        return Found(cost=cost(model, self, progress), engine=engine(model))


def cost(measured: MeasuredModel, task: EfficiencyTask, progress: Progress = SILENT) -> Cost:
    """Generate with a loaded model and say what that took."""
    from hubq.sources.shards import weight_bytes

    model, folder = measured.passes.model, measured.passes.folder
    _require_room(model, task)
    device = model.device.type
    prompts = drawn_prompts(model, task.batch, task.prompt)
    with progress.task(task.title, 1 + task.repetitions) as advance:
        generate(model, prompts, task.output)  # kernels are chosen, memory is taken
        advance(1)
        joules, contention, runs = meter(device), Contention(), []
        for _ in range(task.repetitions):
            runs.append(generate(model, prompts, task.output))
            spent = joules() if joules else None
            advance(1)
    return Cost(
        weight_bytes=weight_bytes(folder),
        load_seconds=measured.load_seconds,
        memory_loaded=measured.memory_loaded,
        # The kernel counts to some pages only.
        memory_peak=max(peak(device), measured.memory_loaded),
        first_token_seconds=_spread([each.first for each in runs]),
        tokens_per_second=_spread([task.batch * (task.output - 1) / each.rest for each in runs]),
        joules_per_token=_each(spent, task.batch * task.output * task.repetitions),
        contention=contention.share(sum(each.first + each.rest for each in runs)),
    )


def engine(measured: MeasuredModel) -> str:
    """Name what runs a model."""
    import torch
    import transformers

    threads = torch.get_num_threads()
    on = f", {threads} thread{'s' if threads > 1 else ''}" if measured.device == "cpu" else ""
    return f"transformers {transformers.__version__}, {measured.dtype}{on}"


def _require_room(model: Any, task: EfficiencyTask) -> None:  # noqa: ANN401
    """Raise UserError where prompt and output are longer than what the model was made for."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and task.prompt + task.output > longest:
        raise UserError(
            f"efficiency: a prompt of {task.prompt} and an output of {task.output} tokens are "
            f"longer than the {longest} positions of {model.config.name_or_path}; ask for less"
        )


def _each(joules: float | None, tokens: int) -> float | None:
    """Share joules among tokens."""
    return None if joules is None else joules / tokens


def _spread(values: list[float]) -> Interval:
    """Return the median of repetitions, from the least to the greatest."""
    return Interval(value=median(values), low=min(values), high=max(values))

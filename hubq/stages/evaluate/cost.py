"""What a loaded model takes to run: seconds, memory and joules, in the process that holds it."""

import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from hubq.errors import UserError
from hubq.machine.meters import Contention, held, meter, peak
from hubq.machine.progress import SILENT, Progress
from hubq.records.report import Cost, Interval
from hubq.sources.shards import weight_bytes
from hubq.stages.evaluate.inference.greedy_decoding import drawn_prompts, generate, synchronize
from hubq.stages.evaluate.inference.loading import Loaded, load
from hubq.stages.evaluate.jobs import EfficiencyTask, Job


class Loading(NamedTuple):
    """A model, and what it took to load."""

    loaded: Loaded
    seconds: float
    memory: int  # bytes


def timed_load(job: Job) -> Loading:
    """Load a model with all libraries in memory; say how long it took and what it holds."""
    from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: F401 - 1.5 seconds

    began = time.perf_counter()
    loaded = load(job.folder, device=job.device, dtype=job.dtype)
    synchronize(job.device)
    seconds = time.perf_counter() - began
    return Loading(loaded, seconds, held(job.device))


def cost(loading: Loading, folder: Path, task: EfficiencyTask, progress: Progress = SILENT) -> Cost:
    """Generate with a loaded model and say what that took."""
    model = loading.loaded.model
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
        load_seconds=loading.seconds,
        memory_loaded=loading.memory,
        memory_peak=max(peak(device), loading.memory),  # the kernel counts to some pages only
        first_token_seconds=_spread([each.first for each in runs]),
        tokens_per_second=_spread([task.batch * (task.output - 1) / each.rest for each in runs]),
        joules_per_token=_each(spent, task.batch * task.output * task.repetitions),
        contention=contention.share(sum(each.first + each.rest for each in runs)),
    )


def engine(job: Job) -> str:
    """Name what runs a job's model."""
    import torch
    import transformers

    threads = torch.get_num_threads()
    on = f", {threads} thread{'s' if threads > 1 else ''}" if job.device == "cpu" else ""
    return f"transformers {transformers.__version__}, {job.dtype}{on}"


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

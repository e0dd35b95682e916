"""What a model takes to run: bytes, seconds and joules, beside its base in the same run.

The model is loaded as a downloader loads it, in a fresh process that does nothing else, with the
libraries imported before the clock starts and the files read once before (to know their content).
Then plain greedy decoding: `batch` rows of `prompt` tokens go in at once, and each row gets exactly
`output` tokens, one forward pass after the other on the cache of keys and values. The first run
warms up and does not count; of the others the median, the least and the greatest are given.

On a CPU memory is that of the process, so with Python and its libraries (a few hundred MB); on a
GPU it is what tensors take there. Energy is that of the whole processor or GPU over all counted
runs, shared among the tokens of output. Seconds on a busy machine say little: how long the threads
waited for a core stands beside them.
"""

import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from hubq.errors import UserError
from hubq.evaluate.contention import Contention
from hubq.evaluate.decoding import drawn_prompts, generate, synchronize
from hubq.evaluate.energy import meter
from hubq.evaluate.jobs import EfficiencyTask, Job, Outcome
from hubq.evaluate.loading import Loaded, load
from hubq.evaluate.measure import Pair, content_of, outcome_file
from hubq.evaluate.memory import held, peak
from hubq.evaluate.report import Cost, Efficiency, Interval
from hubq.progress import SILENT, Progress
from hubq.recipe_evaluate import EfficiencySection

LENGTHS = {"cuda": (256, 512), "cpu": (64, 32)}  # tokens of prompt and output; a GPU's: the study's


class Loading(NamedTuple):
    """A model, and what it took to load."""

    loaded: Loaded
    seconds: float
    memory: int  # bytes


def efficiency(pair: Pair, section: EfficiencySection) -> Efficiency:
    """Measure the result, then the base; only outcomes of just this pair, both, count as known.

    A cost that a killed run left alone is measured again: the other side would run at another time.
    """
    import torch

    from hubq.device import device_title, hardware

    device = torch.device(pair.where.device)
    prompt, output = lengths(section, device.type)
    asked = EfficiencyTask(
        batch=section.batch,
        prompt=prompt,
        output=output,
        repetitions=section.repetitions,
        hardware=device_title(device),
        beside=content_of(pair.base),
    )
    of_base = asked.model_copy(update={"beside": content_of(pair.result)})
    sides = ((pair.result, asked), (pair.base, of_base))
    files = [outcome_file(folder, task, pair.where) for folder, task in sides]
    if not all(file.is_file() for file in files):
        for file in files:
            file.unlink(missing_ok=True)
    (result,), (base,) = pair.of_result(asked), pair.of_base(of_base)
    return Efficiency(
        **asked.model_dump(include={"batch", "prompt", "output", "repetitions"}),
        engine=_engine_of(base, result),
        hardware=hardware(device),
        base=base.cost,
        result=result.cost,
    )


def lengths(section: EfficiencySection, device: str) -> tuple[int, int]:
    """Return the tokens of prompt and output: those asked for, else what suits the device."""
    prompt, output = LENGTHS[device]
    return section.prompt or prompt, section.output or output


def _engine_of(base: Outcome, result: Outcome) -> str:
    """Name what ran both models: the same process but for the folder."""
    assert base.engine is not None
    assert base.engine == result.engine
    return base.engine


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


def weight_bytes(folder: Path) -> int:
    """Count the bytes of the files that hold the weights."""
    from hubq.shards import index

    files = {info.file for info in index(folder).values()}
    return sum((folder / name).stat().st_size for name in files)


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
